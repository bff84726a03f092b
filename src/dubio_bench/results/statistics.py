"""Outcomes of a grid -> methods compared: means over seeds, ranks, paired intervals over rows and seeds, Holm, CD.

A column is one model on one set, with all its seeds on the same test rows. A resample draws seeds with replacement and
test rows with replacement, the rows being the same for all seeds and methods of the column, and for all models on the
set; seeds are drawn for each column alone. A mean over columns is the mean of theirs, draw by draw. So an interval
holds both what another test set and what another training run would have changed.

Sources: paired bootstrap over rows and seeds: Efron & Tibshirani 1993; ranks, Nemenyi's critical difference: Demsar
2006; step-down correction: Holm 1979.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, studentized_range

from dubio.arrays import Bool, Float64
from dubio.errors import DubioError
from dubio.metrics.bootstrap import Bootstrap, resampled_counts
from dubio.metrics.evaluation import DETECTION
from dubio.metrics.ties import TieGroups
from dubio_bench.results.cell_result import Outcome

SYSTEM = "system:"
# Of a system's own predictions: what is better, and whether more of it is.
MORE_IS_BETTER = {
    "error_roc_auc": True, "error_pr_auc": True, "fpr_at_95_tpr": False, "aurc": False, "e_aurc": False,
    "augrc": False, "prr": True, "risk_at_coverage_80": False, "risk_at_coverage_90": False,
    "coverage_at_risk_5": True, "coverage_at_risk_10": True, "accuracy": True, "nll": False, "brier": False,
    "ece_equal_width_15": False, "ece_equal_mass_15": False, "ood_roc_auc": True,
}  # fmt: skip
_Statistic = Callable[[Float64], Float64]  # counts [B, N] -> [B]


@dataclass(frozen=True)
class Column:
    """One model on one set. values: method -> a value a seed; draws: method -> `[B]`, the mean over drawn seeds."""

    model: str
    data: str
    seeds: tuple[int, ...]
    values: Mapping[str, Float64]
    draws: Mapping[str, Float64]

    @property
    def name(self) -> tuple[str, str]:
        """(model, set)."""
        return self.model, self.data


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its 95 % interval and two-sided p (normal, by the draws' standard deviation)."""

    value: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, value: float, draws: Float64) -> "Difference":
        """From its draws `[B]`; undefined ones (no wrong row was drawn) are left out."""
        known = draws[np.isfinite(draws)]
        if not np.isfinite(value) or len(known) < 2:
            return cls(value, np.nan, np.nan, np.nan)
        low, high = np.quantile(known, [0.025, 0.975])
        spread = float(known.std())
        p = 2 * float(norm.sf(abs(value) / spread)) if spread > 0 else float(value == 0)
        return cls(value, float(low), float(high), p)


