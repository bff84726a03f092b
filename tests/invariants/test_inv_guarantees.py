"""Invariant 7, for every registered method: the threshold keeps its budget in at least 1 - delta of the draws.

How exact the promise is, in the worst case and against MAPIE, tests/decisions judges on worlds with a known truth.
Here each method's own scores are the population: ties, gaps and any relation of score to error that methods produce.
"""

import numpy as np
import pytest
from invariant_cases import fitted, planted

from dubio.decisions import risk_threshold
from dubio.scores.registry import METHODS

RISK, DELTA, ROWS, DRAWS = 0.12, 0.1, 300, 150
POPULATION = planted(6000, 4)


@pytest.mark.parametrize("name", list(METHODS))
def test_the_budget_is_kept(name):
    u, errors = fitted(name).score(POPULATION), POPULATION.errors
    order = np.argsort(u, kind="stable")
    risk_until = np.cumsum(errors[order]) / np.arange(1, len(u) + 1)
    generator = np.random.default_rng(5)
    broken = given = 0
    for _ in range(DRAWS):
        drawn = generator.integers(0, len(u), ROWS)
        found = risk_threshold(u[drawn], errors[drawn], RISK, DELTA).threshold
        if found is not None:
            answered = int(np.searchsorted(u[order], found, side="right"))
            broken, given = broken + (risk_until[answered - 1] > RISK), given + 1
    assert errors.mean() > RISK  # without a threshold the budget would be broken
    assert given > 0.1 * DRAWS  # a refusal breaks nothing, and proves nothing
    assert broken / DRAWS <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / DRAWS)
