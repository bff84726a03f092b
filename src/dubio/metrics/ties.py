"""Rows sorted once by score and cut into groups of equal score, from which every ranking metric is computed.

A metric never sees the order of rows inside a group, so it cannot depend on it. Weights `[B, N]` are how often each
row occurs in each of B bootstrap resamples: sorting once and summing B times is what makes the bootstrap cheap.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from dubio.arrays import Float64, Int64, as_errors, as_vector
from dubio.errors import DubioError


@dataclass(frozen=True)
class Cumulative:
    """Counts per tie group, ascending by score: all arrays `[B, G]`, totals `[B]`.

    rows, positives: inside the group. rows_before, positives_before: in all groups of lower score.
    """

    rows: Float64
    positives: Float64
    rows_before: Float64
    positives_before: Float64
    total: Float64
    total_positives: Float64

    @property
    def total_negatives(self) -> Float64:
        """`[B]` number of negative rows."""
        return self.total - self.total_positives


@dataclass(frozen=True)
class TieGroups:
    """Rows in ascending order of score. order `[N]`, starts `[G]` of the groups in that order, positive `[N]` 0/1."""

    order: Int64
    starts: Int64
    positive: Float64

    @classmethod
    def of(cls, scores: Any, positives: Any) -> Self:
        """Sorts; raises DubioError on no rows, NaN, infinity, lengths that differ, or positives other than 0/1."""
        values = as_vector(scores, "scores")
        if len(values) == 0:
            raise DubioError("no rows to evaluate; give at least one")
        positive = as_errors(positives, rows=len(values))
        order = np.argsort(values, kind="stable")
        ranked = values[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        return cls(order, starts, positive[order].astype(np.float64))

    def __len__(self) -> int:
        return len(self.order)

    @property
    def sizes(self) -> Int64:
        """`[G]` number of rows in each group."""
        return np.diff(np.append(self.starts, len(self.order)))

    def sums(self, ordered: Float64) -> Float64:
        """`[B, G]` sums inside each group of values `[B, N]` that are already in this order."""
        return ordered if len(self.starts) == len(self.order) else np.add.reduceat(ordered, self.starts, axis=1)

    def cumulate(self, weights: Float64 | None = None) -> Cumulative:
        """Counts per group under weights `[B, N]` (whole numbers, in the original row order); None = each row once."""
        ordered = np.ones((1, len(self)), dtype=np.float64) if weights is None else np.take(weights, self.order, axis=1)
        rows, positives = self.sums(ordered), self.sums(ordered * self.positive)
        rows_until, positives_until = np.cumsum(rows, axis=1), np.cumsum(positives, axis=1)
        return Cumulative(
            rows,
            positives,
            rows_until - rows,
            positives_until - positives,
            rows_until[:, -1].copy(),
            positives_until[:, -1].copy(),
        )


@dataclass(frozen=True)
class Curve:
    """Points of a figure: x `[M]` ascending, y `[M]`."""

    x: Float64
    y: Float64


def ratio(above: Float64, below: Float64) -> Float64:
    """`above / below`, and NaN (undefined) where `below` is 0."""
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def defined(value: Float64, name: str) -> float:
    """The one entry of `value` as a float; raises DubioError where it is undefined (NaN)."""
    if np.isnan(value[0]):
        raise DubioError(f"{name} is undefined here: it needs both positive (wrong) and negative (right) rows")
    return float(value[0])


def tie_share(scores: Any) -> float:
    """Share of rows whose score another row has too, in [0, 1]; a high share means that the score has lost digits."""
    values = as_vector(scores, "scores")
    if len(values) == 0:
        raise DubioError("no rows to evaluate; give at least one")
    counts = np.unique(values, return_counts=True)[1]
    return float(counts[counts > 1].sum() / len(values))
