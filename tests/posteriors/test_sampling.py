"""Samples of texts: the same whatever the batches, resumed shard by shard, bounded by the shard, named by row."""

import json
import tracemalloc

import numpy as np
import pytest
import torch

from dubio.errors import DubioError
from dubio.models.cache import StoredRepresentations, map_arrays
from dubio.models.extraction import Extraction, extract_to
from dubio.posteriors.base_model import hashes_of, load_host
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.methods.mc_dropout import McDropout
from dubio.posteriors.methods.swag import Moments
from dubio.posteriors.sampling import Sampler, sample, sample_both, sample_to
from dubio.posteriors.store import Stored
from dubio.posteriors.training.parameters import LoraParameters, XsParameters, targets_of
from dubio.posteriors.training.parametrisation import facts_of, form_of
from models.tiny import CLASSES, TEXTS, base_folder, save_base

QUIET = Extraction(show=False)


def sampler(family="bert", kind=LoraParameters, samples=4):
    """SWAG around random parameters on a tiny base."""
    host, _ = load_host(str(base_folder(family)), [str(c) for c in range(CLASSES)], max_length=32)
    suffixes = {"bert": ("query", "value"), "llama": ("q_proj", "v_proj")}[family]
    made = kind(host, targets_of(host, suffixes), 3, 2.0)
    moments = Moments(2, (".core",) if kind is XsParameters else (".a", ".b"))
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        moments.add({n: v + 0.3 * torch.randn(v.shape, generator=g) for n, v in made.start((0,)).items()})
    return Sampler(host, Stored("swag_lora", moments.posterior(), facts_of(made), hashes_of(host), samples))


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("kind", [LoraParameters, XsParameters])
def test_samples_do_not_depend_on_batches_or_shards(family, kind):
    made = sampler(family, kind)
    expected = sample(made, TEXTS, None, QUIET)
    assert expected.shape == (4, len(TEXTS), CLASSES)
    np.testing.assert_allclose(np.exp(expected).sum(axis=2), 1, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    for how in (Extraction(8, 3, False), Extraction(64, 1, False), Extraction(10**6, 5, False)):
        np.testing.assert_allclose(sample(made, TEXTS, None, how), expected, atol=1e-5)
    back = sample(made, TEXTS[::-1], None, QUIET)[:, ::-1]
    np.testing.assert_allclose(back, expected, atol=1e-5)
    np.testing.assert_array_equal(sample(sampler(family, kind), TEXTS, None, QUIET), expected)


def test_shards_are_kept_resumed_and_read_with_the_representations(tmp_path, monkeypatch):
    made, how = sampler(), Extraction(shard_rows=3, show=False)
    whole = sample(made, TEXTS, None, how)
    runs = []
    monkeypatch.setattr(StackEngine, "averaged", lambda *a, f=StackEngine.averaged: runs.append(1) or f(*a))
    paths = sample_to(made, TEXTS, None, tmp_path, how)
    assert len(paths) == 3
    first = len(runs)
    assert sample_to(made, TEXTS, None, tmp_path, how) == paths
    assert len(runs) == first
    paths[0].write_bytes(paths[0].read_bytes()[:-4])
    paths[2].unlink()
    sample_to(made, TEXTS, None, tmp_path, how)
    assert first < len(runs) < 2 * first
    np.testing.assert_array_equal(np.concatenate([map_arrays(p)["log_probabilities"] for p in paths], axis=1), whole)
    stored = extract_to(made.host, TEXTS, None, tmp_path, how=how)
    table = StoredRepresentations(stored.shards, stored.rows, None, {"swag_lora": paths}).load()
    np.testing.assert_array_equal(table.samples["swag_lora"], whole)
    others = [
        sample_to(Sampler(made.host, made.stored, *change), TEXTS, None, tmp_path, how)
        for change in ((3,), (None, 1))  # fewer samples; another seed
    ]
    assert not set(paths) & {path for other in others for path in other}


def test_the_mean_of_samples_takes_the_adapters_place(tmp_path):
    """Features are the mean over samples, logits the log of the mean prediction, in memory as from shards."""
    made, how = sampler(), Extraction(shard_rows=3, show=False)
    engine = made.engine()
    batch = dict(made.host.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    every, logits = engine.forward(batch)
    features, table = sample_both(made, TEXTS, None, how)
    np.testing.assert_allclose(features, every.mean(dim=0), atol=1e-5)
    np.testing.assert_allclose(table, torch.log_softmax(logits, dim=2), atol=1e-5)
    paths = sample_to(made, TEXTS, None, tmp_path, how)
    counts = tuple(len(TEXTS[i : i + 3]) for i in range(0, len(TEXTS), 3))
    rows = StoredRepresentations(paths, counts, None, {"swag_lora": paths}, "swag_lora").load()
    np.testing.assert_array_equal(rows.features, features)
    np.testing.assert_allclose(np.exp(rows.logits), np.exp(table).mean(axis=0), atol=1e-6)


def test_memory_is_that_of_a_shard():
    """50 samples of 3,000 rows would be 1.8 MB; a shard of 100 rows holds a thirtieth of it at a time."""
    made, how = sampler(samples=50), Extraction(shard_rows=100, show=False)
    engine = made.engine()
    texts = [TEXTS[i % len(TEXTS)] for i in range(100)]
    from dubio.models.tokens.batching import Block
    from dubio.posteriors.sampling import _block

    tracemalloc.start()
    _block(made.host, engine, Block(0, texts, None), how)
    one = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    for _ in range(3):
        _block(made.host, engine, Block(0, texts, None), how)
    assert tracemalloc.get_traced_memory()[1] < 2 * one
    tracemalloc.stop()


def test_a_row_that_is_no_number_is_named(monkeypatch):
    made = sampler()

    averaged = StackEngine.averaged

    def spoil(self, batch, *_):
        features, logits = (value.clone() for value in averaged(self, batch))
        logits[2, (batch["attention_mask"].sum(dim=1) == 3) & (batch["input_ids"][:, 1] == marked)] = torch.nan
        return features, logits

    marked = made.host.tokenizer("42")["input_ids"][1]
    monkeypatch.setattr(StackEngine, "averaged", spoil)
    for rows in (2048, 2):
        with pytest.raises(DubioError, match="samples: row 3 holds NaN"):
            sample(made, TEXTS, None, Extraction(shard_rows=rows, show=False))


def test_another_base_is_refused(tmp_path):
    made = sampler()
    other, _ = load_host(str(save_base(tmp_path / "base", seed=5)), [str(c) for c in range(CLASSES)], max_length=32)
    with pytest.raises(DubioError, match="belongs to another base"):
        Sampler(other, made.stored).engine()
    with pytest.raises(DubioError, match="unknown form"):
        form_of({"form": "nonsense"}, other)


def test_forms_survive_json():
    made = sampler(kind=XsParameters)
    values = made.stored.posterior.draw(2)
    form = json.loads(json.dumps(dict(made.stored.form)))
    for name, value in form_of(form, made.host)(values).tensors().items():
        torch.testing.assert_close(value, form_of(made.stored.form, made.host)(values).tensors()[name])


def test_with_the_adapter_at_scale_0_nothing_varies():
    """MC-dropout lives in the adapter alone: the base's dropouts are off, so without an update there is no variance."""
    made = sampler()
    draws = {name: value[:1] for name, value in made.stored.posterior.draw(1).items()}
    tensors = {f"mean|{n}": torch.zeros_like(v) if n.endswith(".b") else v for n, v in draws.items()}
    dropped = Stored("mc_dropout", McDropout(tensors, {"rate": 0.5}), made.stored.form, made.stored.base, 6)
    found = sample(Sampler(made.host, dropped), TEXTS, None, QUIET)
    assert (found == found[:1]).all()


def test_masks_by_token_vary_by_batch_and_keep_to_their_seed():
    made = sampler()
    draws = {name: value[:1] for name, value in made.stored.posterior.draw(1).items()}
    tensors = {f"mean|{n}": v for n, v in draws.items()}
    token, by_sample = (
        Stored("mc_dropout", McDropout(tensors, {"rate": 0.4, "masks": masks}), made.stored.form, made.stored.base, 6)
        for masks in ("token", "sample")
    )
    found = sample(Sampler(made.host, token), TEXTS, None, QUIET)
    np.testing.assert_array_equal(sample(Sampler(made.host, token), TEXTS, None, QUIET), found)
    assert (found.std(axis=0).max(axis=1) > 1e-4).all()
    assert np.abs(sample(Sampler(made.host, token, seed=1), TEXTS, None, QUIET) - found).max() > 0.01
    other = sample(Sampler(made.host, by_sample), TEXTS, None, QUIET)
    assert np.abs(other - found).max() > 0.01
    assert 0.3 < other.std(axis=0).mean() / found.std(axis=0).mean() < 8  # the same noise, averaged over tokens or not


def test_the_digest_is_of_all_that_samples_depend_on():
    made = sampler()
    one = Stored("mc_dropout", McDropout({}, {"rate": 0.1, "seconds": 1.0}), {}, {}, 4)
    assert one.sha256 == Stored("mc_dropout", McDropout({}, {"rate": 0.1, "seconds": 9.0}), {}, {}, 4).sha256
    others = [
        Stored("mc_dropout", McDropout({}, {"rate": 0.6}), {}, {}, 4), Stored("tfb", one.posterior, {}, {}, 4),
        Stored("mc_dropout", one.posterior, {"form": "lora"}, {}, 4), Stored("mc_dropout", one.posterior, {}, {}, 5),
        made.stored,
    ]  # fmt: skip
    assert len({one.sha256, *(other.sha256 for other in others)}) == 6


def test_what_all_samples_share_runs_once(monkeypatch):
    """Samples that differ in their heads alone: the body sees the rows, not S times the rows."""
    made = sampler()
    engine = made.engine()
    first = {
        n: v[:1].expand(4, *v.shape[1:]) if n.startswith("layer/") else v for n, v in engine.stack.tensors().items()
    }
    shared = StackEngine(engine.model, engine.site, engine.stack.with_tensors(first).to("cpu"), engine.inputs)
    assert shared.stack.shared_body
    assert not engine.stack.shared_body
    seen = []
    monkeypatch.setattr(
        StackEngine, "features", lambda *a, f=StackEngine.features, **k: seen.append(a[2].samples) or f(*a, **k)
    )
    batch = dict(made.host.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    _, logits = shared.forward(batch)
    assert set(seen) == {1}
    separate = StackEngine(
        engine.model, engine.site, engine.stack.with_tensors({n: v.clone() for n, v in first.items()}), engine.inputs
    )
    torch.testing.assert_close(separate.forward(batch)[1], logits, atol=1e-5, rtol=1e-5)
