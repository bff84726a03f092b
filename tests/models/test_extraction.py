"""Extraction in length-sorted batches against one row at a time."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dubio.errors import DubioError
from dubio.models.adapted import AdaptedModel
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.models.tokens.batching import batches
from models.tiny import TEXTS, adapter_folder, loaded, padded

QUIET = Extraction(token_budget=40, shard_rows=4, show=False)
PAIRS = [
    "the gate",
    "a wonderful little film was late and nobody answered",
    "no",
    "yes",
    "42 42",
    "phone",
    "at the gate",
]


@pytest.fixture(scope="module", params=["bert", "deberta", "modernbert-mean", "llama", "gpt2"])
def model(request):
    return loaded(request.param)


def alone(model, *columns):
    """(features, logits) of each row by itself, tokenised by the tokenizer as it comes."""
    rows = []
    for row in zip(*columns, strict=True):
        batch = model.tokenizer(*row, return_tensors="pt", truncation=True, max_length=model.max_length)
        rows.append(model.forward({key: value for key, value in batch.items() if key in model.inputs}))
    return [torch.cat(column).numpy() for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("budget", [1, 12, 40, 4096])
def test_equals_one_row_at_a_time_in_order(model, budget):
    table = extract(model, TEXTS, how=Extraction(token_budget=budget, shard_rows=3, show=False))
    features, logits = alone(model, TEXTS)
    np.testing.assert_allclose(table.features, features, atol=1e-5)
    np.testing.assert_allclose(table.logits, logits, atol=1e-5)
    assert table.labels is None
    assert table.features.dtype == table.logits.dtype == np.float32
    assert np.abs(np.diff(features, axis=0)).max(axis=1).min() > 1e-3  # rows differ, so order is tested


def test_pairs(model):
    table = extract(model, TEXTS, PAIRS, how=QUIET)
    features, _ = alone(model, TEXTS, PAIRS)
    np.testing.assert_allclose(table.features, features, atol=1e-5)
    assert np.abs(table.features - extract(model, PAIRS, TEXTS, how=QUIET).features).max() > 1e-3


def test_truncation(model):
    short = replace(model, max_length=8)
    table = extract(short, TEXTS, how=QUIET)
    np.testing.assert_allclose(table.features, alone(short, TEXTS)[0], atol=1e-5)
    same = np.abs(table.features - extract(model, TEXTS, how=QUIET).features).max(axis=1) < 1e-5
    lengths = [len(ids) for ids in model.tokenizer(TEXTS)["input_ids"]]
    assert same.tolist() == [length <= 8 for length in lengths]
    assert not all(same)


def test_labels_are_checked(model):
    assert extract(model, TEXTS[:2], labels=np.array([2, 0]), how=QUIET).labels.tolist() == [2, 0]
    with pytest.raises(DubioError, match="row 1 holds class 3"):
        extract(model, TEXTS[:2], labels=np.array([0, 3]), how=QUIET)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 200))
def test_batches_keep_to_the_budget(lengths, budget):
    lengths = np.array(lengths)
    found = batches(lengths, budget)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    for rows in found:
        assert len(rows) == 1 or lengths[rows].max() * len(rows) <= budget
    # Sorted, so that only the last batch of a length may be short.
    longest = [lengths[rows].max() for rows in found]
    assert longest == sorted(longest, reverse=True)
    assert all(min(lengths[a]) >= max(lengths[b]) for a, b in pairwise(found))


def test_batches_seen_by_the_model(model, monkeypatch):
    seen = []
    forward = AdaptedModel.forward
    monkeypatch.setattr(
        AdaptedModel, "forward", lambda self, batch: seen.append(batch["input_ids"].shape) or forward(self, batch)
    )
    extract(model, TEXTS, how=Extraction(token_budget=24, show=False))
    assert sum(rows for rows, _ in seen) == len(TEXTS)
    assert all(rows == 1 or rows * tokens <= 24 for rows, tokens in seen)
    assert max(rows for rows, _ in seen) > 1


@pytest.mark.parametrize(("texts", "pairs", "reason"), [
    ([], None, "no rows to extract"), (TEXTS, TEXTS[:2], "7 texts but 2 pair texts"),
])  # fmt: skip
def test_tables_that_are_refused(model, texts, pairs, reason):
    with pytest.raises(DubioError, match=reason):
        extract(model, texts, pairs, how=QUIET)


def test_a_row_without_tokens_is_refused_by_its_number():
    model = loaded("llama")
    for rows in (2048, 2):  # in the first shard, and in a later one
        with pytest.raises(DubioError, match=r"^row 2 has no tokens"):
            extract(model, ["yes", "no", ""], how=replace(QUIET, shard_rows=rows))


@pytest.mark.parametrize("part", ["features", "logits"])
def test_nan_is_refused_by_its_row(part, monkeypatch):
    model = loaded("bert")
    forward = AdaptedModel.forward
    marked = padded(model, "right", ["42"])["input_ids"][0, 1]

    def spoil(self, batch):
        features, logits = (value.clone() for value in forward(self, batch))
        bad = (batch["input_ids"][:, :3] == torch.tensor([2, marked, 3])).all(dim=1)  # the row that says 42 alone
        (features if part == "features" else logits)[bad] = torch.nan
        return features, logits

    monkeypatch.setattr(AdaptedModel, "forward", spoil)
    for rows in (2048, 2):
        with pytest.raises(DubioError, match=rf"{part}.*row 3 holds NaN or infinity"):
            extract(model, TEXTS, how=replace(QUIET, shard_rows=rows))


def test_bfloat16_stays_close():
    exact, rough = (load(adapter_folder("bert"), precision=p) for p in ("float32", "bfloat16"))
    z, z16 = (extract(m, TEXTS, how=QUIET) for m in (exact, rough))
    assert z16.features.dtype == z16.logits.dtype == np.float32
    assert 0 < np.abs(z16.logits - z.logits).max() < 0.1 * np.abs(z.logits).max()


def test_quiet_is_quiet(model, capfd):
    extract(model, TEXTS, how=QUIET)
    assert capfd.readouterr() == ("", "")
