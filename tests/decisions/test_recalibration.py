import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dubio.decisions import Recalibrator
from dubio.decisions.recalibration import ISOTONIC, PLATT, _fit_isotonic, _fit_platt, _predict
from dubio.errors import ArtifactError, DubioError, NotFittedError
from dubio.metrics import error_probability_ece
from dubio.scores.base import State


def logistic_table(seed, n=1500):
    generator = np.random.default_rng(seed)
    u = generator.normal(size=n)
    return u, generator.random(n) < expit(1.2 * u - 1.3)


def step_table(seed, n=3000):
    generator = np.random.default_rng(seed)
    u = generator.random(n)
    return u, generator.random(n) < np.select([u < 0.3, u < 0.7], [0.02, 0.25], 0.3)


def test_platt_is_the_logistic_regression_on_smoothed_targets():
    u, errors = logistic_table(0)
    w, r = errors.sum(), (~errors).sum()
    high, low = (w + 1) / (w + 2), 1 / (r + 2)
    # A soft target is a row counted as an error with weight t and as right with weight 1 - t.
    target = np.where(errors, high, low)
    slow = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    slow.fit(np.tile(u, 2)[:, None], np.repeat([1, 0], len(u)), np.concatenate([target, 1 - target]))
    grid = np.linspace(-3, 3, 31)
    found = _predict(PLATT, _fit_platt(u, errors), grid)
    np.testing.assert_allclose(found, slow.predict_proba(grid[:, None])[:, 1], atol=1e-5)


def test_isotonic_is_scikit_learns_but_never_0_or_1():
    u, errors = logistic_table(1)
    slow = IsotonicRegression(out_of_bounds="clip").fit(u, errors.astype(float))
    grid = np.linspace(-4, 4, 201)
    expected, found = slow.predict(grid), _predict(ISOTONIC, _fit_isotonic(u, errors), grid)
    inner = (expected > 0.02) & (expected < 0.98)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-12)
    assert 0 < found.min() < found.max() < 1
    separated = _predict(ISOTONIC, _fit_isotonic(np.arange(10.0), np.arange(10) >= 6), np.arange(10.0))
    np.testing.assert_allclose(separated, [1 / 8] * 6 + [5 / 6] * 4)  # Laplace: (0 + 1) / (6 + 2), (4 + 1) / (4 + 2)


@pytest.mark.parametrize(("make", "kind"), [(logistic_table, PLATT), (step_table, ISOTONIC)])
def test_the_better_map_is_chosen_and_calibrates(make, kind):
    fitted = Recalibrator().fit(*make(0))
    assert fitted.kind_ == kind
    assert fitted.facts_["log_loss_" + kind] == min(fitted.facts_["log_loss_platt"], fitted.facts_["log_loss_isotonic"])
    u, errors = make(1)
    p = fitted.predict(u)
    assert error_probability_ece(p, errors) < 0.035
    assert log_loss(errors, p) < log_loss(errors, np.full(len(u), errors.mean()))


@given(st.integers(0, 10_000), st.integers(4, 120), st.sampled_from([0, 1, 9]), st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=60, deadline=None)
def test_monotone_inside_the_unit_interval_and_stored_to_the_bit(seed, n, digits, scale):
    generator = np.random.default_rng(seed)
    u = np.round(generator.normal(size=n), digits) * scale
    errors = generator.random(n) < expit(u / scale)
    errors[:4] = [True, False, True, False]
    fitted = Recalibrator().fit(u, errors, seed=seed)
    grid = np.sort(np.concatenate([u, generator.normal(size=500) * 5 * scale]))
    for kind, fit in ((PLATT, _fit_platt), (ISOTONIC, _fit_isotonic)):
        p = _predict(kind, fit(u, errors), grid)
        assert p.min() > 0
        assert p.max() < 1
        assert (np.diff(p) >= 0).all()
    state = fitted.state()
    facts = json.loads(json.dumps(state.facts, allow_nan=False))
    again = Recalibrator.from_state(State({k: v.copy() for k, v in state.arrays.items()}, facts))
    assert again.predict(grid).tobytes() == fitted.predict(grid).tobytes()
    assert Recalibrator().fit(u, errors, seed=seed).predict(grid).tobytes() == fitted.predict(grid).tobytes()


def test_backward_and_constant_scores_give_the_base_rate():
    u, errors = logistic_table(2)
    backward = Recalibrator().fit(-u, errors)
    assert np.ptp(backward.predict(u)) < 0.1
    constant = Recalibrator().fit(np.ones(1500), errors)
    np.testing.assert_allclose(constant.predict([0.0, 1.0, 2.0]), errors.mean(), atol=1e-3)
    assert constant.facts_["informative"] is False


@pytest.mark.parametrize(
    ("wrong", "message"), [(0, "no errors"), (1, "1 errors"), (10, "no right rows"), (9, "1 right")]
)
def test_one_class_is_an_error(wrong, message):
    with pytest.raises(DubioError, match=message):
        Recalibrator().fit(np.arange(10.0), np.arange(10) < wrong)


def test_two_errors_are_enough():
    p = Recalibrator().fit(np.arange(10.0), np.arange(10) >= 8).predict(np.arange(10.0))
    assert 0 < p.min() < p.max() < 1


def test_refusals():
    with pytest.raises(NotFittedError):
        Recalibrator().predict([0.1])
    with pytest.raises(NotFittedError):
        Recalibrator().state()
    with pytest.raises(DubioError, match="row 2"):
        Recalibrator().fit([0.0, 1.0, float("nan"), 2.0], [0, 1, 0, 1])
    with pytest.raises(DubioError, match="row 0"):
        Recalibrator().fit(*logistic_table(0)).predict([float("nan")])
    for facts, arrays in (({}, {}), ({"kind": "platt"}, {}), ({"kind": "isotonic"}, {"knots": np.zeros(2)})):
        with pytest.raises(ArtifactError, match="fit again"):
            Recalibrator.from_state(State(arrays, facts))
