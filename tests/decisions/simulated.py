"""Simulated classifiers whose true risk at every threshold is known: the judge of what the thresholds promise."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

POPULATION = 400_000


@dataclass(frozen=True)
class World:
    """A row's true log-odds of being wrong are normal; the model reports over-confident ones, rounded if ties > 0.

    noisy: the error rate of the 5 % most certain rows (mislabelled, say). Where it is above that of the next ones, the
    error rate falls before it rises, and the promise must hold there too.
    """

    mean: float
    sd: float
    over: float = 1.5
    ties: float = 0.0
    noisy: float = 0.0

    def draw(self, generator: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Uncertainty and probability of error of each row."""
        odds = generator.normal(self.mean, self.sd, rows)
        probability = expit(odds)
        if self.noisy:
            probability = np.where(odds < self.mean - 1.645 * self.sd, self.noisy, probability)
        uncertainty = expit(self.over * odds)
        return (np.round(uncertainty / self.ties) * self.ties if self.ties else uncertainty), probability


class Truth:
    """Coverage and risk of any threshold, from a large population."""

    def __init__(self, world: World) -> None:
        uncertainty, probability = world.draw(np.random.default_rng(99), POPULATION)
        order = np.argsort(uncertainty)
        self.sorted = uncertainty[order]
        self.risk = np.cumsum(probability[order]) / np.arange(1, POPULATION + 1)

    def of(self, threshold: float | None) -> tuple[float, float]:
        """(coverage, risk) of answering at or below the threshold; (0, 0) without one."""
        rows = 0 if threshold is None else int(np.searchsorted(self.sorted, threshold, side="right"))
        return (rows / POPULATION, float(self.risk[rows - 1])) if rows else (0.0, 0.0)


HARD = World(mean=-1.3, sd=1.0)  # accuracy 75 %, error ROC-AUC 0.74
DEMO = World(mean=-1.6, sd=1.3)  # accuracy 77 %, error ROC-AUC 0.79
HARD_TIED = World(mean=-1.3, sd=1.0, ties=0.02)
COARSE = World(mean=-1.3, sd=1.0, ties=0.1)
MISLABELLED = World(mean=-1.3, sd=1.0, noisy=0.14)
FLAT = World(mean=float(np.log(0.151 / 0.849)), sd=1e-9, over=1e9)  # every threshold is bad, by a hair
