"""The promise itself, by simulation: error rate <= 15 % of the answered rows, in at least 90 % of the draws."""

import warnings

import numpy as np
import pytest
import simulated
from simulated import Truth, World

from dubio.decisions import risk_threshold

RISK, DELTA, ROWS = 0.15, 0.1, 1000
WORLDS = {name: getattr(simulated, name) for name in ("HARD", "DEMO", "HARD_TIED", "COARSE", "MISLABELLED")}


def simulate(world: World, draws: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of each draw and whether its budget was broken."""
    truth, generator = Truth(world), np.random.default_rng(7)
    coverage, broken = np.zeros(draws), np.zeros(draws, dtype=bool)
    for i in range(draws):
        uncertainty, probability = world.draw(generator, rows)
        found = risk_threshold(uncertainty, generator.random(rows) < probability, RISK, DELTA)
        coverage[i], risk = truth.of(found.threshold)
        broken[i] = risk > RISK
    return coverage, broken


@pytest.mark.parametrize("name", WORLDS)
def test_promise_is_kept_in_200_draws(name):
    coverage, broken = simulate(WORLDS[name], 200)
    assert broken.mean() <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / 200)
    assert coverage.mean() > 0.3


def test_few_rows_break_it_no_more_often():
    _, broken = simulate(simulated.HARD, 200, rows=120)
    assert broken.mean() <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / 200)


def test_mislabelled_safe_rows_do_not_forbid_everything():
    coverage, broken = simulate(simulated.MISLABELLED, 100, rows=4000)
    assert broken.mean() <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / 100)
    assert coverage.mean() > 0.45  # 0.11 without the second start


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_promise_is_kept_in_1000_draws(name):
    coverage, broken = simulate(WORLDS[name], 1000)
    print(f"\n{name}: broken {broken.mean():.3f}, coverage {coverage.mean():.3f}, none {(coverage == 0).mean():.3f}")
    assert broken.mean() <= DELTA


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1000, 3000])
def test_worst_case_where_every_threshold_is_bad(rows):
    """Any threshold at all breaks the budget here: how often one is given is the error of the whole procedure."""
    coverage, broken = simulate(simulated.FLAT, 2000, rows)
    print(f"\nFLAT, {rows} rows: broken {broken.mean():.4f}")
    assert (broken == (coverage > 0)).all()
    assert 0.01 < broken.mean() <= DELTA


def mapie_threshold(uncertainty: np.ndarray, errors: np.ndarray) -> float | None:
    """MAPIE's default: Hoeffding-Bentkus p-values, Bonferroni-Holm over 100 confidence thresholds."""
    from mapie.risk_control import BinaryClassificationController

    controller = BinaryClassificationController(
        lambda x: np.stack([1 - x[:, 0], x[:, 0]], axis=1),
        risk="precision", target_level=1 - RISK, confidence_level=1 - DELTA,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it finds no threshold
        controller.calibrate((1 - uncertainty)[:, None], (~errors).astype(int))
    best = controller.best_predict_param
    return None if best is None else 1 - float(np.ravel(best)[0])


def against_mapie(world: World, draws: int) -> tuple[float, float, float]:
    """Mean coverage of ours and of MAPIE on the same draws, and the share of draws in which ours broke the budget."""
    truth, generator = Truth(world), np.random.default_rng(11)
    ours, theirs, broken = np.zeros(draws), np.zeros(draws), 0
    for i in range(draws):
        uncertainty, probability = world.draw(generator, ROWS)
        errors = generator.random(ROWS) < probability
        ours[i], risk = truth.of(risk_threshold(uncertainty, errors, RISK, DELTA).threshold)
        theirs[i], _ = truth.of(mapie_threshold(uncertainty, errors))
        broken += risk > RISK
    return float(ours.mean()), float(theirs.mean()), broken / draws


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("HARD", 1.3), ("DEMO", 1.1)])
def test_answers_more_than_mapie(name, least):
    """In DEMO even the true optimum answers only 1.29 times what MAPIE does, so that 1.3 is asked of HARD."""
    pytest.importorskip("mapie")
    ours, theirs, broken = against_mapie(WORLDS[name], 1000)
    print(f"\n{name}: ours {ours:.3f}, MAPIE {theirs:.3f}, ratio {ours / theirs:.2f}, broken {broken:.3f}")
    assert broken <= DELTA
    assert ours / theirs >= least
