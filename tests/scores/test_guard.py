"""The guard against scikit-learn on swapped scores, against all swaps there are, and against planted truths."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_auc_score

from dubio.errors import DubioError
from dubio.scores.learned.guard import Judged, Swaps, _parts, fewest_errors, guard, guards


def data(n=400, seed=0, signal=1.0):
    g = np.random.default_rng(seed)
    errors = g.random(n) < 0.25
    return g, errors, g.normal(size=n) + signal * errors


def test_it_keeps_a_better_score_and_refuses_a_worse_one():
    _g, errors, scores = data(1200)
    folds = np.arange(1200) % 5
    better = scores + 1.0 * errors
    assert guard(better, scores, errors, folds).kept
    assert not guard(scores, better, errors, folds).kept
    same = guard(scores, scores, errors, folds)
    assert (same.kept, same.gain, same.low, same.high) == (False, 0.0, 0.0, 0.0)


def slow_gain(candidate, incumbent, errors, folds, swapped):
    """Gain in ROC-AUC, pairs within a fold, after the ranks of some rows have changed places."""
    gain, pairs = 0.0, 0
    for f in np.unique(folds):
        at = folds == f
        new, old = rankdata(candidate[at]), rankdata(incumbent[at])
        new, old = np.where(swapped[at], old, new), np.where(swapped[at], new, old)
        here = errors[at].sum() * (~errors[at]).sum()
        gain += here * (roc_auc_score(errors[at], new) - roc_auc_score(errors[at], old))
        pairs += here
    return gain / pairs


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_a_swap_changes_the_sign_of_a_part_and_nothing_else(digits):
    g, errors, scores = data(120)
    folds, units = np.arange(120) % 3, np.arange(120) // 2 * 3 + np.arange(120) % 3
    candidate, incumbent = np.round(scores + g.normal(size=120), digits), np.round(scores, digits)
    judged = Judged.of(errors, folds, units)
    parts = _parts(candidate, incumbent, judged)
    for _ in range(20):
        swapped = g.random(len(parts)) < 0.5
        expected = slow_gain(candidate, incumbent, errors, folds, swapped[judged.unit])
        assert np.where(swapped, -parts, parts).sum() == pytest.approx(expected, abs=1e-12)
    verdict = guard(candidate, incumbent, errors, folds, units=units)
    assert verdict.gain == pytest.approx(slow_gain(candidate, incumbent, errors, folds, np.zeros(120, dtype=bool)))


@pytest.mark.parametrize(("lift", "draws"), [(0.5, 40_000), (1.0, 40_000)])
def test_it_equals_the_test_over_all_swaps(lift, draws):
    """14 rows, 7 of them wrong: all 16,384 swaps, one by one."""
    g = np.random.default_rng(3)
    errors, folds = np.arange(14) % 2 == 0, np.zeros(14, dtype=np.int64)
    incumbent = g.normal(size=14)
    candidate = incumbent + lift * errors + 0.5 * g.normal(size=14)
    parts = _parts(candidate, incumbent, Judged.of(errors, folds))
    gains = np.array([(np.array(signs) * parts).sum() for signs in product((1, -1), repeat=14)])
    exact = (gains >= parts.sum() - 1e-12).mean()
    for share in (0.5, 0.8, 1.25, 2.0):  # just above and just below the exact p-value
        level = 1 - 2 * min(exact * share, 0.45)
        verdict = guard(candidate, incumbent, errors, folds, draws=draws, level=level)
        assert (verdict.low > 0) == (exact * share > exact) or exact * share > 0.45
    assert verdict.low <= verdict.gain <= verdict.high


@pytest.mark.parametrize("wrong", [8, 40])
def test_its_interval_holds_the_true_gain(wrong):
    """Normal scores of ROC-AUC .76 and .64: the 95 % interval holds the difference as often as it says."""
    truth, held = norm.cdf(1 / np.sqrt(2)) - norm.cdf(0.5 / np.sqrt(2)), 0
    errors, folds = np.arange(400) < wrong, np.arange(400) % 5
    for seed in range(100):
        g = np.random.default_rng(seed)
        verdict = guard(g.normal(size=400) + errors, g.normal(size=400) + 0.5 * errors, errors, folds, draws=400)
        held += verdict.low <= truth <= verdict.high
    assert held >= 87  # 95 % nominal of 100; 87 is far in the tail


def test_it_rarely_keeps_a_score_that_is_no_better():
    kept = 0
    for seed in range(200):
        g, errors, signal = data(300, seed)
        folds = np.arange(300) % 5
        one, two = signal + 0.5 * g.normal(size=300), signal + 0.5 * g.normal(size=300)
        kept += guard(one, two, errors, folds, draws=400, seed=seed).kept
    assert kept <= 14  # 2.5 % nominal of 200; 14 is far in the tail


@pytest.mark.parametrize("wrong", [5, 6, 8])
def test_it_is_not_fooled_by_few_errors(wrong):
    """Errors of pure chance, one or two a fold: a bootstrap within folds kept the candidate in over 15 %."""
    kept, folds = 0, np.arange(300) % 5
    errors = np.arange(300) < wrong
    for seed in range(80):
        g = np.random.default_rng(seed)
        kept += guard(g.normal(size=300), g.normal(size=300), errors, folds, draws=400, seed=seed).kept
    assert kept <= 7  # 2.5 % nominal of 80; 7 is far in the tail
    assert wrong >= fewest_errors() or kept == 0


def test_fewest_errors_is_where_all_of_them_may_be_luck():
    for level in (0.9, 0.95, 1 - 0.05 / 24, 1 - 2 * 2.0**-9):
        m = fewest_errors(level)
        assert 2.0**-m <= (1 - level) / 2 * (1 + 1e-9) < 2.0 ** -(m - 1)
    perfect = np.arange(300.0)
    for wrong in (5, 6):  # the candidate finds every error, the incumbent none
        verdict = guard(-perfect, perfect, perfect < wrong, np.zeros(300, dtype=np.int64))
        assert verdict.kept == (wrong >= fewest_errors() == 6)
        assert verdict.gain == 1.0


def test_it_compares_within_folds_only():
    _g, errors, scores = data(1000)
    folds = np.arange(1000) % 5
    shifted = scores + 100.0 * folds  # each fold on its own level, as out-of-fold fits may be
    verdict = guard(shifted, scores, errors, folds)
    assert verdict.gain == pytest.approx(0.0, abs=1e-9)


def test_rows_that_repeat_one_another_count_once():
    """Each row five times over: the interval is that of the rows alone, and not a fifth of its square."""
    g, errors, scores = data(200)
    folds, better = np.arange(200) % 4, scores + 0.5 * errors + 0.5 * g.normal(size=200)
    alone = guard(better, scores, errors, folds)
    many = [np.repeat(values, 5) for values in (better, scores, errors, folds, np.arange(200))]
    found = guard(*many[:4], units=many[4])
    assert (found.gain, found.low, found.high) == pytest.approx((alone.gain, alone.low, alone.high))
    loose = guard(*many[:4])
    assert loose.high - loose.low < 0.6 * (found.high - found.low)


def test_folds_of_one_kind_say_nothing_and_it_refuses_when_none_is_left():
    _g, errors, scores = data(100)
    folds = np.where(errors, 0, np.arange(100) % 2)  # fold 1 holds right rows only
    at = folds == 0
    both, one = (Judged.of(errors[rows], folds[rows]) for rows in (slice(None), at))
    parts = _parts(scores + errors, scores, both)
    np.testing.assert_array_equal(parts[at], _parts((scores + errors)[at], scores[at], one))
    assert not parts[~at].any()
    with pytest.raises(DubioError, match="both right and wrong"):
        guard(scores, scores, errors, errors.astype(np.int64))


def test_how_to_test_is_checked():
    for bad in ({"level": 1.0}, {"level": 0.0}, {"draws": 38}):
        with pytest.raises(DubioError, match="a guard needs"):
            Swaps(**bad)
    assert Swaps(draws=39).rank == 1
    assert guards({}, np.zeros(4), Judged.of(np.arange(4) < 2, np.zeros(4, dtype=np.int64)), Swaps()) == {}


def test_it_needs_no_table_of_pairs():
    """4,600 wrong and 15,400 right rows in one fold: their pairs alone would be 560 MB in float64."""
    _g, errors, scores = data(20_000)
    tracemalloc.start()
    guard(scores + 0.1 * errors, scores, errors, np.zeros(20_000, dtype=np.int64), draws=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
