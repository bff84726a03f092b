"""DeLong's test of two ROC-AUCs measured on the same rows, with midranks, so that ties count one half.

For m positives x and n negatives y, each positive's placement is V10_i = mean_j [x_i > y_j] + [x_i = y_j]/2 and each
negative's is V01_j likewise; both are differences of midranks. The variance of the difference d of two AUCs is
    var(V10_a - V10_b) / m + var(V01_a - V01_b) / n
and d / sd is standard normal when the two are equally good. O(N log N).
Papers: DeLong et al. 1988; Sun & Xu 2014 for the midranks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, rankdata

from dubio.arrays import Bool, Float64, as_errors, as_vector
from dubio.errors import DubioError


@dataclass(frozen=True)
class DeLong:
    """The difference of two ROC-AUCs (first minus second), its standard error, and the two-sided p-value."""

    difference: float
    standard_error: float
    p_value: float


def delong_test(first: Any, second: Any, positives: Any) -> DeLong:
    """Compares scores `[N]` and `[N]` of the same rows against positives `[N]` (0/1).

    Raises DubioError unless there are at least two positive and two negative rows.
    """
    a = as_vector(first, "first scores")
    b = as_vector(second, "second scores", len(a))
    positive = as_errors(positives, rows=len(a))
    m = int(positive.sum())
    n = len(positive) - m
    if min(m, n) < 2:
        raise DubioError(f"DeLong's test needs two rows of each kind, got {m} positive and {n} negative")
    (up_a, down_a), (up_b, down_b) = _placements(a, positive), _placements(b, positive)
    difference = float(up_a.mean() - up_b.mean())
    error = float(np.sqrt(np.var(up_a - up_b, ddof=1) / m + np.var(down_a - down_b, ddof=1) / n))
    if error == 0:  # the same ranking of every pair, or one that is perfectly better
        return DeLong(difference, 0.0, 1.0 if difference == 0 else 0.0)
    return DeLong(difference, error, float(2 * norm.sf(abs(difference) / error)))


def _placements(scores: Float64, positive: Bool) -> tuple[Float64, Float64]:
    """V10 `[m]` and V01 `[n]`."""
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores)
    up = (ranks[positive] - rankdata(scores[positive])) / n
    down = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m
    return np.asarray(up, dtype=np.float64), np.asarray(down, dtype=np.float64)
