"""The whole chain on real (tiny, random) models: adapter folder -> load -> batches of texts -> representations.

The same rows are extracted under other batch sizes, orders, padding sides and amounts of padding.
"""

from functools import cache

import numpy as np

from dubio.containers import Representations
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.models.tokens.batching import pad, tokenize
from models.tiny import WORDS, adapter_folder

FAMILIES = ("bert", "llama")
COUNTS = {"train": 240, "calibration": 160, "test": 60}
WHOLE = 1 << 20  # tokens: all rows of a shard in one batch


@cache
def model(family, precision):
    return load(adapter_folder(family), precision=precision)


def sentences(count, seed):
    """Texts of 1 to 24 words, so that batches need padding."""
    g = np.random.default_rng(seed)
    return [" ".join(g.choice(WORDS, g.integers(1, 25))) for _ in range(count)]


@cache
def texts(split):
    return sentences(COUNTS[split], list(COUNTS).index(split))


def run(adapted, rows, budget=WHOLE, labels=None):
    return extract(adapted, rows, labels=labels, how=Extraction(token_budget=budget, show=False))


@cache
def split(family, precision, name):
    """A split as it is extracted in one batch, with labels that the unsure rows often miss."""
    found = run(model(family, precision), texts(name))
    g = np.random.default_rng(COUNTS[name])
    margin = np.sort(found.logits, axis=1)
    unsure = (margin[:, -1] - margin[:, -2]) < np.quantile(margin[:, -1] - margin[:, -2], 0.4)
    wrong = g.random(len(found)) < np.where(unsure, 0.5, 0.08)
    return Representations.of(found.features, found.logits, (found.predictions + wrong) % found.classes)


def one_by_one(adapted):
    return run(adapted, texts("test"), budget=1)


def in_other_order(adapted):
    rows = texts("test")
    order = np.random.default_rng(5).permutation(len(rows))
    found = run(adapted, [rows[i] for i in order], budget=64)
    return found.take(np.argsort(order))


def among_longer_rows(adapted):
    """Every row padded to 70 tokens."""
    rows = texts("test")
    return run(adapted, [*rows, " ".join(["film"] * 70)]).take(slice(0, len(rows)))


def padded_on(adapted, side):
    """One batch padded by hand on the given side."""
    z, logits = adapted.forward(pad(tokenize(adapted, texts("test"), None), adapted, side))
    return Representations.of(z, logits)


def with_tokenizer_side(adapted, side):
    """Extraction with the tokenizer set to pad on `side`, as many decoders' tokenizers are."""
    before = adapted.tokenizer.padding_side
    adapted.tokenizer.padding_side = side
    try:
        return run(adapted, texts("test"))
    finally:
        adapted.tokenizer.padding_side = before
