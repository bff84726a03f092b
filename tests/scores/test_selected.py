"""The careful procedure by itself, on candidates whose scores are known: nested choice, guard, who sees which rows."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dubio.containers import Representations, concatenate
from dubio.errors import DubioError
from dubio.log_space import log_error
from dubio.scores.base import fold_of
from dubio.scores.learned.cross_validated import SelectedConfig, SelectedScore
from synthetic import planted

NOISES = 40


class Dice(SelectedScore):
    """Candidate k scores a row by a hash of its features and k: noise, unless `help` adds the truth of the last ones.

    seen: for every call, the rows that a candidate was fitted on and those that it scored.
    """

    Config = SelectedConfig
    learned = ()
    help = 0.0

    def _score_of(self, rows, k):
        noise = np.sin(1e4 * (k + 1) * rows.features.astype(np.float64).sum(axis=1))
        return noise + self.help * (k >= NOISES - 3) * rows.errors

    def _candidates(self, rows, watch):
        self.seen = [*getattr(self, "seen", []), (rows, watch)]
        return np.stack([self._score_of(watch, k) for k in range(NOISES)])

    def _choose(self, gains):
        return int(np.argmax(gains.mean(axis=1)))

    def _finish(self, rows, chosen):
        self.fitted_on, self.chosen = rows, chosen
        return {}

    def _learned_score(self, rows):
        return self._score_of(rows, self.chosen)


@pytest.fixture(scope="module")
def tables():
    return planted(300, seed=1)[0], planted(200, seed=2)[0]


def by_hand(method, held_out):
    """(AUC gains `[K, F]`, folds) of the candidates, by scikit-learn."""
    folds, errors, base = fold_of(held_out), held_out.errors, log_error(held_out.logits)
    scores = [method._score_of(held_out, k) for k in range(NOISES)]
    gains = [
        [roc_auc_score(errors[folds == f], s[folds == f]) - roc_auc_score(errors[folds == f], base[folds == f])
         for f in range(5)] for s in scores
    ]  # fmt: skip
    return np.array(gains), np.array(scores), folds


@pytest.mark.parametrize("fit", ["train", "calibration", "both"])
def test_each_fold_is_scored_by_what_the_other_folds_choose(tables, fit):
    train, held_out = tables
    method = Dice(SelectedConfig(fit=fit)).fit(train, held_out)
    gains, scores, folds = by_hand(method, held_out)
    choices = [int(np.argmax(np.delete(gains, f, axis=1).mean(axis=1))) for f in range(5)]
    assert method.chosen == int(np.argmax(gains.mean(axis=1)))
    assert set(choices) != {method.chosen}  # the luckiest of all folds is not that of four
    honest = method.out_of_fold(train, held_out)
    for f in range(5):
        np.testing.assert_array_equal(honest[folds == f], scores[choices[f]][folds == f])
    assert method.facts_["cross_validated_gain"] == pytest.approx(gains[method.chosen].mean())
    assert method.facts_["luckiest_gain"] == pytest.approx(gains.mean(axis=1).max())
    assert method.facts_["guard"]["gain"] < method.facts_["luckiest_gain"]  # 40 dice: the luckiest flatters itself


@pytest.mark.parametrize("fit", ["train", "calibration", "both"])
def test_no_candidate_scores_a_row_that_trained_it(tables, fit):
    train, held_out = tables
    method = Dice(SelectedConfig(fit=fit)).fit(train, held_out)
    assert len(method.seen) == (1 if fit == "train" else 5)
    scored = []
    for rows, watch in method.seen:
        known = {row.tobytes() for row in rows.features}
        assert not known & {row.tobytes() for row in watch.features}
        assert ({row.tobytes() for row in train.features} <= known) == (fit != "calibration")
        scored += [row.tobytes() for row in watch.features]
    assert sorted(scored) == sorted(row.tobytes() for row in held_out.features)
    expected = {"train": [train], "calibration": [held_out], "both": [train, held_out]}[fit]
    np.testing.assert_array_equal(method.fitted_on.features, concatenate(expected).features)


@pytest.mark.parametrize("guarded", [True, False])
def test_the_guard_puts_the_incumbent_in_the_place_of_dice(tables, guarded):
    train, held_out = tables
    method = Dice(SelectedConfig(fit="train", guard=guarded)).fit(train, held_out)
    incumbent = log_error(held_out.logits)
    assert method.facts_["fell_back"] == guarded
    assert np.array_equal(method.out_of_fold(train, held_out), incumbent) == guarded
    assert np.array_equal(method.score(held_out), incumbent) == guarded


def test_the_guard_keeps_what_is_better(tables, monkeypatch):
    train, held_out = tables
    monkeypatch.setattr(Dice, "help", 3.0)
    method = Dice(SelectedConfig(fit="train", guard=True)).fit(train, held_out)
    assert method.chosen >= NOISES - 3
    assert not method.facts_["fell_back"]
    assert roc_auc_score(held_out.errors, method.out_of_fold(train, held_out)) > 0.95


def test_folds_hold_errors_in_proportion():
    errors = np.arange(103) < 23
    rows = Representations.of(np.zeros((103, 1)), 2 * np.eye(2)[np.zeros(103, int)], errors.astype(int))
    folds = fold_of(rows)
    for group in (errors, ~errors):
        counts = np.bincount(folds[group], minlength=5)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(folds, fold_of(rows))


@pytest.mark.parametrize("wrong", [0, 4, 96, 100])
def test_folds_that_cannot_be_judged_are_refused(wrong):
    rows = Representations.of(np.zeros((100, 1)), 2 * np.eye(2)[np.zeros(100, int)], np.arange(100) < wrong)
    with pytest.raises(DubioError, match=f"{wrong} wrong and {100 - wrong} right rows are too few for 5 folds"):
        fold_of(rows)
    assert len(fold_of(rows, folds=2)) == 100 if wrong in (4, 96) else True
