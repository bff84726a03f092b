"""Invariant 6: where errors are planted, every score ranks them higher; and a backward score is seen for what it is."""

import numpy as np
import pytest
from invariant_cases import PRECISIONS, fitted, tables
from sklearn.metrics import roc_auc_score

from dubio.decisions import Recalibrator
from dubio.metrics import aurc, prr, roc_auc
from dubio.scores.registry import METHODS


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", list(METHODS))
def test_planted_errors_score_higher(name, precision):
    test = tables(precision)[2]
    u, errors = fitted(name, precision).score(test), test.errors
    assert roc_auc_score(errors, u) > 0.65
    assert np.median(u[errors]) > np.median(u[~errors])
    assert aurc(u, errors) < errors.mean() < aurc(-u, errors)
    assert prr(u, errors) > 0.2
    assert roc_auc(-u, errors) == pytest.approx(1 - roc_auc(u, errors))


@pytest.mark.parametrize("name", list(METHODS))
def test_error_probabilities_point_the_same_way(name):
    train, calibration, test = tables()
    method = fitted(name)
    map_ = Recalibrator().fit(method.out_of_fold(train, calibration), calibration.errors)
    p = map_.predict(method.score(test))
    assert p[test.errors].mean() > p[~test.errors].mean() + 0.02
    order = np.argsort(method.score(test), kind="stable")
    assert (np.diff(p[order]) >= 0).all()
