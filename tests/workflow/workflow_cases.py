"""Fits for the tests of the workflow: fast registered methods on planted errors, AdUE with a grid of two trials."""

from dataclasses import replace
from functools import cache

import pytest

from dubio.scores.registry import METHODS
from dubio.workflow.fitting import FitPlan, fit_methods
from invariants.invariant_cases import SMALL, linear_head, planted
from invariants.single_thread import one_thread

__all__ = ["FAST", "fitted", "one_thread", "parts", "small_grids"]
FAST = ("softmax_response", "entropy", "temperature", "md", "knn", "huq_md", "adue", "probe_both", "refitted_both")


@cache
def parts():
    """(train, calibration, test, rows from elsewhere)."""
    away = planted(200, 14, 0.9)
    away = replace(away, features=away.features * 1.5 + 1)
    return planted(400, 11, 0.15), planted(700, 12), planted(400, 13), away


@pytest.fixture(scope="module", autouse=True)
def small_grids():
    """The registry with small grids, for the modules that import this fixture only."""
    with pytest.MonkeyPatch.context() as patch:
        for name, method in METHODS.items():
            options = {**method.options, **SMALL.get(method.target, {})}
            patch.setitem(METHODS, name, replace(method, options=options))
        yield


@cache
def fitted():
    train, calibration, _, _ = parts()
    return fit_methods(train, calibration, linear_head(), FitPlan(FAST, show=False))
