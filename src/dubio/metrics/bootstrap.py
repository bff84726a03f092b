"""Intervals by resampling rows, all methods of a table on the same draws.

A resample is a row of counts `[N]` (how often each row was drawn), so a metric that accepts weights is resampled by a
matrix of counts `[B, N]` without copying rows. Counts are made in chunks and never all held. Percentile intervals: they
hold where much hangs on many rows; what hangs on few errors has intervals of its own (`dubio.metrics.intervals`,
`dubio.metrics.miscalibration`). Source: Efron & Tibshirani 1993, chapter 13.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dubio.arrays import Float64
from dubio.errors import DubioError

CELLS = 1 << 18  # entries of a chunk of counts: a few MiB, so that it stays in the processor's cache
Statistic = Callable[[Float64], Mapping[str, Float64]]


@dataclass(frozen=True)
class Bootstrap:
    """How to resample: draws, seed, and the level of the intervals; raises DubioError on values out of range."""

    draws: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 < self.level < 1:
            raise DubioError(f"bootstrap: needs draws >= 1 and 0 < level < 1, got {self.draws} and {self.level}")


@dataclass(frozen=True)
class Resampled:
    """One metric: its value on the rows as they are (NaN where undefined), and on each resample `[B]`."""

    value: float
    draws: Float64

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Percentile interval over the resamples where the metric is defined; None if that is under half of them."""
        known = self.draws[~np.isnan(self.draws)]
        if np.isnan(self.value) or 2 * len(known) < len(self.draws) or len(known) == 0:
            return None
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def resampled_counts(strata: Sequence[int], bootstrap: Bootstrap) -> Generator[tuple[slice, Float64]]:
    """Yields (which draws, counts `[b, N]`) until all draws are made; N = sum of `strata`.

    Strata are runs of rows redrawn each within itself (in-domain and out-of-domain tables); one stratum is the plain
    bootstrap. The same seed and sizes give the same counts, whatever is computed from them.
    """
    total = sum(strata)
    step = max(1, CELLS // max(total, 1))
    generator = np.random.default_rng(bootstrap.seed)
    for start in range(0, bootstrap.draws, step):
        size = min(step, bootstrap.draws - start)
        parts: list[Float64] = []
        for rows in strata:
            drawn = generator.integers(0, rows, size=(size, rows)) + np.arange(size)[:, None] * rows
            parts.append(np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64))
        yield slice(start, start + size), np.concatenate(parts, axis=1)


def resample(
    statistics: Mapping[str, Statistic], strata: Sequence[int], bootstrap: Bootstrap
) -> dict[str, dict[str, Resampled]]:
    """Every statistic on the rows as they are and on the same draws: name -> metric -> Resampled.

    A statistic maps counts `[b, N]` to metrics, each `[b]`, NaN where undefined. Raises DubioError on an empty stratum.
    """
    if not strata or min(strata) < 1:
        raise DubioError("no rows to evaluate; give at least one")
    once = np.ones((1, sum(strata)), dtype=np.float64)
    values = {name: statistic(once) for name, statistic in statistics.items()}
    draws = {name: {metric: np.empty(bootstrap.draws) for metric in found} for name, found in values.items()}
    for part, counts in resampled_counts(strata, bootstrap):
        for name, statistic in statistics.items():
            for metric, column in statistic(counts).items():
                draws[name][metric][part] = column
    return {
        name: {metric: Resampled(float(value[0]), draws[name][metric]) for metric, value in found.items()}
        for name, found in values.items()
    }
