"""Texts -> representations: one forward pass in length-sorted batches under a token budget, resumable shard by shard.

Rows are cut into shards in their own order; inside a shard they are sorted by length, so that padding is rare, and
written back in order. Features and logits leave in float32 whatever the precision of the forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers

from dubio.arrays import Float32, Int64, check_finite
from dubio.containers import Representations, concatenate
from dubio.errors import DubioError
from dubio.files import sha256_json
from dubio.models.adapted import AdaptedModel
from dubio.models.cache import StoredRepresentations, is_shard, save_shard
from dubio.models.cache_limit import use
from dubio.models.tokens.batching import Block, batches, blocks_of, pad, tokenize
from dubio.progress import progress


@dataclass(frozen=True)
class Extraction:
    """How to run the forward pass: tokens a batch (padding included), rows a shard, whether to show progress.

    token_budget: None takes what measured fastest on the device: a batch that fits a CPU's caches, a full GPU.
    """

    token_budget: int | None = None
    shard_rows: int = 2048
    show: bool = True

    def budget(self, model: AdaptedModel) -> int:
        """Tokens a batch on the model's device."""
        return self.token_budget or (32768 if model.device.startswith("cuda") else 2048)


def extract(
    model: AdaptedModel, texts: Sequence[str], pairs: Sequence[str] | None = None, *,
    labels: Int64 | None = None, how: Extraction | None = None,
) -> Representations:  # fmt: skip
    """Representations of all rows, in memory; see `extract_to` for tables larger than that.

    Raises DubioError on zero rows, on pairs of another length, and on features or logits that are not finite.
    """
    how = how or Extraction()
    blocks = blocks_of(texts, pairs, how.shard_rows)
    parts: list[Representations] = []
    with progress("extracting", len(texts), show=how.show) as advance:
        parts.extend(Representations.of(*forward_rows(model, block, how, advance)) for block in blocks)
    table = concatenate(parts)
    return Representations.of(table.features, table.logits, labels)


def extract_to(
    model: AdaptedModel, texts: Sequence[str], pairs: Sequence[str] | None, cache: Path, *,
    labels: Int64 | None = None, how: Extraction | None = None,
) -> StoredRepresentations:  # fmt: skip
    """As `extract`, into shards under `cache`; shards that are there already, and whole, are not computed again."""
    how = how or Extraction()
    paths: list[Path] = []
    counts: list[int] = []
    with progress("extracting", len(texts), show=how.show) as advance:
        for block in blocks_of(texts, pairs, how.shard_rows):
            path = cache / f"{shard_key(model, block, how)}.safetensors"
            rows = len(block.texts)
            if is_shard(path, features=(rows, width_of(model)), logits=(rows, len(model.labels))):
                use([path])
                advance(len(block.texts))
            else:
                save_shard(path, *forward_rows(model, block, how, advance))
                use([path], written=path.stat().st_size)
            paths.append(path)
            counts.append(len(block.texts))
    return StoredRepresentations(tuple(paths), tuple(counts), labels)


def width_of(model: AdaptedModel) -> int:
    """How many features `[n, d]` a row has."""
    return next(layer.in_features for layer in model.head.modules() if isinstance(layer, torch.nn.Linear))


def shard_key(model: AdaptedModel, block: Block, how: Extraction) -> str:
    """Hex hash of all that determines a shard's numbers on one machine."""
    versions = {package.__name__: package.__version__ for package in (torch, transformers, peft)}
    versions |= {"layout": "4", "device": torch.device(model.device).type}
    if model.site.pooling == "last":
        versions["pad"] = str(model.site.pad)  # decides which token is read
    return sha256_json(
        {**model.hashes, **versions, "precision": model.precision, "max_length": model.max_length,
         "budget": how.budget(model), "texts": list(block.texts),
         "pairs": None if block.pairs is None else list(block.pairs)}
    )  # fmt: skip


def forward_rows(model: AdaptedModel, block: Block, how: Extraction, advance: Any = None) -> tuple[Float32, Float32]:
    """Features `[n, d]` and logits `[n, C]` of a block of rows, in the rows' own order.

    Raises DubioError naming a row without tokens, or with features or logits that are not finite.
    """
    tokens = tokenize(model, block.texts, block.pairs)
    lengths = np.array([len(ids) for ids in tokens["input_ids"]])
    if not lengths.all():
        raise DubioError(f"row {block.start + int(np.argmin(lengths))} has no tokens; remove empty texts")
    features: Float32 | None = None
    logits: Float32 | None = None
    for rows in batches(lengths, how.budget(model)):
        z, out = model.forward(pad({key: [values[i] for i in rows] for key, values in tokens.items()}, model))
        if features is None or logits is None:
            features = np.empty((len(lengths), z.shape[1]), dtype=np.float32)
            logits = np.empty((len(lengths), out.shape[1]), dtype=np.float32)
        features[rows], logits[rows] = z.cpu().numpy(), out.cpu().numpy()
        if advance is not None:
            advance(len(rows))
    assert features is not None
    assert logits is not None
    check_finite(features, "features", block.start)
    check_finite(logits, "logits", block.start)
    return features, logits
