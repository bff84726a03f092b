"""Whether probabilities mean what they say: accuracy, NLL, Brier score, and expected calibration error (ECE).

    ECE = sum over bins of (rows in bin / N) * |mean confidence - mean outcome|
Two schemes, because one number hides the other's failure: `equal_width` cuts [0, 1] into equal intervals, closed on
the left, the last closed on both sides (a confidence of exactly 1 belongs to it); `equal_mass` gives every bin exactly
N / bins rows, sharing a row or a group of tied rows between two bins in proportion, so that the result never depends on
the order of tied rows. The outcome is "correct" beside a confidence and "error" beside an error probability.
Papers: Guo et al. 2017 (arXiv 1706.04599); Nguyen & O'Connor 2015 for equal mass; Brier 1950.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from dubio.arrays import Float64, Int64, as_labels, as_matrix, as_vector
from dubio.errors import DubioError
from dubio.metrics.ties import TieGroups

BINS = 15


@dataclass(frozen=True)
class ReliabilityBins:
    """A reliability diagram: per non-empty bin, mean confidence `[M]`, mean outcome `[M]` and number of rows `[M]`."""

    confidence: Float64
    outcome: Float64
    rows: Float64


@dataclass(frozen=True)
class CalibrationGroups:
    """Probabilities cut into bins once, for many resamples. probability, outcome `[N]`, bin_of `[N]`, groups by tie."""

    probability: Float64
    outcome: Float64
    bin_of: Int64
    groups: TieGroups
    bins: int

    @classmethod
    def of(cls, probability: Any, outcome: Any, bins: int = BINS) -> Self:
        """Raises DubioError on no rows, probabilities outside [0, 1], outcomes other than 0/1, or no bin."""
        p = as_vector(probability, "probability")
        if bins < 1:
            raise DubioError(f"bins: expected at least 1, got {bins}")
        if len(p) and (p.min() < 0 or p.max() > 1):
            raise DubioError("probability: outside [0, 1]")
        groups = TieGroups.of(p, outcome)
        happened = np.empty(len(p))
        happened[groups.order] = groups.positive
        bin_of = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], p, side="right").astype(np.int64)
        return cls(p, happened, bin_of, groups, bins)

    def equal_width(self, weights: Float64) -> Float64:
        """`[B]` ECE over bins of equal width under weights `[B, N]`."""
        gap = np.zeros((len(self.probability), self.bins))
        gap[np.arange(len(gap)), self.bin_of] = self.probability - self.outcome
        return np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1)

    def equal_mass(self, weights: Float64) -> Float64:
        """`[B]` ECE over bins of equal mass under weights `[B, N]`."""
        ordered = np.take(weights, self.groups.order, axis=1)
        gaps = (self.probability - self.outcome)[self.groups.order]
        rows = _from_zero(np.cumsum(self.groups.sums(ordered), axis=1))
        gap = _from_zero(np.cumsum(self.groups.sums(ordered * gaps), axis=1))
        edges = rows[:, -1:] * np.linspace(0.0, 1.0, self.bins + 1)
        at_edges = np.stack([np.interp(e, r, g) for e, r, g in zip(edges, rows, gap, strict=True)])
        return np.abs(np.diff(at_edges, axis=1)).sum(axis=1) / rows[:, -1]

    def members(self, scheme: str) -> Float64:
        """`[M, N]` how much of each row lies in each bin that has any, over N: rows of `bins @ (p - y)` are gaps.

        Raises DubioError on an unknown scheme.
        """
        total = len(self.probability)
        if _known(scheme) == "equal_width":
            inside = self.bin_of == np.arange(self.bins)[:, None]
            return inside[inside.any(axis=1)] / total
        edges = total * np.linspace(0.0, 1.0, self.bins + 1)
        starts = self.groups.starts.astype(np.float64)
        ends = starts + self.groups.sizes
        inside = np.minimum(edges[1:, None], ends) - np.maximum(edges[:-1, None], starts)
        share = np.maximum(inside, 0.0) / self.groups.sizes
        out = np.empty((self.bins, total))
        out[:, self.groups.order] = np.repeat(share, self.groups.sizes, axis=1) / total
        return out

    def brier(self, weights: Float64) -> Float64:
        """`[B]` mean squared distance of probability and outcome under weights `[B, N]`."""
        return weighted_mean((self.probability - self.outcome) ** 2, weights)


def accuracy(probabilities: Any, labels: Any) -> float:
    """Share of rows `[N, C]` (probabilities or logits) whose argmax is the label."""
    table, y = _table(probabilities, labels)
    return float((table.argmax(axis=1) == y).mean())


def nll(log_probabilities: Any, labels: Any) -> float:
    """Mean negative log-likelihood in nats, from log-probabilities `[N, C]`; raises DubioError unless rows sum to 1."""
    table, y = _table(log_probabilities, labels)
    if np.abs(np.exp(table).sum(axis=1) - 1).max() > 1e-3:
        raise DubioError("log-probabilities: rows do not sum to 1 once exponentiated; pass log-softmax outputs")
    return float(-table[np.arange(len(y)), y].mean())


def brier(probabilities: Any, labels: Any) -> float:
    """Multi-class Brier score in [0, 2]: mean over rows of the squared distance to the one-hot label.

    Raises DubioError unless rows are probabilities.
    """
    table, y = _table(probabilities, labels)
    if table.min() < 0 or np.abs(table.sum(axis=1) - 1).max() > 1e-3:
        raise DubioError("probabilities: rows must be non-negative and sum to 1; pass softmax outputs")
    return float(brier_rows(table, y).mean())


def brier_rows(probabilities: Float64, labels: Int64) -> Float64:
    """`[N]` Brier score of each row."""
    distance = probabilities.copy()
    distance[np.arange(len(labels)), labels] -= 1.0
    return (distance**2).sum(axis=1)


def ece(confidence: Any, correct: Any, bins: int = BINS, scheme: str = "equal_width") -> float:
    """Expected calibration error in [0, 1] of confidence `[N]` against correct `[N]` (0/1).

    Raises DubioError on an unknown scheme or bad arrays. For an error probability pass errors as the outcome.
    """
    groups = CalibrationGroups.of(confidence, correct, bins)
    return float(getattr(groups, _known(scheme))(np.ones((1, len(groups.probability))))[0])


def error_probability_ece(probability: Any, errors: Any, bins: int = BINS, scheme: str = "equal_mass") -> float:
    """ECE of predicted error probabilities `[N]` against errors `[N]`."""
    return ece(probability, errors, bins, scheme)


def error_probability_brier(probability: Any, errors: Any) -> float:
    """Mean squared distance in [0, 1] of predicted error probabilities `[N]` from errors `[N]`."""
    groups = CalibrationGroups.of(probability, errors)
    return float(groups.brier(np.ones((1, len(groups.probability))))[0])


def reliability_bins(confidence: Any, correct: Any, bins: int = BINS, scheme: str = "equal_width") -> ReliabilityBins:
    """The bins behind `ece`, for a figure; empty bins are left out."""
    table = CalibrationGroups.of(confidence, correct, bins)
    if _known(scheme) == "equal_width":
        rows = np.bincount(table.bin_of, minlength=bins).astype(np.float64)
        sums = [np.bincount(table.bin_of, v, minlength=bins) for v in (table.probability, table.outcome)]
    else:
        ordered = [v[table.groups.order][None] for v in (np.ones(len(table.outcome)), table.probability, table.outcome)]
        until = [_from_zero(np.cumsum(table.groups.sums(v), axis=1))[0] for v in ordered]
        edges = until[0][-1] * np.linspace(0.0, 1.0, bins + 1)
        rows, *sums = (np.diff(np.interp(edges, until[0], v)) for v in until)
    filled = rows > 0
    return ReliabilityBins(sums[0][filled] / rows[filled], sums[1][filled] / rows[filled], rows[filled])


def weighted_mean(values: Float64, weights: Float64) -> Float64:
    """`[B]` means of values `[N]` under weights `[B, N]`."""
    return weights @ values / weights.sum(axis=1)


def _table(values: Any, labels: Any) -> tuple[Float64, Int64]:
    table = as_matrix(values, "probabilities", np.float64)
    if len(table) == 0:
        raise DubioError("no rows to evaluate; give at least one")
    return table, as_labels(labels, "labels", len(table), table.shape[1])


def _known(scheme: str) -> str:
    if scheme not in ("equal_width", "equal_mass"):
        raise DubioError(f"no binning scheme {scheme!r}; use 'equal_width' or 'equal_mass'")
    return scheme


def _from_zero(cumulative: Float64) -> Float64:
    return np.pad(cumulative, ((0, 0), (1, 0)))
