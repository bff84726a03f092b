"""The Newton path against SciPy's general optimiser on the full, unstructured problem."""

import numpy as np
import pytest
from scipy.optimize import minimize

from dubio.scores.learned.ridge_path import Design, objective, solve_path


def problem(own, n=200, d=5, groups=3, seed=0):
    g = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), g.normal(size=(n, d))])
    group = g.integers(0, groups, n)
    eta = x @ g.normal(size=d + 1) * 0.5 + 0.7 * x[:, 1] * group
    errors = g.random(n) < 1 / (1 + np.exp(-eta))
    penalty = np.ones(d + 1)
    penalty[0] = 0.01
    return Design(x, g.normal(size=n), group, penalty, groups, own), errors


@pytest.mark.parametrize("own", [0, 5])
def test_every_point_of_the_path_is_the_minimum(own):
    design, errors = problem(own)
    ridges = np.array([1.0, 0.1, 0.01, 0.001])
    size = design.x.shape[1]

    def unpack(theta):
        return theta[:size], theta[size:].reshape(design.count, own)

    for ridge, (shared, grouped) in zip(ridges, solve_path(design, errors, ridges), strict=True):
        start = np.zeros(size + design.count * own)
        found = minimize(lambda t, r=ridge: objective(design, errors, float(r), *unpack(t)), start, tol=1e-12)
        assert objective(design, errors, float(ridge), shared, grouped) <= found.fun + 1e-10
        np.testing.assert_allclose(np.concatenate([shared, grouped.ravel()]), found.x, atol=2e-4)


def test_a_group_without_rows_stays_at_zero():
    design, errors = problem(5)
    wider = Design(design.x, design.offset, design.groups, design.penalty, 4, 5)
    ((_, grouped),) = solve_path(wider, errors, np.array([0.01]))
    np.testing.assert_array_equal(grouped[3], 0.0)


def test_separable_errors_converge_too():
    design, _ = problem(0)
    errors = design.x[:, 1] > 0
    path = solve_path(design, errors, np.array([1.0, 1e-4, 1e-6]))
    assert all(np.isfinite(shared).all() for shared, _ in path)
    assert path[-1][0][1] > path[0][0][1]