@dataclass(frozen=True)
class Comparison:
    """Methods on columns by one metric. methods: those that every column has, in the grid's order.

    predictions: whose are judged, as in the outcomes.
    """

    metric: str
    columns: tuple[Column, ...]
    methods: tuple[str, ...]
    left_out: tuple[str, ...]
    predictions: str = "own"

    @property
    def sign(self) -> int:
        """1 where more is better."""
        return 1 if MORE_IS_BETTER[self.metric] else -1

    @property
    def tested(self) -> bool:
        """Whether there are intervals: not by a metric that the rows do not tell, nor from fewer than two draws."""
        return any(np.isfinite(drawn).sum() > 1 for c in self.columns for drawn in c.draws.values())

    def mean(self, method: str, column: Column) -> float:
        """Over seeds."""
        return float(column.values[method].mean())

    @cached_property
    def ranks(self) -> dict[str, float]:
        """Method -> its rank, 1 = best, by the means over seeds, averaged over columns; ties share theirs."""
        table = np.array([[self.sign * self.mean(m, c) for m in self.methods] for c in self.columns])
        places = rankdata(-table, axis=1)
        return dict(zip(self.methods, places.mean(axis=0).tolist(), strict=True))

    def difference(self, method: str, reference: str, columns: Sequence[Column] | None = None) -> Difference:
        """Method minus reference, the mean over columns."""
        chosen = self.columns if columns is None else columns
        value = float(np.mean([self.mean(method, c) - self.mean(reference, c) for c in chosen]))
        return Difference.of(value, np.mean([c.draws[method] - c.draws[reference] for c in chosen], axis=0))

    def verdicts(self, reference: str, level: float = 0.05) -> dict[str, tuple[int, int, int]]:
        """Method -> columns in which it (wins, ties, loses) against the reference.

        A column counts as won or lost where its p is significant after Holm's correction over all methods and columns;
        one without a p was not tested, and counts as nothing.
        """
        others = [m for m in self.methods if m != reference]
        found = {(m, c.name): self.difference(m, reference, [c]) for m in others for c in self.columns}
        kept = holm([d.p for d in found.values()], level)
        out = {m: [0, 0, 0] for m in others}
        for ((method, _), d), significant in zip(found.items(), kept, strict=True):
            if np.isfinite(d.p):
                out[method][1 if not significant else 0 if self.sign * d.value > 0 else 2] += 1
        return {method: (w, t, lost) for method, (w, t, lost) in out.items()}

    def critical_difference(self, level: float = 0.05) -> float | None:
        """Nemenyi's: ranks further apart differ at the level. None for fewer than two columns or methods."""
        k, n = len(self.methods), len(self.columns)
        if k < 2 or n < 2:
            return None
        return float(studentized_range.ppf(1 - level, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)))

    def cliques(self, level: float = 0.05) -> list[tuple[str, ...]]:
        """Longest runs of methods, best first, whose ranks lie within the critical difference."""
        order = sorted(self.methods, key=self.ranks.__getitem__)
        width = self.critical_difference(level)
        if width is None:
            return []
        ends = [max(j for j in range(i, len(order)) if self.ranks[order[j]] - self.ranks[order[i]] <= width)
                for i in range(len(order))]  # fmt: skip
        starts = [0, *(i for i, (a, b) in enumerate(pairwise(ends), 1) if b > a)]
        return [tuple(order[i : ends[i] + 1]) for i in starts if ends[i] > i]


def compare(
    outcomes: Sequence[Outcome], metric: str, *, methods: Sequence[str] | None = None, draws: int = 1000,
    predictions: str = "own",
) -> Comparison:  # fmt: skip
    """Compares by a metric of detection, `MORE_IS_BETTER`, or by one of systems with methods named `system:NAME`.

    methods: None for all scores (for a metric that only systems have: all systems). draws: of the bootstrap; 0: none.
    A method that a column lacks is left out of all, and told. Raises DubioError where nothing is left to compare.
    """
    if metric not in MORE_IS_BETTER:
        raise DubioError(f"no metric {metric!r}; known: {', '.join(MORE_IS_BETTER)}")
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        model, data, _, whose = outcome.place
        if whose == predictions:
            groups.setdefault((model, data), []).append(outcome)
    if not groups:
        raise DubioError("there are no finished cells to compare; run the grid first")
    cells = [outcome for group in groups.values() for outcome in group]
    asked = list(dict.fromkeys(methods or [m for outcome in cells for m in names_of(outcome, metric)]))
    for method in asked:
        if not any(_has(o, method, metric) for o in cells):
            known = list(dict.fromkeys(m for o in cells for m in names_of(o, metric) if _has(o, m, metric)))
            there = f"there are: {', '.join(known)}" if known else "nothing has that metric"
            raise DubioError(f"no cell has a method {method!r} with {metric}; {there}")
    groups, undefined = _defined(groups, metric)
    kept = [m for m in asked if all(_has(o, m, metric) for o in cells)]
    if not kept:
        raise DubioError(f"no method has {metric} in every cell; see which cells are finished by `dubio bench status`")
    columns = tuple(_column(name, group, kept, metric, draws) for name, group in groups.items())
    left_out = (*(m for m in asked if m not in kept), *undefined)
    return Comparison(metric, columns, tuple(kept), left_out, predictions)


def _defined(
    groups: Mapping[tuple[str, str], list[Outcome]], metric: str
) -> tuple[dict[tuple[str, str], list[Outcome]], list[str]]:
    """The cells in which the metric exists at all, and the names of the others: all their predictions are right."""
    if metric not in DETECTION or metric in ("aurc", "augrc"):
        return dict(groups), []
    lacking = [o for group in groups.values() for o in group if not 0 < o.wrong.sum() < len(o.wrong)]
    names = [f"{o.place[0]}-{o.place[1]}-{o.place[2]} (no errors)" for o in lacking]
    left = {name: [o for o in group if o not in lacking] for name, group in groups.items()} if lacking else groups
    return {name: group for name, group in left.items() if group}, names


