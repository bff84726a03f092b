"""Spearman's rank correlation of a score with a ground truth of uncertainty, such as annotators' disagreement.

    rho = Pearson correlation of midranks
Under weights (bootstrap counts) a tie group of m rows after n rows has midrank n + (m + 1) / 2.
"""

from typing import Any

import numpy as np

from dubio.arrays import Float64, as_vector
from dubio.errors import DubioError
from dubio.metrics.ties import TieGroups, ratio


def spearman(first: Any, second: Any) -> float:
    """Spearman's rho in [-1, 1] of two vectors `[N]`; raises DubioError where one is constant."""
    a = as_vector(first, "first")
    b = as_vector(second, "second", len(a))
    once = np.ones((1, len(a)), dtype=np.float64)
    rho = spearman_of(Midranks(a)(once), Midranks(b)(once), once)
    if np.isnan(rho[0]):
        raise DubioError("Spearman's correlation is undefined: one of the two is constant")
    return float(rho[0])


class Midranks:
    """Midranks `[B, N]` of values `[N]` under weights `[B, N]`, sorted once."""

    def __init__(self, values: Any) -> None:
        self.groups = TieGroups.of(values, np.zeros(len(values)))
        self.group_of = np.empty(len(self.groups), dtype=np.intp)
        self.group_of[self.groups.order] = np.repeat(np.arange(len(self.groups.starts)), self.groups.sizes)

    def __call__(self, weights: Float64) -> Float64:
        """Midranks in the original row order; rows of weight 0 get one too, and it must be weighted by 0."""
        counts = self.groups.cumulate(weights)
        return np.take(counts.rows_before + (counts.rows + 1) / 2, self.group_of, axis=1)


def spearman_of(first: Float64, second: Float64, weights: Float64) -> Float64:
    """`[B]` correlation of two tables of midranks `[B, N]` under weights `[B, N]`, NaN where one is constant."""
    middle = (weights.sum(axis=1, keepdims=True) + 1) / 2  # the mean midrank, whatever the ties
    a, b = first - middle, second - middle
    products = (np.einsum("bn,bn,bn->b", weights, x, y) for x, y in ((a, b), (a, a), (b, b)))
    joint, own, other = products
    return np.clip(ratio(joint, np.sqrt(own * other)), -1.0, 1.0)
