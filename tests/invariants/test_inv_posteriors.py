"""The invariants for every registered posterior: batches, ties, round trip, numbers that are none, orientation.

Feature scale (2) is about density scores, and a posterior has none; guarantees (7) are those of the thresholds, which
see only scores: `test_inv_guarantees` holds them.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from posterior_cases import QUIET, adapter_with, rows_of, sampler_of, samples_of
from safetensors.numpy import load_file

from dubio.errors import ArtifactError, DubioError
from dubio.measures import MEASURES, log_mean, mutual_information
from dubio.metrics.ranking import roc_auc
from dubio.models.extraction import Extraction, extract
from dubio.posteriors.registry import POSTERIORS
from dubio.posteriors.sampling import sample
from dubio.posteriors.store import Stored, load_posterior, save_posterior
from tiny_classifier import cached, environment, tiny

__all__ = ["cached", "tiny"]
CHILD = Path(__file__).with_name("posterior_child.py")
SURE = ("response", "entropy", "expected_entropy")
pytestmark = pytest.mark.usefixtures("cached")
every = pytest.mark.parametrize("name", list(POSTERIORS))


@every
def test_samples_do_not_depend_on_batch_order_or_chunks(tiny, name):
    (_, sampler), texts = sampler_of(tiny, name), rows_of(tiny)[0][:100]
    expected = sample(sampler, texts, None, QUIET)
    for how in (Extraction(40, 2048, False), Extraction(10**6, 70, False)):
        np.testing.assert_allclose(sample(sampler, texts, None, how), expected, atol=1e-5 * np.ptp(expected))
    back = sample(sampler, texts[::-1], None, QUIET)[:, ::-1]
    np.testing.assert_allclose(back, expected, atol=1e-5 * np.ptp(expected))


@every
def test_samples_differ_and_their_means_are_better_than_their_mean(tiny, name):
    """Jensen: the NLL of the mean prediction is at most the samples' mean NLL; mutual information is not negative."""
    table, labels = samples_of(tiny, name), rows_of(tiny)[1]
    model, _ = sampler_of(tiny, name)
    y = np.array([model.labels.index(label) for label in labels])
    at = np.arange(len(y))
    assert (table.std(axis=0).max(axis=1) > 0).mean() > 0.99
    assert -log_mean(table)[at, y].mean() <= -table[:, at, y].mean()
    assert (mutual_information(table) >= 0).all()
    np.testing.assert_allclose(mutual_information(np.repeat(table[:1], 3, axis=0)), 0, atol=1e-12)


def test_a_new_process_draws_the_same_bits(tiny, tmp_path):
    texts = list(rows_of(tiny)[0][:80])
    order = {"texts": texts, "adapters": {name: str(adapter_with(tiny, name)) for name in POSTERIORS}}
    (tmp_path / "order.json").write_text(json.dumps(order), encoding="utf-8")
    subprocess.run([sys.executable, CHILD, str(tmp_path)], check=True, timeout=300, env=environment())
    found = load_file(tmp_path / "samples.safetensors")
    for name in POSTERIORS:
        assert found[name].tobytes() == sample(sampler_of(tiny, name)[1], texts, None, QUIET).tobytes(), name


@every
def test_numbers_that_are_none_are_refused(tiny, name, tmp_path):
    stored = load_posterior(adapter_with(tiny, name), name)
    which = next(n for n, value in stored.posterior.tensors.items() if value.is_floating_point())
    spoilt = {n: value.clone() for n, value in stored.posterior.tensors.items()}
    spoilt[which].view(-1)[0] = torch.nan
    posterior = type(stored.posterior)(spoilt, stored.posterior.facts)
    save_posterior(tmp_path, Stored(name, posterior, stored.form, stored.base, stored.samples))
    with pytest.raises(ArtifactError, match="holds NaN or infinity"):
        load_posterior(tmp_path, name)


@every
def test_bytes_that_changed_are_refused(tiny, name, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(adapter_with(tiny, name), folder)
    path = next((folder / "posteriors" / name).glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="changed after it was written"):
        load_posterior(folder, name)


@every
def test_every_measure_ranks_errors_higher(tiny, name):
    """Of the adapter's own predictions; what tells samples apart sees little of errors that are planted noise."""
    texts, labels = rows_of(tiny)
    model, _ = sampler_of(tiny, name)
    predicted = extract(model, texts, how=QUIET).predictions
    errors = predicted != np.array([model.labels.index(label) for label in labels])
    table = samples_of(tiny, name)
    for measure, compute in MEASURES.items():
        u = compute(table, predicted)
        assert np.isfinite(u).all()
        if measure in SURE or name != "kfold":  # whose members differ by the rows they lack, not by what is hard
            assert roc_auc(u, errors) > (0.6 if measure in SURE else 0.5), measure
        order = np.random.default_rng(0).permutation(len(u))
        assert roc_auc(u[order], errors[order]) == pytest.approx(roc_auc(u, errors), abs=1e-12)


@every
def test_another_base_is_refused(tiny, name):
    model, sampler = sampler_of(tiny, name)
    other = replace(sampler.host, hashes={**model.hashes, "base": "another"})
    with pytest.raises(DubioError, match="belongs to another base"):
        sample(replace(sampler, host=other), ["rain"], None, QUIET)
