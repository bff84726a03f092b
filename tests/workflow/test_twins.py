"""A method that differs from a fitted one in the guard alone is taken over, and equals its own fit."""

import numpy as np
import pytest

from dubio.scores.registry import get_method
from dubio.workflow.fitting import FitPlan, fit_methods
from synthetic import planted


@pytest.mark.parametrize("flip", [0.5, 0.0])
@pytest.mark.parametrize("pair", [("probe_both", "probe_guarded"), ("probe_guarded", "probe_both")])
def test_a_twin_equals_its_own_fit(pair, flip):
    train, _ = planted(rows=400, seed=1, flip=flip)
    calibration, _ = planted(rows=800, seed=2, flip=flip)
    new, _ = planted(rows=200, seed=3, flip=flip)
    fit = fit_methods(train, calibration, plan=FitPlan(("softmax_response", *pair), show=False))
    alone = get_method(pair[1]).build().fit(train, fit.judged)
    taken = fit.methods[pair[1]].score
    assert taken.config == alone.config
    assert taken.fell_back_ == alone.fell_back_
    assert taken.facts_ == alone.facts_
    assert np.array_equal(taken.score(new), alone.score(new))
    assert np.array_equal(fit.honest[pair[1]], alone.out_of_fold(train, fit.judged))
    assert fit.methods[pair[1]].fit_seconds == fit.methods[pair[0]].fit_seconds


def test_other_methods_are_no_twins():
    train, _ = planted(rows=300, seed=1)
    calibration, _ = planted(rows=600, seed=2)
    probe = get_method("probe_both").build().fit(train, calibration)
    assert probe.twin(get_method("probe").build()) is None
    assert probe.twin(get_method("refitted_both").build()) is None
    assert probe.twin(get_method("softmax_response").build()) is None
