"""Samples in the containers, and their measures as scores in fit, evaluate and choice."""

import numpy as np
import pytest
from scipy.special import log_softmax

from dubio import measures
from dubio.containers import Representations, concatenate
from dubio.errors import DubioError
from dubio.scores.registry import get_method, sampled_names
from dubio.workflow.evaluation import evaluate
from dubio.workflow.fitting import INCUMBENT, FitPlan, fit_methods
from invariants.invariant_cases import tables


def with_samples(rows, seed=0, spread=0.3):
    """The table with six noisy copies of its logits as an "ensemble"."""
    noise = spread * np.random.default_rng(seed).normal(size=(6, *rows.logits.shape))
    return Representations.of(
        rows.features, rows.logits, rows.labels, rows.groups, {"ensemble": log_softmax(rows.logits + noise, axis=2)}
    )


def test_scores_are_the_measures_of_the_predicted_class():
    rows = with_samples(tables()[2])
    for name in sampled_names("ensemble"):
        if name in ("ensemble.temperature", "ensemble.distilled"):  # which learn
            continue
        score = get_method(name).build().fit(None, None)
        expected = measures.MEASURES[name.partition(".")[2]](rows.samples["ensemble"], rows.predictions)
        np.testing.assert_array_equal(score.score(rows), expected)
        np.testing.assert_array_equal(get_method(name).build().restore(score.state()).score(rows), expected)
    with pytest.raises(DubioError, match="carry no samples of ensemble"):
        get_method("ensemble.entropy").build().fit(None, None).score(tables()[2])
    with pytest.raises(DubioError, match=r"no method named 'ensemble\.nonsense'"):
        get_method("ensemble.nonsense")


def test_the_temperature_of_a_mean_is_the_best_one_and_changes_no_prediction():
    """Against a grid in NumPy; with identical samples it is the adapter's own temperature."""
    _, calibration, test = (with_samples(table, seed, 1.0) for seed, table in enumerate(tables()))
    score = get_method("ensemble.temperature").build().fit(None, calibration)

    def nll(t):
        p = np.exp(calibration.samples["ensemble"].astype(np.float64)).mean(axis=0) ** (1 / t)
        return -np.log(p / p.sum(axis=1, keepdims=True))[np.arange(len(p)), calibration.labels].mean()

    grid = np.exp(np.linspace(-2, 2, 2001))
    assert score.temperature_[0] == pytest.approx(grid[np.argmin([nll(t) for t in grid])], rel=3e-3)
    log_p, mean = score.log_probabilities(test), np.exp(test.samples["ensemble"]).mean(axis=0)
    assert (log_p.argmax(axis=1) == mean.argmax(axis=1)).all()
    own = np.log1p(-np.exp(log_p))[np.arange(len(test)), test.predictions]
    np.testing.assert_allclose(score.score(test), own, atol=1e-6)
    same = with_samples(calibration, 0, 0.0)
    alone = get_method("temperature").build().fit(None, calibration)
    assert get_method("ensemble.temperature").build().fit(None, same).temperature_[0] == pytest.approx(
        alone.temperature_[0], rel=1e-5
    )
    with pytest.raises(DubioError, match="carry no samples"):
        score.score(tables()[2])


def test_rows_keep_their_samples():
    rows = with_samples(tables()[2])
    picked = rows.take(np.array([5, 0, 7]))
    np.testing.assert_array_equal(picked.samples["ensemble"], rows.samples["ensemble"][:, [5, 0, 7]])
    both = concatenate([rows, picked])
    assert both.samples["ensemble"].shape == (6, len(rows) + 3, rows.classes)
    assert concatenate([rows, tables()[2]]).samples == {}


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: t[:, 1:], r"expected \[samples, 240, 3\]"), (lambda t: t[:0], "got shape"),
    (lambda t: t * 2, "row 0 holds no log-probabilities"), (lambda t: t * np.nan, "row 0 holds no log-probabilities"),
])  # fmt: skip
def test_what_are_no_samples_is_refused(change, words):
    rows = with_samples(tables()[2])
    with pytest.raises(DubioError, match=words):
        Representations.of(rows.features, rows.logits, samples={"x": change(rows.samples["ensemble"])})


def test_samples_enter_fit_and_evaluate():
    train, calibration, test = (with_samples(table, seed) for seed, table in enumerate(tables()))
    names = [INCUMBENT, *sampled_names("ensemble")]
    fit = fit_methods(train, calibration, None, FitPlan(names, show=False))
    assert [*fit.methods] == names
    found = evaluate(fit, test, draws=20)
    mean = np.exp(test.samples["ensemble"]).mean(axis=0)
    (accuracy,) = [m.value for m in found.metrics if (m.method, m.metric) == ("ensemble", "system_accuracy")]
    assert accuracy == pytest.approx((mean.argmax(axis=1) == test.labels).mean())
    (auc,) = [m for m in found.metrics if (m.method, m.metric) == ("ensemble.entropy", "error_roc_auc")]
    assert auc.value > 0.7
    nll = {m.method: m.value for m in found.metrics if m.metric == "system_nll"}
    assert set(nll) == {"ensemble", "ensemble.temperature"}
    default = fit_methods(None, calibration, None, FitPlan(show=False))
    assert set(sampled_names("ensemble")) <= set(default.methods)
