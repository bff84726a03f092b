"""A posterior's doubt in one pass: against scikit-learn's ridge on the explicit design, and rows left out in turn."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import Ridge

from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.log_space import error_log_odds
from dubio.measures import log_complement, log_mean
from dubio.scores.learned.distilled import _HEAD, Distilled, best_ridge
from dubio.scores.registry import get_method

CLASSES, WIDTH, STRONG = 3, 5, 1e12


def rows(count=150, seed=0, spread=1.0):
    """A teacher that doubts along one direction of the features, which the adapter's logits do not show."""
    g = np.random.default_rng(seed)
    z = g.normal(size=(count, WIDTH))
    logits = z[:, :CLASSES] + 0.3 * g.normal(size=(count, CLASSES))
    doubt = np.exp(0.8 * z[:, 4])[:, None]
    samples = np.stack([log_softmax(logits / doubt + spread * g.normal(size=logits.shape), axis=1) for _ in range(4)])
    labels = (g.random((count, 1)) > np.exp(log_softmax(logits, axis=1)).cumsum(axis=1)).sum(axis=1)
    return Representations.of(z, logits, labels.clip(max=CLASSES - 1), samples={"five": samples})


def fitted(table, **options):
    return get_method("five.distilled").build(**options).fit(None, table)


def teacher(table):
    mean, at = log_mean(table.samples["five"]), np.arange(len(table))
    return log_complement(mean, table.predictions) - mean[at, table.predictions]


def design(score, table, own=True):
    """The features whose inner products the kernel is."""
    norm, middle, spread = score.scales_
    z = (np.asarray(table.features, dtype=np.float64) - score.centre_) / norm
    s = (error_log_odds(table.logits) - middle) / spread
    one = np.eye(CLASSES)[table.predictions]
    columns = [z, *([z * one[:, [c]] for c in range(CLASSES)] if own else [])]
    every = np.hstack([np.ones((len(table), 1)), one])
    return np.hstack([*columns, np.sqrt(_HEAD) * every, np.sqrt(_HEAD) * every * s[:, None]])


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("ridge", [0.03, 1.0, 40.0])
def test_scores_are_those_of_a_ridge_regression_on_the_explicit_design(own, ridge):
    train, test = rows(), rows(60, 1)
    score = fitted(train, ridges=(ridge,), class_directions=own)
    oracle = Ridge(alpha=ridge, fit_intercept=False)
    oracle.fit(design(score, train, own), teacher(train) - error_log_odds(train.logits))
    expected = error_log_odds(test.logits) + oracle.predict(design(score, test, own))
    np.testing.assert_allclose(score.score(test), expected, atol=1e-8)
    assert np.abs(expected - error_log_odds(test.logits)).max() > 0.05


def test_the_ridge_is_the_one_of_least_error_left_one_out():
    train, ridges = rows(40), (0.01, 0.1, 1.0, 10.0, 100.0)
    score = fitted(train, ridges=ridges)
    x, y = design(score, train), teacher(train) - error_log_odds(train.logits)
    errors = []
    for ridge in ridges:
        gone = [Ridge(alpha=ridge, fit_intercept=False).fit(np.delete(x, i, 0), np.delete(y, i)).predict(x[[i]])[0]
                for i in range(len(y))]  # fmt: skip
        errors.append(np.mean((y - gone) ** 2))
    weights, ridge, error = best_ridge(x @ x.T, y, ridges)
    assert ridge == ridges[int(np.argmin(errors))] == score.facts_["ridge"]
    assert error == pytest.approx(min(errors), rel=1e-6)
    np.testing.assert_allclose((x @ x.T + ridge * np.eye(len(y))) @ weights, y, atol=1e-8)


def test_under_a_strong_ridge_it_is_softmax_response():
    train, test = rows(), rows(60, 1)
    own = get_method("softmax_response").build().fit(None, None).score(test)
    assert (np.argsort(fitted(train, ridges=(STRONG,)).score(test)) == np.argsort(own)).all()
    alone = replace(train, samples={"five": np.repeat(log_softmax(train.logits, axis=1)[None], 2, axis=0)})
    still = fitted(alone)  # a teacher that says what the adapter says teaches nothing
    np.testing.assert_allclose(still.score(test), error_log_odds(test.logits), atol=1e-5)


def test_it_finds_what_the_teacher_knows_without_labels_and_needs_no_samples_to_score():
    train, test = rows(600), rows(600, 1)
    blind = Representations.of(train.features, train.logits, samples=train.samples)
    score = fitted(blind)
    bare = Representations.of(test.features, test.logits)
    found, target = score.score(bare), teacher(test)
    assert np.corrcoef(found, target)[0, 1] > np.corrcoef(error_log_odds(test.logits), target)[0, 1] + 0.05
    assert score.facts_["explained"] > 0.2
    back = Distilled.with_options({"teacher": "five"}).restore(score.state())
    np.testing.assert_array_equal(back.score(bare), found)


def test_out_of_fold_scores_come_from_fits_that_have_not_seen_the_row():
    table = rows(200)
    score = fitted(table)
    own, honest = score.score(table), score.out_of_fold(None, table)
    gap = teacher(table)
    assert np.mean((honest - gap) ** 2) > np.mean((own - gap) ** 2)


def test_more_rows_than_the_dual_bears_are_drawn_from(monkeypatch):
    monkeypatch.setattr("dubio.scores.learned.distilled._ROWS", 50)
    table = rows(120)
    assert fitted(table).facts_["rows"] == 50
    np.testing.assert_array_equal(fitted(table).score(table), fitted(table).score(table))


def test_without_samples_to_learn_from_it_says_so():
    table = rows()
    for samples, words in (
        ({}, "no samples of five to learn from"),
        ({"five": table.samples["five"][:1]}, "one sample"),
    ):
        bare = Representations.of(table.features, table.logits, table.labels, samples=samples)
        with pytest.raises(DubioError, match=words):
            fitted(bare)
    for ridge in (0.0, -1.0):
        with pytest.raises(DubioError, match="greater than 0"):
            fitted(table, ridges=(ridge,))


def test_a_class_that_was_never_predicted_is_judged_as_the_others_are():
    table, test = rows(300), rows(300, 1)
    shift = replace(table, samples={"five": log_softmax(0.3 * table.logits, axis=1)[None].repeat(2, axis=0)})
    score = fitted(shift.take(shift.predictions != 2))
    away = test.take(test.predictions == 2)
    lifted = score.score(away) - error_log_odds(away.logits)
    wanted, at = log_softmax(0.3 * away.logits.astype(np.float64), axis=1), np.arange(len(away))
    target = log_complement(wanted, away.predictions) - wanted[at, away.predictions] - error_log_odds(away.logits)
    assert target.mean() > 0.5
    assert lifted.mean() > 0.4 * target.mean()


def test_repeated_rows_count_once():
    table, test = rows(60), rows(40, 1)
    thrice = replace(table.take(np.repeat(np.arange(60), 3)), groups=np.repeat(np.arange(60), 3))
    np.testing.assert_allclose(fitted(thrice).score(test), fitted(table).score(test), atol=1e-9)
    assert fitted(thrice).facts_["rows"] == 60


def test_samples_that_are_quite_sure_do_not_break_it():
    table = rows(80)
    sure = table.samples["five"].copy()
    sure[:, :3] = np.where(np.eye(CLASSES)[table.predictions[:3]] > 0, 0.0, -np.inf)
    score = fitted(replace(table, samples={"five": sure}))
    assert np.isfinite(score.score(table)).all()