def names_of(outcome: Outcome, metric: str) -> list[str]:
    """What of a cell is compared by a metric: scores by one of detection, systems by one of predictions."""
    if metric in DETECTION or metric == "ood_roc_auc":
        return [*outcome.ranks]
    return [f"{SYSTEM}{name}" for name in outcome.systems]


def holm(p: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which hypotheses are rejected at a familywise error of `level`; an undefined p never is."""
    values = np.where(np.isfinite(p), p, 1.0)
    order = np.argsort(values, kind="stable")
    passed = values[order] <= level / np.arange(len(values), 0, -1)
    count = len(passed) if passed.all() else int(np.argmin(passed))
    out = np.zeros(len(values), dtype=np.bool_)
    out[order[:count]] = True
    return out.tolist()


def _has(outcome: Outcome, method: str, metric: str) -> bool:
    """Whether the rows tell it, or it was measured: scores have no accuracy, NLL or calibration of their own."""
    system = method.startswith(SYSTEM)
    if method.removeprefix(SYSTEM) not in (outcome.systems if system else outcome.ranks):
        return False
    told = metric in DETECTION or (system and metric in ("accuracy", "nll"))
    return told or outcome.figure(method, metric) is not None


def _column(name: tuple[str, str], group: list[Outcome], methods: Sequence[str], metric: str, draws: int) -> Column:
    """Values by seed, and their means over drawn seeds on drawn rows."""
    cells = sorted(group, key=lambda outcome: outcome.place[2])
    rows = {(len(cell.wrong), cell.facts.get("test_labels")) for cell in cells}
    if len(rows) > 1:
        raise DubioError(f"{name[0]} on {name[1]}: its seeds were tested on different rows; run the grid again")
    ((count, _),), seeds = rows, tuple(cell.place[2] for cell in cells)
    statistics = {m: [_statistic(cell, m, metric) for cell in cells] for m in methods}
    once = np.ones((1, count))
    values = {
        m: np.array([_value(s, cell.figure(m, metric), once) for s, cell in zip(found, cells, strict=True)])
        for m, found in statistics.items()
    }
    drawn = {m: np.full((len(cells), draws), np.nan) for m in methods}
    if draws:
        for part, counts in resampled_counts([count], Bootstrap(draws, crc32(name[1].encode()))):
            for m, found in statistics.items():
                for i, statistic in enumerate(found):
                    if statistic is not None:
                        drawn[m][i, part] = statistic(counts)
    own = np.random.default_rng(crc32(f"{name}".encode()))
    chosen = own.multinomial(len(cells), np.full(len(cells), 1 / len(cells)), size=draws).T
    return Column(*name, seeds, values, {m: _means(table, chosen) for m, table in drawn.items()})


def _means(table: Float64, chosen: NDArray[np.int64]) -> Float64:
    """`[B]` means over the drawn seeds of values `[S, B]`, their deviation stretched to that of S - 1.

    A mean of S values drawn from S with replacement varies by (S - 1) / S of what it should.
    """
    seeds = len(table)
    drawn = np.where(chosen > 0, chosen * table, 0.0).sum(axis=0) / seeds
    if seeds < 2:
        return drawn
    middle = table.mean(axis=0)
    stretched = middle + np.sqrt(seeds / (seeds - 1)) * (drawn - middle)
    return np.where(np.isfinite(stretched), stretched, drawn)


def _value(statistic: _Statistic | None, figure: float | None, once: Float64) -> float:
    if statistic is not None:
        return float(statistic(once)[0])
    return np.nan if figure is None else figure


def _statistic(cell: Outcome, method: str, metric: str) -> _Statistic | None:
    """A metric as a function of counts `[B, N]`; None where the rows do not tell it, and only its value is known."""
    if method.startswith(SYSTEM):
        wrong, loss, ranks = cell.systems[method.removeprefix(SYSTEM)]
        if metric == "accuracy":
            return lambda counts: counts @ (1.0 - wrong) / counts.sum(axis=1)
        if metric == "nll":
            return lambda counts: counts @ loss.astype(np.float64) / counts.sum(axis=1)
    else:
        wrong, ranks = cell.wrong, cell.ranks[method]
    return _detection(ranks, wrong, metric) if metric in DETECTION else None


def _detection(ranks: NDArray[Any], wrong: Bool, metric: str) -> _Statistic:
    groups, of = TieGroups.of(ranks, wrong), DETECTION[metric]
    return lambda counts: of(groups.cumulate(counts))
