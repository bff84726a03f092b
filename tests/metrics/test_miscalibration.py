"""What is known of an ECE: its bins, the test against a slow loop, and that it tells the calibrated from the rest."""

from dataclasses import astuple

import numpy as np
import pytest
from scipy.special import expit, logit

import dubio.metrics as dm
from dubio.metrics import Bootstrap
from dubio.metrics.calibration import BINS, CalibrationGroups
from dubio.metrics.miscalibration import miscalibration

SCHEMES = ("equal_mass", "equal_width")


def known(stated, happened, draws=400, units=None):
    return miscalibration(CalibrationGroups.of(stated, happened), SCHEMES, Bootstrap(draws, 3), units)


@pytest.mark.parametrize("digits", [9, 1])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_gaps_of_the_members_add_up_to_the_plain_ece(scheme, digits):
    generator = np.random.default_rng(0)
    stated = np.round(generator.random(317), digits)
    happened = generator.random(317) < stated
    members = CalibrationGroups.of(stated, happened).members(scheme)
    assert members.sum() == pytest.approx(1)
    np.testing.assert_allclose(members.sum(axis=0), 1 / 317)
    if scheme == "equal_mass":
        np.testing.assert_allclose(members.sum(axis=1), 1 / BINS)
    gaps = np.abs(members @ (stated - happened)).sum()
    assert gaps == pytest.approx(dm.ece(stated, happened, BINS, scheme))
    assert known(stated, happened)[scheme].plain == dm.ece(stated, happened, BINS, scheme)


def test_the_p_value_is_the_share_of_outcomes_drawn_as_stated_that_look_as_bad():
    generator = np.random.default_rng(5)
    stated = generator.beta(1, 9, size=300)
    happened = generator.random(300) < expit(logit(stated) + 0.4)
    measured = dm.ece(stated, happened, BINS, "equal_mass")
    slow = [dm.ece(stated, generator.random(300) < stated, BINS, "equal_mass") >= measured for _ in range(1500)]
    assert 0.02 < np.mean(slow) < 0.9
    assert known(stated, happened, 1500)["equal_mass"].p_value == pytest.approx(np.mean(slow), abs=0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_calibrated_and_other_probabilities_are_told_apart(scheme):
    generator = np.random.default_rng(1)
    stated = generator.beta(1, 9, size=2000)
    uniform = generator.random(2000)
    calm = known(stated, uniform < stated)[scheme]
    assert calm.low == 0
    assert calm.debiased < 0.6 * calm.plain
    assert calm.p_value > 0.05
    off = known(stated, uniform < expit(logit(stated) + 1))[scheme]
    true = np.abs(CalibrationGroups.of(stated, uniform < 2).members(scheme) @ (stated - expit(logit(stated) + 1))).sum()
    assert 0 < off.low < true < off.high
    assert off.debiased == pytest.approx(true, rel=0.15)
    assert off.p_value < 0.01


def test_repeated_rows_do_not_make_up_evidence():
    """Rows that each occur ten times look far off; told that they repeat one another, nothing speaks against them."""
    generator = np.random.default_rng(2)
    stated = generator.beta(2, 2, size=200)
    of = np.repeat(np.arange(200), 10)
    happened = generator.random(200) < stated
    untold, told = known(stated[of], happened[of]), known(stated[of], happened[of], units=of)
    assert untold["equal_mass"].p_value < 0.01
    assert told["equal_mass"].p_value > 0.05
    assert told["equal_mass"].low == 0
    alone = known(stated, happened)["equal_mass"]
    assert told["equal_mass"].high == pytest.approx(alone.high, rel=0.1)


@pytest.mark.parametrize("stated", [np.zeros(50), np.ones(50), np.full(50, 0.5)])
def test_probabilities_that_are_all_alike(stated):
    for happened in (np.zeros(50), np.ones(50), np.arange(50) % 2):
        for found in known(stated, happened, 60).values():
            assert 0 <= found.low <= found.debiased <= found.high <= 1
            assert 0 < found.p_value <= 1


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_order_of_rows_changes_nothing(repeats):
    g = np.random.default_rng(8)
    p = np.repeat(g.beta(1, 6, size=150), repeats)
    y, units = g.uniform(size=len(p)) < p, np.repeat(np.arange(150), repeats)
    order, names = g.permutation(len(p)), g.permutation(150)
    found, other = (
        miscalibration(CalibrationGroups.of(a, b), ("equal_mass", "equal_width"), Bootstrap(60), c)
        for a, b, c in ((p, y, units), (p[order], y[order], names[units[order]]))
    )
    for scheme, known in found.items():
        assert astuple(other[scheme]) == pytest.approx(astuple(known), abs=1e-12)
