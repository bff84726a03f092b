"""The choice by simulation: no other method than softmax response wins where none is better, however few the errors."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from dubio.containers import Representations
from dubio.scores.learned.guard import fewest_errors
from dubio.workflow.fitting import INCUMBENT, FitPlan, choose, fit_methods

SIMULATION = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "simulations_choice.py"))
WINS, RIVALS = SIMULATION["wins"], SIMULATION["RIVALS"]


def chosen(scenario, errors, rate, correlation, draws):
    return np.array([WINS(scenario, errors, rate, correlation, seed) for seed in range(draws)])


@pytest.mark.parametrize("errors", [5, 7, 10, 20])
def test_equal_methods_rarely_win_with_few_errors(errors):
    """A bootstrap within folds chose one of them in half of the draws at 5 errors."""
    found = chosen("chance", errors, 0.05, 0.0, 10)
    assert (found > 0).sum() <= binom.ppf(0.999, 10, 0.025)
    assert (found == -1).all() == (errors < fewest_errors(1 - 0.05 / RIVALS))


def test_a_better_method_wins_with_many_errors():
    assert (chosen("better", 500, 0.3, 0.9, 3) == 1).sum() >= 2


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.01, 0.1])
@pytest.mark.parametrize("errors", SIMULATION["ERRORS"])
@pytest.mark.parametrize("scenario", ["chance", "equal", "blurred", "repeats"])
def test_equal_methods_win_in_at_most_5_percent(scenario, errors, rate):
    draws = 500 if errors <= 50 else 150
    found = chosen(scenario, errors, rate, SIMULATION["CORRELATION"].get(scenario, 0.0), draws)
    assert (found > 0).mean() <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.8, 0.9])
def test_three_percentage_points_win_in_80_percent_at_500_errors(correlation):
    assert (chosen("better", 500, 0.1, correlation, 100) == 1).mean() >= 0.8


def table(wrong, rows, groups=None, seed=0):
    g = np.random.default_rng(seed)
    errors = np.arange(rows) < wrong
    judged = Representations.of(g.normal(size=(rows, 2)), np.tile([0.0, 3.0], (rows, 1)), (~errors).astype(int), groups)
    return judged, {INCUMBENT: g.normal(size=rows), **{f"m{k}": g.normal(size=rows) + 9 * errors for k in range(24)}}


def test_too_few_errors_are_said_to_be_too_few():
    judged, scores = table(9, 400)
    found = choose(scores, judged)
    assert found.method == INCUMBENT
    assert "too few of the 400 calibration rows are wrong to choose among 24 other methods (9 wrong)" in found.why
    assert "At least 10 are needed" in found.why
    judged, scores = table(10, 400)
    assert choose(scores, judged).method != INCUMBENT  # each finds all ten


def test_repeats_of_an_error_are_one_error():
    groups = np.where(np.arange(400) < 30, np.arange(400) // 5, np.arange(400))
    judged, scores = table(30, 400, groups)
    found = choose(scores, judged)
    assert found.method == INCUMBENT
    assert "30 wrong, in 6 groups of repeated texts" in found.why


def test_the_reason_says_how_many_errors_would_do():
    judged, scores = table(20, 400)
    close = scores[INCUMBENT] + 0.5 * np.random.default_rng(8).normal(size=400) + 0.15 * judged.errors
    found = choose({INCUMBENT: scores[INCUMBENT], "close": close}, judged)
    assert found.method == INCUMBENT
    assert "the nearest is close with +" in found.why
    assert "which 20 errors are too few to tell from luck (about " in found.why


def test_a_fit_on_errors_of_pure_chance_keeps_softmax_response():
    """A whole fit at 1 % errors: another method was chosen in half of such fits, by the luck of six errors."""
    g, tables = np.random.default_rng(0), []
    for rows in (400, 1200):
        z = g.normal(size=(rows, 8))
        logits = z @ np.random.default_rng(99).normal(size=(8, 3)) * 3
        y = logits.argmax(axis=1)
        wrong = np.isin(np.arange(rows), g.choice(rows, size=rows // 100, replace=False))
        tables.append(Representations.of(z, logits, np.where(wrong, (y + 1) % 3, y)))
    methods = (INCUMBENT, "entropy", "margin", "energy", "md", "md_norm", "rmd", "rmd_norm", "ddu", "knn")
    found = fit_methods(*tables, plan=FitPlan(methods, show=False))
    assert found.choice.method == INCUMBENT
    assert found.choice.why.startswith("Softmax response decides, since too few of the ")
