"""Invariant 2: density scores rank the same after z -> a z + b, and so do all scores that standardise features.

L2-normalised variants lose nothing by a scale, but a shift moves rows on the sphere: invariant to z -> a z only. AdUE
copies the head, so the head must be that of the moved features, w / a and c - sum(w) b / a. Its untrained copy is then
the same function; its training is not (Adam's steps and the anchor have the unit of the weights), so that only the
starting point is compared. Scores of the logits alone never look at features.
"""

import numpy as np
import pytest
import torch
from invariant_cases import class_of, linear_head, small, tables
from scipy.stats import spearmanr
from torch import nn

from dubio.containers import Representations
from dubio.scores.registry import METHODS

MAPS = [(2.0**-12, 0.0), (2.0**-40, 0.0), (2.0**10, 0.0), (1.0, 64.0), (-4.0, 16.0), (3.7, -2.3)]
ADUE = [name for name, method in METHODS.items() if class_of(method) == "AdUE"]
NORMALISED = [name for name, method in METHODS.items() if method.options.get("normalize")]


def on_a_grid(rows):
    """Features in steps of 1/64: shifts by integers and scales by powers of two are exact in float32."""
    return Representations(np.round(rows.features * 64) / np.float32(64), rows.logits, rows.labels)


def moved(rows, a, b):
    return Representations(rows.features * np.float32(a) + np.float32(b), rows.logits, rows.labels)


PARTS = [on_a_grid(rows) for rows in tables()]


@pytest.mark.parametrize(("a", "b"), MAPS)
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ADUE])
def test_ranks_do_not_depend_on_unit_and_origin(name, a, b):
    if name in NORMALISED:
        b = 0.0
    train, calibration, test = PARTS
    u = small(name).fit(train, calibration).score(test)
    v = small(name).fit(moved(train, a, b), moved(calibration, a, b)).score(moved(test, a, b))
    assert spearmanr(u, v).statistic > (1 - 1e-9 if a != 3.7 else 0.9999)


@pytest.mark.parametrize("name", [n for n in NORMALISED if "md" in n])
def test_a_shift_does_move_normalised_scores(name):
    train, calibration, test = PARTS
    u = small(name).fit(train, calibration).score(test)
    v = small(name).fit(moved(train, 1, 8), moved(calibration, 1, 8)).score(moved(test, 1, 8))
    assert spearmanr(u, v).statistic < 0.999


@pytest.mark.parametrize(("a", "b"), [(0.25, 0.0), (1.0, 4.0), (-4.0, 2.0)])
@pytest.mark.parametrize("name", ADUE)
def test_an_untrained_adue_under_the_head_of_the_moved_features(name, a, b):
    head = linear_head()
    other = nn.Linear(head.in_features, head.out_features)
    with torch.no_grad():
        other.weight.copy_(head.weight / a)
        other.bias.copy_(head.bias - head.weight.sum(dim=1) * b / a)
    still = {"learning_rates": (1e-30,), "epochs": (1,), "alphas": (0.0,), "betas": (0.0,)}
    rows = [Representations.of(p.features, head(torch.from_numpy(p.features)).detach(), p.labels) for p in PARTS]
    u, v = (
        METHODS[name].build(head=own, **still).fit(*(moved(p, *by) for p in rows[:2])).score(moved(rows[2], *by))
        for own, by in ((head, (1, 0)), (other, (a, b)))
    )
    np.testing.assert_allclose(u, v, atol=1e-5)
