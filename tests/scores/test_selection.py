"""Gains and the one-standard-error rule against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dubio.errors import DubioError
from dubio.scores.learned.model_selection import error_auc, fold_gains, one_standard_error


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
