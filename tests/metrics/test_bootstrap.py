import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import spearmanr

import dubio.metrics as dm
from dubio.errors import DubioError
from dubio.metrics.bootstrap import Bootstrap, Resampled, resample, resampled_counts
from dubio.metrics.calibration import CalibrationGroups
from dubio.metrics.correlation import Midranks, spearman_of
from dubio.metrics.evaluation import DETECTION
from dubio.metrics.ties import TieGroups

PLAIN = {
    "error_roc_auc": dm.roc_auc, "error_pr_auc": dm.pr_auc, "fpr_at_95_tpr": dm.fpr_at_tpr, "aurc": dm.aurc,
    "e_aurc": dm.e_aurc, "augrc": dm.augrc, "prr": dm.prr,
    "risk_at_coverage_80": lambda s, e: dm.risk_at_coverage(s, e, 0.8),
    "risk_at_coverage_90": lambda s, e: dm.risk_at_coverage(s, e, 0.9),
    "coverage_at_risk_5": lambda s, e: dm.coverage_at_risk(s, e, 0.05),
    "coverage_at_risk_10": lambda s, e: dm.coverage_at_risk(s, e, 0.1),
}  # fmt: skip


def value_or_nan(metric, *arrays):
    try:
        return metric(*arrays)
    except DubioError:
        return np.nan


def table(generator, n, digits):
    errors = generator.random(n) < 0.3
    return np.round(generator.random(n) + 0.3 * errors, digits), errors


def test_every_table_metric_has_a_plain_twin():
    assert set(PLAIN) == set(DETECTION)


@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from([1, 9]))
@settings(max_examples=60, deadline=None)
def test_weighted_equals_the_metric_on_the_drawn_rows(seed, n, digits):
    generator = np.random.default_rng(seed)
    scores, errors = table(generator, n, digits)
    drawn = generator.integers(0, n, size=(4, n))
    weights = np.stack([np.bincount(rows, minlength=n) for rows in drawn]).astype(float)
    groups = TieGroups.of(scores, errors)
    for name, metric in DETECTION.items():
        found = metric(groups.cumulate(weights))
        slow = [value_or_nan(PLAIN[name], scores[rows], errors[rows]) for rows in drawn]
        np.testing.assert_allclose(found, slow, atol=1e-10, err_msg=name)
        alone = metric(groups.cumulate(np.ones((1, n))))[0]
        assert alone == pytest.approx(value_or_nan(PLAIN[name], scores, errors), nan_ok=True)
    p = np.clip(scores, 0, 1)
    bins = CalibrationGroups.of(p, errors)
    np.testing.assert_allclose(bins.equal_width(weights), [dm.ece(p[r], errors[r]) for r in drawn], atol=1e-10)
    np.testing.assert_allclose(
        bins.equal_mass(weights), [dm.ece(p[r], errors[r], scheme="equal_mass") for r in drawn], atol=1e-10
    )
    np.testing.assert_allclose(bins.brier(weights), [dm.error_probability_brier(p[r], errors[r]) for r in drawn])
    truth = np.round(generator.random(n), 1)
    found = spearman_of(Midranks(scores)(weights), Midranks(truth)(weights), weights)
    slow = [value_or_nan(dm.spearman, scores[rows], truth[rows]) for rows in drawn]
    np.testing.assert_allclose(found, slow, atol=1e-10)


def test_spearman_equals_scipy():
    generator = np.random.default_rng(0)
    a = np.round(generator.normal(size=300), 1)
    b = np.round(a + generator.normal(size=300), 1)
    assert dm.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    with pytest.raises(DubioError, match="constant"):
        dm.spearman(a, np.ones(300))


def test_counts_are_whole_seeded_and_stay_inside_their_stratum(monkeypatch):
    def counts(seed):
        return np.concatenate([c for _, c in resampled_counts([7, 5], Bootstrap(23, seed))])

    whole = counts(1)
    assert whole.shape == (23, 12)
    assert (whole[:, :7].sum(axis=1) == 7).all()
    assert (whole[:, 7:].sum(axis=1) == 5).all()
    np.testing.assert_array_equal(whole, counts(1))
    assert not np.array_equal(whole, counts(2))
    monkeypatch.setattr("dubio.metrics.bootstrap.CELLS", 40)  # three draws a chunk
    slices = [part for part, _ in resampled_counts([7, 5], Bootstrap(23, 1))]
    assert [s.start for s in slices] == list(range(0, 23, 3))
    assert slices[-1].stop == 23


def test_interval_agrees_with_scipy():
    generator = np.random.default_rng(0)
    values = generator.normal(size=200)
    found = resample({"a": lambda w: {"mean": w @ values / w.sum(axis=1)}}, [200], Bootstrap(draws=4000))["a"]["mean"]
    slow = scipy_bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert found.value == pytest.approx(values.mean())
    np.testing.assert_allclose(found.interval(), slow, atol=0.01)


def test_interval_covers_the_truth():
    """Of 200 tables, about 95 % of the intervals hold the true ROC-AUC of two unit normals one apart."""
    inside = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        errors = generator.random(300) < 0.3
        groups = TieGroups.of(generator.normal(size=300) + errors, errors)
        statistic = {"a": lambda w, g=groups: {"auc": DETECTION["error_roc_auc"](g.cumulate(w))}}
        low, high = resample(statistic, [300], Bootstrap(300, seed))["a"]["auc"].interval()
        inside += low <= 0.76025 <= high
    assert 0.90 <= inside / 200 <= 0.985


def test_paired_difference_is_on_the_same_draws():
    generator = np.random.default_rng(0)
    values = generator.normal(size=100)
    statistics = {name: lambda w, k=k: {"m": w @ (values + k) / w.sum(axis=1)} for name, k in (("a", 0.0), ("b", 0.5))}
    found = resample(statistics, [100], Bootstrap(draws=200))
    np.testing.assert_allclose(found["b"]["m"].draws - found["a"]["m"].draws, 0.5)  # unpaired: a scatter of about 0.14


def test_undefined_draws():
    half = Resampled(1.0, np.array([1.0, np.nan, np.nan]))
    assert half.interval() is None
    assert Resampled(np.nan, np.ones(4)).interval() is None


@pytest.mark.parametrize("options", [{"draws": 0}, {"level": 1.0}, {"level": 0.0}])
def test_bad_options(options):
    with pytest.raises(DubioError, match="bootstrap"):
        Bootstrap(**options)


def test_no_rows():
    with pytest.raises(DubioError, match="no rows"):
        resample({}, [0], Bootstrap())
