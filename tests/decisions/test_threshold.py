import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from dubio.decisions import risk_threshold
from dubio.decisions.threshold import _strong_size, smallest_rows, upper_bound
from dubio.errors import DubioError


def table(seed, n, digits=9):
    generator = np.random.default_rng(seed)
    u = generator.random(n)
    return np.round(u, digits), generator.random(n) < 0.02 + 0.5 * u**1.5


@pytest.mark.parametrize(("errors", "rows"), [(0, 20), (3, 50), (50, 50), (7, 400)])
def test_bound_is_clopper_pearson(errors, rows):
    # A two-sided interval at confidence 0.8 has one-sided limits at 0.9.
    slow = binomtest(errors, rows).proportion_ci(0.8, method="exact").high
    assert upper_bound(np.array([errors]), np.array([rows]), 0.1)[0] == pytest.approx(slow)


@pytest.mark.parametrize(("risk", "delta"), [(0.15, 0.1), (0.05, 0.1), (0.5, 0.25)])
def test_smallest_rows(risk, delta):
    n = smallest_rows(risk, delta)
    assert (1 - risk) ** n <= delta < (1 - risk) ** (n - 1)
    assert upper_bound(np.array([0]), np.array([n]), delta)[0] <= risk + 1e-12


@given(st.integers(0, 10_000), st.integers(1, 600), st.sampled_from([1, 2, 9]),
       st.sampled_from([0.05, 0.15, 0.4]), st.sampled_from([0.05, 0.1, 0.3]))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_what_is_reported_is_what_the_rule_does(seed, n, digits, risk, delta):
    u, errors = table(seed, n, digits)
    found = risk_threshold(u, errors, risk, delta)
    answered = found.answers(u)
    assert (found.answered, found.errors) == (answered.sum(), errors[answered].sum())
    assert found.coverage == pytest.approx(answered.mean())
    assert found.rows == n
    if found.threshold is None:
        assert not answered.any()
        assert found.upper_bound is None
        assert found.needed_rows is None or found.needed_rows > 1.1 * n
        assert found.needed_rows is None or len(str(found.needed_rows).rstrip("0")) <= 2
        assert "No threshold can be promised" in found.promise
    else:
        np.testing.assert_array_equal(answered, u <= found.threshold)
        assert found.threshold in u
        assert found.upper_bound <= risk + 1e-9
        assert binomtest(found.errors, found.answered, risk, "less").pvalue <= delta + 1e-9
        assert found.answered >= smallest_rows(risk, delta)
        assert found.needed_rows is None
    assert "\n" not in found.promise


@given(st.integers(0, 10_000), st.sampled_from([1, 9]))
@settings(max_examples=30, deadline=None)
def test_row_order_and_monotone_maps_change_nothing(seed, digits):
    u, errors = table(seed, 400, digits)
    rows = np.random.default_rng(seed).permutation(400)
    found = risk_threshold(u, errors, 0.15)
    assert risk_threshold(u[rows], errors[rows], 0.15) == found
    moved = risk_threshold(np.exp(u), errors, 0.15)
    np.testing.assert_array_equal(moved.answers(np.exp(u)), found.answers(u))


def test_a_tied_group_is_answered_whole_or_not_at_all():
    u = np.repeat([0.1, 0.2, 0.9], [200, 300, 500])
    errors = np.zeros(1000, dtype=bool)
    errors[200:230] = errors[500:800] = True
    found = risk_threshold(u, errors, 0.15)
    assert (found.threshold, found.answered, found.errors) == (0.2, 500, 30)


def test_candidates_are_chosen_without_labels():
    """The walk stops at the first failure: a bad stretch shields all that comes after it, however good."""
    errors = np.zeros(1000, dtype=bool)
    errors[200:320] = True
    found = risk_threshold(np.arange(1000.0), errors, 0.15)
    assert found.answered < 320  # though 120 errors in all 1,000 rows would pass by themselves
    assert upper_bound(np.array([120]), np.array([1000]), 0.1)[0] <= 0.15


