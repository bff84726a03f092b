"""A promise from repeated rows: what they are worth, that it holds in simulation, and that artifacts keep it."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from dubio.decisions import risk_threshold
from dubio.decisions.repeats import Repeats, binomial_tail
from dubio.errors import DubioError

SIMULATION = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "simulations_promise.py"))
BROKEN, PATTERNS, DELTA = SIMULATION["broken"], SIMULATION["PATTERNS"], SIMULATION["DELTA"]


def table(seed, n, digits=9):
    g = np.random.default_rng(seed)
    u = g.random(n)
    return np.round(u, digits), g.random(n) < 0.02 + 0.5 * u**1.5


@pytest.mark.parametrize("times", [2, 3, 5])
@pytest.mark.parametrize(("n", "digits", "risk"), [(400, 9, 0.15), (1500, 9, 0.1), (1500, 1, 0.2), (60, 9, 0.05)])
def test_every_text_k_times_gives_what_the_texts_give(times, n, digits, risk):
    u, errors = table(n, n, digits)
    g = np.random.default_rng(1)
    mixed = g.permutation(n * times)
    texts = np.repeat(g.permutation(n), times)[mixed]
    alone = risk_threshold(u, errors, risk)
    found = risk_threshold(u[texts], errors[texts], risk, groups=texts)
    assert found.threshold == alone.threshold
    assert (found.rows, found.texts, found.answered, found.errors) == (
        n * times, n, times * alone.answered, times * alone.errors)  # fmt: skip
    assert found.coverage == alone.coverage
    assert found.upper_bound == pytest.approx(alone.upper_bound)
    assert f"{n * times} calibration rows ({n} distinct texts)" in found.promise
    by_rows = risk_threshold(u[texts], errors[texts], risk)
    assert by_rows.coverage >= found.coverage
    if alone.needed_rows is not None:
        assert found.needed_rows == pytest.approx(times * alone.needed_rows, rel=0.1)


def test_groups_of_one_row_change_nothing():
    u, errors = table(3, 700)
    assert risk_threshold(u, errors, 0.15, groups=np.arange(700)[::-1]) == risk_threshold(u, errors, 0.15)


def test_what_rows_are_worth_is_counted_slowly():
    g = np.random.default_rng(0)
    ids, wrong, order = g.integers(0, 40, 150), g.random(150) < 0.3, g.permutation(150)
    found = Repeats.of(ids, wrong, order)
    assert found.texts == len(set(ids.tolist()))
    for b in (1, 2, 17, 80, 150):
        sizes = np.bincount(ids[order[:b]])
        failed = np.bincount(ids[order[:b]], weights=wrong[order[:b]])
        large = max((sizes**2).sum() / sizes.sum(), (failed**2).sum() / max(failed.sum(), 1), 1.0)
        assert found.worth(np.array([b]))[0] == pytest.approx(b / large)
    assert found.whole == pytest.approx(150**2 / (np.bincount(ids) ** 2).sum())


def test_the_tail_is_the_binomials():
    n, k = np.meshgrid(np.arange(1.0, 60), np.arange(0.0, 60))
    np.testing.assert_allclose(binomial_tail(k, n, 0.15), binom.cdf(k, n, 0.15), atol=1e-12)
    between = binomial_tail(np.array([2.0, 2.5, 3.0]), np.array([30.0, 30.0, 30.0]), 0.15)
    assert (np.diff(between) > 0).all()


def test_texts_that_repeat_unevenly_are_said_to():
    u, errors = table(0, 900)
    groups = np.where(np.arange(900) < 60, 0, np.arange(900))
    u[:60], errors[:60] = 0.05, False
    found = risk_threshold(u, errors, 0.15, groups=groups)
    worth = int(900**2 / (60**2 + 840))
    assert f"900 calibration rows (841 distinct texts, which count as {worth})" in found.promise
    assert found.coverage <= risk_threshold(u, errors, 0.15).coverage


@pytest.mark.parametrize("groups", [[0], [0.5, 1.0], [-1, 0], [[0], [1]], ["a", "b"]])
def test_groups_that_are_none_are_refused(groups):
    with pytest.raises(DubioError, match="groups"):
        risk_threshold([0.1, 0.2], [0, 1], 0.1, groups=groups)


@pytest.fixture
def quick(monkeypatch):
    """Without the number of rows that would do, which takes most of the time of a refusal."""
    monkeypatch.setattr("dubio.decisions.threshold._needed_rows", lambda *_: None)


def shares(world, pattern, draws):
    """Shares of draws in which the promise is broken: with groups, and by rows."""
    found = np.array([BROKEN(world, pattern, seed) for seed in range(draws)], dtype=float)
    return found[:, 0].mean(), found[:, 2].mean()


@pytest.mark.parametrize("pattern", ["each 2 times", "each 5 times", "1 to 5 times", "one in ten 10 times"])
def test_the_promise_holds_where_texts_repeat(pattern, quick):
    """In the world where any promise is a broken one; by rows it is broken in a quarter of the draws and more."""
    kept, by_rows = shares("flat", pattern, 200)
    assert kept <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / 200)
    assert by_rows > DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / 200)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "pattern"), [(w, p) for p in PATTERNS for w in SIMULATION["worlds_of"](p)])
def test_the_promise_holds_in_1000_draws(world, pattern, quick):
    kept, by_rows = shares(world, pattern, 1000)
    print(f"\n{world}, {pattern}: broken {kept:.3f}, by rows {by_rows:.3f}")
    assert kept <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / 1000)  # most are at the nominal 10 % itself
