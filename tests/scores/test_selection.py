"""Gains, the one-standard-error rule and the guard against scikit-learn, slow loops and planted truths."""

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dubio.errors import DubioError
from dubio.scores.selection import error_auc, fold_gains, guard, one_standard_error


def data(n=400, seed=0, signal=1.0):
    g = np.random.default_rng(seed)
    errors = g.random(n) < 0.25
    return g, errors, g.normal(size=n) + signal * errors


def test_auc_equals_scikit_learn_under_ties():
    _g, errors, scores = data()
    many = np.stack([scores, np.round(scores), np.zeros(400), -scores])
    expected = [roc_auc_score(errors, row) for row in many]
    np.testing.assert_allclose(error_auc(many, errors), expected)


def test_auc_of_one_kind_of_rows_is_refused():
    with pytest.raises(DubioError, match="both right and wrong"):
        error_auc(np.zeros((1, 3)), np.zeros(3, dtype=bool))


def test_fold_gains_equal_a_loop():
    g, errors, scores = data()
    folds, other = np.arange(400) % 4, g.normal(size=(2, 400))
    gains = fold_gains(other, scores, errors, folds)
    for f in range(4):
        at = folds == f
        for k in range(2):
            expected = roc_auc_score(errors[at], other[k, at]) - roc_auc_score(errors[at], scores[at])
            assert gains[k, f] == pytest.approx(expected)


def test_one_standard_error_prefers_caution_only_within_the_noise():
    gains = np.array([[0.030, 0.034, 0.032], [0.0315, 0.0325, 0.0305], [0.0, 0.0, 0.0]])
    caution = np.array([0.0, 1.0, 2.0])
    assert one_standard_error(gains, caution) == 1  # within the best's noise and more cautious
    assert one_standard_error(gains[[0, 2]], caution[[0, 2]]) == 0  # far below the best: caution does not pay


def test_guard_keeps_a_better_score_and_refuses_a_worse_one():
    _g, errors, scores = data(1200)
    folds = np.arange(1200) % 5
    better = scores + 1.0 * errors
    assert guard(better, scores, errors, folds).kept
    assert not guard(scores, better, errors, folds).kept
    assert not guard(scores, scores, errors, folds).kept


def test_guard_rarely_keeps_a_score_that_is_no_better():
    kept = 0
    for seed in range(200):
        g, errors, signal = data(300, seed)
        folds = np.arange(300) % 5
        one, two = signal + 0.5 * g.normal(size=300), signal + 0.5 * g.normal(size=300)
        kept += guard(one, two, errors, folds, draws=400, seed=seed).kept
    assert kept <= 14  # 2.5 % nominal of 200; 14 is far in the tail


def test_guard_compares_within_folds_only():
    _g, errors, scores = data(1000)
    folds = np.arange(1000) % 5
    shifted = scores + 100.0 * folds  # each fold on its own level, as out-of-fold fits may be
    verdict = guard(shifted, scores, errors, folds)
    assert verdict.gain == pytest.approx(0.0, abs=1e-9)


def slow_guard(candidate, incumbent, errors, folds, draws, generator):
    """(gain, gains of resamples) from the wins of every pair of a wrong and a right row of one fold."""
    tables = []
    for f in np.unique(folds):
        wrong, right = np.flatnonzero(errors & (folds == f)), np.flatnonzero(~errors & (folds == f))
        wins = [[np.sign(s[i] - s[j]) / 2 for j in right] for i in wrong for s in (candidate, incumbent)]
        tables.append(np.array(wins[::2]) - np.array(wins[1::2]))
    pairs = sum(table.size for table in tables)

    def redrawn(table):
        return table[np.ix_(*(generator.integers(0, n, n) for n in table.shape))].sum()

    resampled = [sum(redrawn(table) for table in tables) / pairs for _ in range(draws)]
    return sum(table.sum() for table in tables) / pairs, np.array(resampled)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_guard_equals_a_slow_loop_over_pairs(digits):
    g, errors, scores = data(300)
    folds = np.arange(300) % 5
    better = np.round(scores + 0.4 * errors + 0.3 * g.normal(size=300), digits)
    found = guard(better, np.round(scores, digits), errors, folds, draws=4000)
    gain, resampled = slow_guard(better, np.round(scores, digits), errors, folds, 4000, g)
    assert found.gain == pytest.approx(gain, abs=1e-12)
    np.testing.assert_allclose((found.low, found.high), np.quantile(resampled, [0.025, 0.975]), atol=0.006)
    assert resampled.std() > 0.012  # so that the tolerance above means something
    assert found == guard(better, np.round(scores, digits), errors, folds, draws=4000)


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


def test_a_unit_of_right_and_wrong_rows_is_drawn_as_one():
    g, errors, scores = data(300)
    folds, units = np.zeros(300, dtype=np.int64), np.arange(300) // 3
    better = scores + 0.5 * errors + 0.5 * g.normal(size=300)
    found = guard(better, scores, errors, folds, units=units, draws=3000)
    wrong = np.array([errors[units == u].any() for u in range(100)])
    resampled = []
    for _ in range(600):
        drawn = np.concatenate([g.choice(np.flatnonzero(kind), kind.sum()) for kind in (wrong, ~wrong)])
        rows = (3 * drawn[:, None] + np.arange(3)).ravel()
        resampled.append(roc_auc_score(errors[rows], better[rows]) - roc_auc_score(errors[rows], scores[rows]))
    np.testing.assert_allclose((found.low, found.high), np.quantile(resampled, [0.025, 0.975]), atol=0.012)
    assert np.std(resampled) > 0.015


def test_guard_skips_folds_of_one_kind_and_refuses_when_none_is_left():
    _g, errors, scores = data(100)
    folds = np.where(errors, 0, np.arange(100) % 2)  # fold 1 holds right rows only
    at = folds == 0
    both, one = guard(scores + errors, scores, errors, folds), guard((scores + errors)[at], scores[at], errors[at],
                                                                     folds[at])  # fmt: skip
    assert both == one
    with pytest.raises(DubioError, match="both right and wrong"):
        guard(scores, scores, errors, errors.astype(np.int64))


def test_guard_needs_no_table_of_pairs():
    """4,600 wrong and 15,400 right rows in one fold: their pairs alone would be 560 MB in float64."""
    _g, errors, scores = data(20_000)
    tracemalloc.start()
    guard(scores + 0.1 * errors, scores, errors, np.zeros(20_000, dtype=np.int64), draws=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
