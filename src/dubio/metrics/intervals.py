"""Intervals and p-values that hold with few errors: influence functions, a scale, Student's t; or exact counts.

Smooth metrics. With W wrong and R right rows, IF the influence (`dubio.metrics.influence`), and one row more of each
kind at a random place:
    v_w = (sum over wrong rows of IF^2 + mean over places of IF(wrong)^2) / N^2 * W / (W - 1),   v_r likewise
    T on its scale +- t(df) sqrt(v_w + v_r),   df = (v_w + v_r)^2 / (v_w^2 / (W - 1) + v_r^2 / (R - 1))
Without the row at a random place ten errors that happen to lie together would look certain. The scale is the
logarithm or the logit, since these metrics are skewed near their ends. A paired difference is on its own scale, and its
p-value is that of t; for ROC-AUC this is DeLong's test with those two changes.
Shares (accuracy, risk at a coverage). Clopper and Pearson's interval, which is exact.
Rows that repeat one another (`units`) count once: influence is summed within a unit, and a share is of as many rows as
would vary as much (Korn & Graubard 1998). Rows whose influence is no longer smooth are resampled: see `FEWEST_FLAGGED`.
With fewer than FEWEST units of a kind no interval holds, and none is given. Both limits come from simulation:
benchmarks/simulations_intervals.py. Papers: Satterthwaite 1946; Clopper & Pearson 1934; DeLong et al. 1988.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta, t

from dubio.arrays import Bool, Int64
from dubio.metrics.influence import Influence

FEWEST = 5  # wrong units, and right ones, below which a smooth metric has no interval
FEWEST_FLAGGED = 100  # wrong units below which the false positive rate at 95 % of them has none
FEWEST_UNDER = 20  # errors under the threshold below which a coverage at a risk has none
FEWEST_DELONG = 100  # of each kind below which the normal approximation of DeLong's test is not shown


class Interval(NamedTuple):
    """low and high, or None and why in words."""

    low: float | None
    high: float | None
    why: str | None = None


@dataclass(frozen=True)
class Scale:
    """A transformation that makes a metric's spread even: to it, back, and its slope; its domain is open."""

    to: Callable[[float], float]
    back: Callable[[float], float]
    slope: Callable[[float], float]
    domain: tuple[float, float]

    def upto(self, top: float) -> "Scale":
        """The same, of a metric that is never above `top`; ends of intervals are cut there."""
        return replace(self, back=lambda y: min(self.back(y), top))


LINEAR = Scale(lambda x: x, lambda y: y, lambda _: 1.0, (-np.inf, np.inf))
DIFFERENCE = replace(LINEAR, back=lambda y: min(max(y, -1.0), 1.0))
LOG = Scale(lambda x: float(np.log(x)), lambda y: float(np.exp(min(y, 700.0))), lambda x: 1 / x, (0.0, np.inf))
LOGIT = Scale(lambda x: float(logit(x)), lambda y: float(expit(y)), lambda x: 1 / (x * (1 - x)), (0.0, 1.0))


@dataclass(frozen=True)
class Kinds:
    """Which rows are wrong `[N]`, and which unit `[N]` (numbered from 0) each belongs to; None: every row its own."""

    errors: Bool
    units: Int64 | None = None
    names: tuple[str, str] = ("wrong", "right")

    @property
    def unit(self) -> Int64:
        """`[N]` number of each row's unit."""
        return np.arange(len(self.errors)) if self.units is None else self.units

    def wrong_units(self) -> Bool:
        """`[G]` whether a unit has a wrong row."""
        return np.bincount(self.unit, weights=self.errors) > 0

    def counts(self) -> tuple[int, int]:
        """Numbers of units with a wrong row, and without."""
        wrong = self.wrong_units()
        return int(wrong.sum()), int((~wrong).sum())

    def one_sided(self) -> str:
        """Why what compares wrong with right rows is undefined."""
        wrong, right = self.names
        kinds = set(self.errors.tolist())
        return (
            f"no row is {wrong}" if kinds == {False} else f"no row is {right}" if kinds == {True} else "undefined here"
        )

    def too_few(self, fewest: int = FEWEST, right: int | None = None, what: str = "interval") -> str | None:
        """Why no interval holds, in words; None with `fewest` wrong units and `right` (as many) right ones."""
        rows = "rows" if self.units is None else "rows that do not repeat one another"
        needed = (fewest, fewest if right is None else right)
        for count, kind, least in zip(self.counts(), self.names, needed, strict=True):
            if count < least:
                return f"no {what} holds with fewer than {least} {kind} {rows}; there are {count}"
        return None


def spread(influence: Influence, kinds: Kinds) -> tuple[float, float]:
    """(variance, degrees of freedom) of a metric; both kinds of rows must be there."""
    rows = len(kinds.errors)
    moved = np.bincount(kinds.unit, weights=influence.own(kinds.errors))
    wrong = kinds.wrong_units()
    size = (rows / len(moved)) ** 2
    parts: list[tuple[float, int]] = []
    for at, open_ in ((wrong, influence.wrong), (~wrong, influence.right)):
        count = max(int(at.sum()), 2)
        total = float((moved[at] ** 2).sum()) + size * float((open_**2).mean())
        parts.append((total / rows**2 * count / (count - 1), count - 1))
    variance = sum(v for v, _ in parts)
    below = sum(v * v / df for v, df in parts)
    return variance, variance**2 / below if below > 0 else 1.0


def smooth(influence: Influence, kinds: Kinds, level: float, scale: Scale = LINEAR) -> Interval:
    """The interval of a smooth metric, or why there is none. The value itself is always inside."""
    why = kinds.too_few()
    if why:
        return Interval(None, None, why)
    variance, df = spread(influence, kinds)
    half, value = float(t.ppf((1 + level) / 2, df)) * float(np.sqrt(variance)), influence.value
    lowest, highest = scale.domain
    if not lowest < value < highest:  # a perfect order: the scale has no place for it
        return Interval(max(value - half, lowest), min(value + half, highest))
    at, width = scale.to(value), half * scale.slope(value)
    return Interval(min(scale.back(at - width), value), max(scale.back(at + width), value))


def p_of(influence: Influence, kinds: Kinds) -> float | None:
    """Two-sided p-value of a metric (a paired difference) against 0; None with fewer than two units of a kind."""
    if min(kinds.counts()) < 2:
        return None
    variance, df = spread(influence, kinds)
    if variance == 0:
        return 1.0 if influence.value == 0 else 0.0
    return float(2 * t.sf(abs(influence.value) / np.sqrt(variance), df))


def share(value: float, members: Bool, kinds: Kinds, level: float) -> Interval:
    """Clopper and Pearson's interval of the share `value` of wrong rows among the rows `[N]` that are members.

    value: with ties at the edge it is the expected share, and its count need not be whole.
    """
    inside, unit = kinds.errors[members], kinds.unit[members]
    rows = float(len(inside))
    if kinds.units is not None:
        groups = np.unique(unit)
        moved = np.bincount(np.searchsorted(groups, unit), weights=inside - value)
        same = float(len(groups))
        varied = float((moved**2).sum()) * same / max(same - 1, 1)
        rows = same if varied == 0 else min(rows, rows**2 * value * (1 - value) / varied)
    tail, wrong = (1 - level) / 2, value * rows
    low = 0.0 if wrong <= 0 else float(beta.ppf(tail, wrong, rows - wrong + 1))
    high = 1.0 if wrong >= rows else float(beta.ppf(1 - tail, wrong + 1, rows - wrong))
    return Interval(min(low, value), max(high, value))
