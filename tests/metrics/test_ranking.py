import numpy as np
import pytest
import tied_orders
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from dubio.errors import DubioError
from dubio.metrics import fpr_at_tpr, pr_auc, roc_auc, roc_curve, tie_share

METRICS = (roc_auc, pr_auc, fpr_at_tpr)


@st.composite
def small_table(draw, low=2, high=7):
    n = draw(st.integers(low, high))
    scores = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=float)
    errors = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    errors[:2] = [True, False]
    return scores, errors


@pytest.mark.parametrize("digits", [1, 2, 12])
@pytest.mark.parametrize("seed", range(4))
def test_roc_and_pr_auc_equal_scikit_learn(seed, digits):
    generator = np.random.default_rng(seed)
    errors = generator.random(400) < 0.2
    scores = np.round(generator.normal(size=400) + errors, digits)
    assert roc_auc(scores, errors) == pytest.approx(oracle.roc_auc_score(errors, scores), abs=1e-12)
    assert pr_auc(scores, errors) == pytest.approx(oracle.average_precision_score(errors, scores), abs=1e-12)
    x, y, _ = oracle.roc_curve(errors, scores, drop_intermediate=False)
    curve = roc_curve(scores, errors)
    np.testing.assert_allclose(curve.x, x)
    np.testing.assert_allclose(curve.y, y)
    if digits == 12:
        assert fpr_at_tpr(scores, errors) == pytest.approx(x[np.argmax(y >= 0.95)])


@given(small_table())
@settings(max_examples=80, deadline=None)
def test_average_over_tied_orders(table):
    scores, errors = table
    assert roc_auc(scores, errors) == pytest.approx(tied_orders.averaged(tied_orders.roc_auc, scores, errors))
    assert fpr_at_tpr(scores, errors) == pytest.approx(tied_orders.averaged(tied_orders.fpr_at_95, scores, errors))


@given(small_table(high=40), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_row_order_and_monotone_maps_change_nothing(table, random):
    scores, errors = table
    rows = list(range(len(scores)))
    random.shuffle(rows)
    for metric in METRICS:
        value = metric(scores, errors)
        assert 0 <= value <= 1
        assert metric(scores[rows], errors[rows]) == pytest.approx(value, abs=1e-12)
        assert metric(np.exp(3 * scores) - 7, errors) == value
    assert roc_auc(-scores, errors) == pytest.approx(1 - roc_auc(scores, errors))


def test_perfect_and_worst_orders():
    errors = np.array([False, False, False, True, True])
    best = np.arange(5.0)
    assert (roc_auc(best, errors), pr_auc(best, errors), fpr_at_tpr(best, errors)) == (1.0, 1.0, 0.0)
    assert (roc_auc(-best, errors), fpr_at_tpr(-best, errors)) == (0.0, 1.0)
    assert roc_auc(np.zeros(5), errors) == 0.5
    assert pr_auc(np.zeros(5), errors) == pytest.approx(0.4)


@pytest.mark.parametrize("metric", [*METRICS, roc_curve])
@pytest.mark.parametrize("constant", [True, False])
def test_one_kind_only_is_an_error(metric, constant):
    with pytest.raises(DubioError, match="both positive"):
        metric([0.1, 0.2, 0.3], [constant] * 3)


@pytest.mark.parametrize(
    ("scores", "errors", "message"),
    [([], [], "no rows"), ([0.1, float("nan")], [0, 1], "row 1"), ([0.1, 0.2], [0, 2], "0 .right."),
     ([0.1, 0.2], [0], "expected 2 rows"), ([float("inf"), 0.2], [0, 1], "row 0")],
)  # fmt: skip
def test_bad_arrays(scores, errors, message):
    for metric in METRICS:
        with pytest.raises(DubioError, match=message):
            metric(scores, errors)


def test_tpr_out_of_range():
    with pytest.raises(DubioError, match="tpr"):
        fpr_at_tpr([0.1, 0.2], [0, 1], 0.0)


def test_tie_share():
    assert tie_share([1.0, 1.0, 2.0, 3.0]) == 0.5
    assert tie_share(np.arange(4.0)) == 0.0
    with pytest.raises(DubioError, match="no rows"):
        tie_share([])
