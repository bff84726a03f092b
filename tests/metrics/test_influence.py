"""Influence functions against leaving out one row at a time, and standard errors against DeLong's."""

import numpy as np
import pytest
from scipy.stats import binomtest

import dubio.metrics as dm
from dubio.metrics.influence import SMOOTH, Ranked, of_mean, of_roc_auc
from dubio.metrics.intervals import DIFFERENCE, LOG, LOGIT, Kinds, p_of, share, smooth, spread
from dubio.metrics.table import DETECTION
from dubio.metrics.ties import TieGroups


def table(n=500, digits=9, rate=0.3, seed=0):
    generator = np.random.default_rng(seed)
    errors = generator.random(n) < rate
    return np.round(generator.normal(size=n) + errors, digits), errors


@pytest.mark.parametrize("digits", [9, 1])
@pytest.mark.parametrize("name", SMOOTH)
def test_influence_is_what_leaving_out_a_row_does(name, digits):
    scores, errors = table(digits=digits)
    groups, n = TieGroups.of(scores, errors), len(scores)
    found, whole = SMOOTH[name](Ranked.of(groups)), DETECTION[name](groups.cumulate())[0]
    assert found.value == pytest.approx(whole, abs=1e-12)
    own = found.own(errors)
    assert own.mean() == pytest.approx(0, abs=1e-12)
    without = DETECTION[name](groups.cumulate(np.ones((n, n)) - np.eye(n)))
    left_out = (whole - without) * (n - 1)
    assert np.corrcoef(own, left_out)[0, 1] > 0.999
    assert own.std() == pytest.approx(left_out.std(), rel=0.03)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_other_outcome_is_what_one_more_row_does(name):
    scores, errors = table(n=2000)
    whole = DETECTION[name](TieGroups.of(scores, errors).cumulate())[0]
    found = SMOOTH[name](Ranked.of(TieGroups.of(scores, errors)))
    for at in np.argsort(scores)[[200, 700, 1500, 1900]]:
        for kind, moved in ((True, found.wrong[at]), (False, found.right[at])):
            more = TieGroups.of(np.append(scores, scores[at]), np.append(errors, kind)).cumulate()
            assert (DETECTION[name](more)[0] - whole) * 2001 == pytest.approx(moved, abs=0.02 + 0.02 * abs(moved))


def test_of_a_difference_of_roc_aucs_it_is_delong_but_for_the_row_at_a_random_place():
    a, errors = table(n=3000)
    b = a + 0.1 * np.random.default_rng(1).normal(size=3000)
    first, second = (of_roc_auc(Ranked.of(TieGroups.of(u, errors))) for u in (a, b))
    test, (variance, df) = dm.delong_test(a, b, errors), spread(first.minus(second), Kinds(errors))
    assert first.minus(second).value == pytest.approx(test.difference)
    assert np.sqrt(variance) == pytest.approx(test.standard_error, rel=0.003)
    assert df > errors.sum() - 1
    assert p_of(first.minus(second), Kinds(errors)) == pytest.approx(test.p_value, rel=0.05)
    assert p_of(first.minus(first), Kinds(errors)) == 1.0
    assert smooth(first.minus(first), Kinds(errors), 0.95, DIFFERENCE)[:2] == (0.0, 0.0)


def test_repeated_rows_count_once():
    """Every row three times, and told so: the same interval; not told: one that is 1.7 times too narrow."""
    scores, errors = table(n=400)
    of = np.repeat(np.arange(400), 3)
    one, many = (of_roc_auc(Ranked.of(TieGroups.of(u, e))) for u, e in ((scores, errors), (scores[of], errors[of])))
    plain = smooth(one, Kinds(errors), 0.95, LOGIT)
    told = smooth(many, Kinds(errors[of], of), 0.95, LOGIT)
    untold = smooth(many, Kinds(errors[of]), 0.95, LOGIT)
    np.testing.assert_allclose(told[:2], plain[:2], rtol=1e-9)
    assert (plain.high - plain.low) / (untold.high - untold.low) == pytest.approx(np.sqrt(3), rel=0.03)
    rate, everything = errors.mean(), np.ones(400, dtype=bool)
    np.testing.assert_allclose(
        share(rate, everything[of], Kinds(errors[of], of), 0.95)[:2], share(rate, everything, Kinds(errors), 0.95)[:2],
        rtol=0.02,
    )  # fmt: skip


def test_a_share_has_clopper_and_pearsons_interval():
    for wrong, rows in ((0, 50), (1, 50), (13, 200), (50, 50)):
        errors = np.arange(rows) < wrong
        exact = binomtest(wrong, rows).proportion_ci(0.95, method="exact")
        found = share(wrong / rows, np.ones(rows, dtype=bool), Kinds(errors), 0.95)
        np.testing.assert_allclose(found[:2], (exact.low, exact.high), rtol=1e-8)


def test_a_share_without_errors_among_repeats_is_of_as_many_rows_as_there_are_groups():
    found = share(0.0, np.ones(90, dtype=bool), Kinds(np.zeros(90, dtype=bool), np.repeat(np.arange(30), 3)), 0.95)
    assert found.high == pytest.approx(binomtest(0, 30).proportion_ci(0.95, method="exact").high)


def test_a_perfect_order_has_an_interval_of_some_width():
    errors = np.arange(200) < 10
    found = smooth(of_roc_auc(Ranked.of(TieGroups.of(errors * 1.0, errors))), Kinds(errors), 0.95, LOGIT)
    assert 0.7 < found.low < 0.95
    assert found.high == 1.0


@pytest.mark.parametrize(("wrong", "rows", "words"), [
    (4, 300, "no interval holds with fewer than 5 wrong rows; there are 4"),
    (297, 300, "no interval holds with fewer than 5 right rows; there are 3"),
])  # fmt: skip
def test_too_few_rows_of_a_kind_have_no_interval_and_it_says_why(wrong, rows, words):
    errors = np.arange(rows) < wrong
    scores = np.random.default_rng(0).normal(size=rows)
    influence = of_roc_auc(Ranked.of(TieGroups.of(scores, errors)))
    assert smooth(influence, Kinds(errors), 0.95, LOGIT) == (None, None, words)
    assert Kinds(errors, np.arange(rows) // 2).too_few().startswith("no interval holds with fewer than 5")
    assert "rows that do not repeat one another" in Kinds(errors, np.arange(rows) // 2).too_few()


def test_a_mean_loss_has_the_interval_of_its_logarithm():
    generator = np.random.default_rng(0)
    loss, errors = generator.exponential(size=4000), np.arange(4000) < 1000
    found = smooth(of_mean(loss, errors), Kinds(errors), 0.95, LOG)
    half = 1.96 * loss.std() / np.sqrt(4000) / loss.mean()
    np.testing.assert_allclose(found[:2], loss.mean() * np.exp([-half, half]), rtol=2e-3)
