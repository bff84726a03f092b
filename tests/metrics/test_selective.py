import numpy as np
import pytest
import tied_orders
from hypothesis import given, settings
from hypothesis import strategies as st

from dubio.errors import DubioError
from dubio.metrics import (
    augrc,
    aurc,
    coverage_at_risk,
    e_aurc,
    prr,
    risk_at_coverage,
    risk_coverage_curve,
    roc_auc,
)


@st.composite
def any_table(draw, high=7):
    n = draw(st.integers(1, high))
    scores = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=float)
    return scores, np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))


@given(any_table())
@settings(max_examples=80, deadline=None)
def test_average_over_tied_orders(table):
    scores, errors = table
    assert aurc(scores, errors) == pytest.approx(tied_orders.averaged(tied_orders.aurc, scores, errors))
    assert augrc(scores, errors) == pytest.approx(tied_orders.averaged(tied_orders.augrc, scores, errors))
    for coverage in (0.3, 0.8, 1.0):
        rows = int(np.ceil(coverage * len(scores) - 1e-9))
        slow = tied_orders.averaged(lambda ordered, k=rows: ordered[:k].mean(), scores, errors)
        assert risk_at_coverage(scores, errors, coverage) == pytest.approx(slow)
    curve = risk_coverage_curve(scores, errors)
    for k, (x, y) in enumerate(zip(curve.x, curve.y, strict=True), start=1):
        assert x == pytest.approx(k / len(scores))
        assert y == pytest.approx(tied_orders.averaged(lambda ordered, k=k: ordered[:k].mean(), scores, errors))


@given(any_table(high=30))
@settings(max_examples=80, deadline=None)
def test_coverage_at_risk_tries_every_threshold(table):
    scores, errors = table
    for risk in (0.0, 0.1, 0.25, 1.0):
        slow = [(scores <= t).mean() for t in scores if errors[scores <= t].mean() <= risk + 1e-12]
        assert coverage_at_risk(scores, errors, risk) == pytest.approx(max(slow, default=0.0))


@given(any_table(high=30), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_row_order_bounds_and_monotone_maps(table, random):
    scores, errors = table
    rows = list(range(len(scores)))
    random.shuffle(rows)
    for metric, top in ((aurc, 1.0), (e_aurc, 1.0), (augrc, 0.5), (risk_at_coverage, 1.0), (coverage_at_risk, 1.0)):
        value = metric(scores, errors)
        assert 0 <= value <= top
        assert metric(scores[rows], errors[rows]) == pytest.approx(value, abs=1e-12)
        assert metric(scores**3 + scores, errors) == value


@pytest.mark.parametrize("digits", [1, 10])
def test_identities_of_the_papers(digits):
    generator = np.random.default_rng(0)
    errors = generator.random(500) < 0.25
    scores = np.round(generator.normal(size=500) + errors, digits)
    err = errors.mean()
    # Traub et al. 2024, their equation for AUGRC in terms of ROC-AUC and accuracy.
    closed = (1 - roc_auc(scores, errors)) * err * (1 - err) + err**2 / 2
    assert augrc(scores, errors) == pytest.approx(closed, abs=1e-12)
    best = tied_orders.aurc(np.sort(errors))
    assert e_aurc(scores, errors) == pytest.approx(aurc(scores, errors) - best)
    assert prr(scores, errors) == pytest.approx((err - aurc(scores, errors)) / (err - best))


def test_perfect_constant_and_hopeless():
    errors = np.array([False, False, True, True])
    best = np.arange(4.0)
    assert (e_aurc(best, errors), prr(best, errors)) == (0.0, pytest.approx(1.0))
    assert prr(np.zeros(4), errors) == pytest.approx(0.0)
    assert prr(-best, errors) < 0
    assert coverage_at_risk(best, errors, 0.0) == 0.5
    assert coverage_at_risk(-best, errors, 0.0) == 0.0


def test_rounding_never_forbids_what_the_budget_allows():
    """0.29 * 100 is 28.999... in floating point, and 29 errors of 100 rows are 29 %."""
    errors = np.arange(100) < 29
    assert coverage_at_risk(np.zeros(100), errors, 0.29) == 1.0
    assert coverage_at_risk(np.zeros(100), np.arange(100) < 30, 0.29) == 0.0
    assert risk_at_coverage(np.arange(10.0), np.arange(10) >= 7, 0.7) == 0.0  # 0.7 * 10 is 7.000...1


def test_all_right_and_all_wrong():
    scores = np.arange(5.0)
    assert (aurc(scores, np.zeros(5)), augrc(scores, np.zeros(5))) == (0.0, 0.0)
    assert (aurc(scores, np.ones(5)), augrc(scores, np.ones(5))) == (1.0, 0.5)
    for errors in (np.zeros(5), np.ones(5)):
        with pytest.raises(DubioError, match="PRR is undefined"):
            prr(scores, errors)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_arguments_out_of_range(value):
    with pytest.raises(DubioError, match="coverage must"):
        risk_at_coverage([0.0], [0], value)
    with pytest.raises(DubioError, match="risk must"):
        coverage_at_risk([0.0], [0], value)