def test_all_right_all_wrong_and_too_few():
    everything = risk_threshold(np.arange(500.0), np.zeros(500), 0.05)
    assert (everything.coverage, everything.errors) == (1.0, 0)
    nothing = risk_threshold(np.arange(500.0), np.ones(500), 0.05)
    assert (nothing.threshold, nothing.needed_rows) == (None, None)
    assert "raise the budget" in nothing.promise
    few = risk_threshold(np.arange(20.0), np.zeros(20), 0.05)
    assert few.threshold is None
    assert few.needed_rows >= smallest_rows(0.05, 0.1)
    assert f"about {few.needed_rows} of them, {few.needed_rows / 20:.1f} times as many" in few.promise


def test_needed_rows_are_about_enough():
    """Tables of the median estimate find a threshold in about half of the draws or more."""

    def draw(seed, n):
        generator = np.random.default_rng(seed)
        u = generator.random(n)
        return risk_threshold(u, generator.random(n) < 0.01 + 0.3 * u**2, 0.05)

    refused = [found for found in (draw(seed, 100) for seed in range(150)) if found.threshold is None]
    assert len(refused) > 60
    median = int(np.median([found.needed_rows for found in refused if found.needed_rows]))
    success = np.mean([draw(1000 + seed, median).threshold is not None for seed in range(100)])
    assert 0.4 <= success <= 0.97


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_budgets_outside_the_unit_interval(value):
    with pytest.raises(DubioError, match="risk must lie"):
        risk_threshold([0.1], [0], value)
    with pytest.raises(DubioError, match="delta must lie"):
        risk_threshold([0.1], [0], 0.1, value)


def test_bad_arrays():
    with pytest.raises(DubioError, match="no calibration rows"):
        risk_threshold([], [], 0.1)
    with pytest.raises(DubioError, match="row 1"):
        risk_threshold([0.1, float("nan")], [0, 1], 0.1)
    with pytest.raises(DubioError, match="row 0"):
        risk_threshold(np.arange(500.0), np.zeros(500), 0.05).answers([float("inf")])


def slow_threshold(u, errors, risk, delta):
    """The walk of the module's docstring in plain loops, each step tested by SciPy's binomial test."""
    n, size = len(u), _strong_size(risk, delta)
    start = min(max(min(max(size, np.ceil(0.05 * n)), np.ceil(0.3 * n)), smallest_rows(risk, delta)), n)
    cuts, at = [], start
    while at < n:
        cuts.append(np.sort(u)[int(at) - 1])
        at += max(0.01 * n, 1)
    cuts = sorted({*cuts, u.max()})
    answered = [int((u <= t).sum()) for t in cuts]
    spare = 0.3 * n >= 2 * size and any(k >= 0.3 * n for k in answered)
    second = next((i for i, k in enumerate(answered) if k >= 0.3 * n), None) if spare else None
    level, kept = 0.0, None
    for i, t in enumerate(cuts):
        if i == 0:
            level += delta if second is None else 0.8 * delta
        if i == second:
            level += 0.2 * delta
        wrong = int(errors[u <= t].sum())
        if level > 0 and binomtest(wrong, answered[i], risk, "less").pvalue <= level:
            kept = t
        else:
            level = 0.0
    return kept


@pytest.mark.parametrize(("risk", "delta"), [(0.15, 0.1), (0.05, 0.1), (0.3, 0.2)])
@pytest.mark.parametrize("n", [60, 400, 2500])
def test_equals_a_slow_walk_with_scipys_test(n, risk, delta):
    given_at = []
    for seed in range(12):
        u, errors = table(seed, n, 2 if seed % 3 == 0 else 9)
        if seed % 4 == 3:
            errors |= u < 0.04  # mislabelled rows at the safe end
        found = risk_threshold(u, errors, risk, delta).threshold
        assert found == slow_threshold(u, errors, risk, delta)
        given_at.append(found is not None)
    assert any(given_at) or (n, risk) in ((60, 0.15), (60, 0.05), (400, 0.05))


def test_the_fallback_start_is_used_only_with_rows_to_spare():
    """The safe end is all wrong: 4,000 rows can pay for a second start, 400 cannot."""
    for n, promised in ((4000, True), (400, False)):
        u = np.arange(float(n))
        found = risk_threshold(u, u < 0.06 * n, 0.3, 0.1)
        assert (found.threshold is not None) == promised
