"""Properties of every metric on any table: saturated softmax, a class without rows, few rows, ties, extreme scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

import dubio.metrics as dm
from dubio.containers import Scores
from dubio.log_space import error_log_odds, log_error, log_softmax
from dubio.metrics.evaluation import DETECTION
from dubio.metrics.ties import TieGroups

TOPS = {"augrc": 0.5, "brier": 2.0, "system_augrc": 0.5, "system_brier": 2.0}
UNBOUNDED = {"nll", "system_nll"}


@st.composite
def classifiers(draw):
    """Logits `[N, C]` from vague to saturated, labels that may lack a class, right as often as chance or always."""
    n, classes = draw(st.integers(1, 40)), draw(st.integers(2, 5))
    scale = draw(st.sampled_from([1e-3, 1.0, 30.0, 1e4, 1e30]))
    g = np.random.default_rng(draw(st.integers(0, 10**6)))
    logits = (g.normal(size=(n, classes)) * scale).astype(np.float32)
    if draw(st.booleans()):
        logits = np.round(logits)
    labels = g.integers(0, classes, n)
    missing = draw(st.sampled_from([None, 0, classes - 1]))
    if missing is not None:
        labels = np.where(labels == missing, (missing + 1) % classes, labels)
    if draw(st.booleans()):
        labels = logits.argmax(axis=1)
    return logits, labels


def within(name, value):
    top = 1.0 if name not in UNBOUNDED else np.inf
    low = -np.inf if name == "prr" else -1.0 if "gain" in name else 0.0
    return low - 1e-12 <= value <= TOPS.get(name, top) + 1e-9


@given(classifiers())
@settings(max_examples=60, deadline=None)
def test_every_figure_is_finite_and_inside_its_range(table):
    logits, labels = table
    p = np.exp(log_softmax(logits))
    u = log_error(logits)
    scores = [Scores.of("softmax_response", u, np.exp(u)), Scores.of("b", -u, 1 - np.exp(u))]
    draws = dm.Bootstrap(draws=8)
    rows = dm.evaluate_scores("t", scores, logits, labels, bootstrap=draws)
    rows += dm.evaluate_system("t", "s", p, labels, u, bootstrap=draws)
    names = {row.metric for row in rows if row.method == "b" and row.value is not None}
    errors = logits.argmax(axis=1) != labels
    both = 0 < errors.sum() < len(errors)
    assert {"aurc", "e_aurc", "augrc", "risk_at_coverage_80", "coverage_at_risk_5", "tie_share"} <= names
    assert ({"error_roc_auc", "error_pr_auc", "fpr_at_95_tpr", "prr", "error_roc_auc_gain"} <= names) == both
    for row in rows:
        assert (row.value is None) <= bool(row.why)  # what is undefined says why
        for value in (row.value, row.low, row.high):
            assert value is None or within(row.metric, value), row
        assert row.low is None or row.low <= row.high


@given(classifiers())
@settings(max_examples=60, deadline=None)
def test_nll_brier_and_accuracy_of_saturated_rows_and_absent_classes(table):
    logits, labels = table
    log_p = log_softmax(logits)
    rows = np.arange(len(labels))
    slow = np.mean(
        [np.logaddexp.reduce(row.astype(np.float64)) - row[y] for row, y in zip(logits, labels, strict=True)]
    )
    assert dm.nll(log_p, labels) == pytest.approx(slow, rel=1e-6, abs=1e-9)
    if log_p[rows, labels].min() > -30:  # beyond, scikit-learn cuts probabilities
        expected = log_loss(labels, np.exp(log_p), labels=np.arange(logits.shape[1]))
        assert dm.nll(log_p, labels) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    p = np.exp(log_p)
    one_hot = np.eye(logits.shape[1])[labels]
    assert dm.brier(p, labels) == pytest.approx(((p - one_hot) ** 2).sum(axis=1).mean())
    assert dm.accuracy(p, labels) == np.mean(p.argmax(axis=1) == labels)


@given(classifiers())
@settings(max_examples=60, deadline=None)
def test_oracle_chance_and_reversal_bound_every_order(table):
    logits, labels = table
    errors = logits.argmax(axis=1) != labels
    u = log_error(logits)
    rate = errors.mean()
    best, worst = dm.aurc(errors.astype(float), errors), dm.aurc(-errors.astype(float), errors)
    assert best - 1e-12 <= dm.aurc(u, errors) <= worst + 1e-12
    assert dm.aurc(np.zeros(len(u)), errors) == pytest.approx(rate)
    assert dm.e_aurc(u, errors) == pytest.approx(dm.aurc(u, errors) - best, abs=1e-12)
    assert dm.augrc(u, errors) + dm.augrc(-u, errors) == pytest.approx(rate)
    assert dm.risk_at_coverage(u, errors, 1.0) == pytest.approx(rate)
    coverage = [dm.coverage_at_risk(u, errors, risk) for risk in (0.0, 0.1, 0.5, 1.0)]
    assert coverage == sorted(coverage)
    assert coverage[-1] == 1.0
    if 0 < rate < 1:
        assert dm.roc_auc(u, errors) + dm.roc_auc(-u, errors) == pytest.approx(1.0)
        assert dm.prr(u, errors) <= 1 + 1e-12
        assert dm.delong_test(u, u, errors).p_value == 1.0 if min(errors.sum(), (~errors).sum()) > 1 else True


@pytest.mark.parametrize("classes", [2, 5])
def test_log_space_ranks_rows_where_one_minus_p_ties(classes):
    """Softmax response of a sure head: in float32, 1 - max p ties on most rows; its log does not."""
    g = np.random.default_rng(0)
    logits = (g.normal(size=(3000, classes)) * 30).astype(np.float32)
    p = np.exp(log_softmax(logits)).astype(np.float32)
    assert dm.tie_share(1 - p.max(axis=1)) > 0.5
    for score in (log_error, error_log_odds):
        assert dm.tie_share(score(logits)) < 0.01


@pytest.mark.filterwarnings("ignore:overflow")  # of the sum that looks for NaN
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=25), st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_only_the_order_of_scores_counts_however_extreme_they_are(values, seed):
    scores = np.array(values)
    errors = np.random.default_rng(seed).random(len(scores)) < 0.5
    ranks = np.unique(scores, return_inverse=True)[1].astype(np.float64)
    for name, metric in DETECTION.items():
        one, two = (metric(TieGroups.of(s, errors).cumulate())[0] for s in (scores, ranks))
        np.testing.assert_equal(one, two, err_msg=name)


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_calibration_error_of_a_constant_is_its_distance_from_the_rate(seed, n, bins):
    g = np.random.default_rng(seed)
    happened, p = g.random(n) < 0.4, g.random()
    for scheme in ("equal_width", "equal_mass"):
        assert dm.ece(np.full(n, p), happened, bins, scheme) == pytest.approx(abs(p - happened.mean()))
        assert dm.ece(happened.astype(float), happened, bins, scheme) == pytest.approx(0.0)
        assert dm.ece(1.0 - happened, happened, bins, scheme) == pytest.approx(1.0) or 0 < happened.mean() < 1
