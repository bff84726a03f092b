"""Measures of samples against SciPy, slow loops, and what must hold whatever the samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr
from scipy.stats import entropy

from dubio import measures
from dubio.errors import DubioError


def samples(seed=0, count=5, rows=40, classes=3, spread=1.0, scale=2.0):
    g = np.random.default_rng(seed)
    logits = scale * g.normal(size=(1, rows, classes)) + spread * g.normal(size=(count, rows, classes))
    return log_softmax(logits, axis=2).astype(np.float32)


def test_against_scipy_and_loops():
    table = samples()
    p = np.exp(table.astype(np.float64))
    mean = p.mean(axis=0)
    np.testing.assert_allclose(np.exp(measures.log_mean(table)), mean, rtol=1e-9)
    np.testing.assert_allclose(measures.predictive_entropy(table), entropy(mean, axis=1), atol=1e-6)
    np.testing.assert_allclose(measures.expected_entropy(table), entropy(p, axis=2).mean(axis=0), atol=1e-6)
    divergences = np.array([[rel_entr(p[s, i], mean[i]).sum() for i in range(40)] for s in range(5)])
    np.testing.assert_allclose(measures.mutual_information(table), divergences.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(
        measures.mutual_information(table),
        measures.predictive_entropy(table) - measures.expected_entropy(table), atol=1e-6,
    )  # fmt: skip
    variances = [max(np.var([p[s, i, c] for s in range(5)]) for c in range(3)) for i in range(40)]
    np.testing.assert_allclose(np.exp(measures.class_variance(table)), variances, rtol=1e-6)
    for i in range(40):
        votes = list(table[:, i].argmax(axis=1))
        assert measures.variation_ratio(table)[i] == pytest.approx(1 - max(map(votes.count, set(votes))) / 5)
    classes = np.arange(40) % 3
    np.testing.assert_allclose(measures.response(table, classes), np.log1p(-mean[np.arange(40), classes]), rtol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(2, 5), st.sampled_from([0.0, 1e-3, 1.0, 30.0]),
       st.sampled_from([0.1, 3.0, 60.0]))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_what_always_holds(seed, count, classes, spread, scale):
    table = samples(seed, count, 20, classes, spread, scale)
    mi, total = measures.mutual_information(table), measures.predictive_entropy(table)
    assert (mi >= 0).all()
    assert (mi <= min(np.log(count), np.log(classes)) + 1e-6).all()
    np.testing.assert_allclose(mi + measures.expected_entropy(table), total, atol=1e-5)
    for name, measure in measures.MEASURES.items():
        assert np.isfinite(measure(table, np.zeros(20, dtype=np.int64))).all(), name
    labels = np.arange(20) % classes
    loss = -measures.log_mean(table)[np.arange(20), labels]  # Jensen: the mean loses no more than its members
    assert loss.mean() <= -table[:, np.arange(20), labels].astype(np.float64).mean() + 1e-6


def test_one_sample_and_identical_samples_hold_no_knowledge_of_their_own():
    one = samples(count=1)
    for table in (one, np.repeat(one, 6, axis=0)):
        np.testing.assert_allclose(measures.mutual_information(table), 0.0, atol=1e-7)
        assert (measures.variation_ratio(table) == 0).all()
        np.testing.assert_allclose(measures.log_mean(table), one[0], atol=1e-6)
    assert (measures.class_variance(one) < -700).all()


def test_the_order_of_samples_does_not_matter():
    table = samples()
    for measure in measures.MEASURES.values():
        classes = np.zeros(40, dtype=np.int64)
        np.testing.assert_allclose(measure(table[::-1], classes), measure(table, classes), rtol=1e-9, atol=1e-12)


def test_responses_do_not_tie_where_all_are_sure():
    """Probabilities within 1e-12 of 1: in plain arithmetic 1 - p would tie."""
    logits = np.stack([[40.0 + np.arange(30), np.zeros(30)]] * 3).transpose(0, 2, 1)
    found = measures.response(log_softmax(logits, axis=2), np.zeros(30, dtype=np.int64))
    assert len(np.unique(found)) == 30


@pytest.mark.parametrize("shape", [(4, 3), (0, 4, 3), (2, 4, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DubioError, match="expected log-probabilities"):
        measures.mutual_information(np.zeros(shape))


def test_parts_of_the_rows_give_what_all_of_them_give(monkeypatch):
    table = samples(count=4, rows=23)
    whole = {name: measure(table, np.zeros(23, dtype=int)) for name, measure in measures.MEASURES.items()}
    monkeypatch.setattr(measures, "PART", 60)
    for name, measure in measures.MEASURES.items():
        assert np.array_equal(measure(table, np.zeros(23, dtype=int)), whole[name])
