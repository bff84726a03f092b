"""A slow oracle: a metric written for one strict order, averaged over every order of the tied rows."""

from collections.abc import Callable, Iterator
from itertools import permutations, product

import numpy as np


def orders(scores: np.ndarray) -> Iterator[list[int]]:
    """Every ascending order of the rows that respects the scores."""
    groups = [np.flatnonzero(scores == value).tolist() for value in np.unique(scores)]
    for parts in product(*(permutations(g) for g in groups)):
        yield [row for part in parts for row in part]


def averaged(metric: Callable[[np.ndarray], float], scores: np.ndarray, errors: np.ndarray) -> float:
    """`metric` takes errors in ascending order of score."""
    return float(np.mean([metric(errors[order]) for order in orders(scores)]))


def aurc(ordered: np.ndarray) -> float:
    return float(np.mean([ordered[:k].mean() for k in range(1, len(ordered) + 1)]))


def augrc(ordered: np.ndarray) -> float:
    n = len(ordered)
    heights = [ordered[:k].sum() / n for k in range(n + 1)]
    return sum((heights[k] + heights[k + 1]) / 2 / n for k in range(n))


def roc_auc(ordered: np.ndarray) -> float:
    wins = [(~ordered[:k]).sum() for k in np.flatnonzero(ordered)]
    return float(np.sum(wins) / (ordered.sum() * (~ordered).sum()))


def fpr_at_95(ordered: np.ndarray) -> float:
    found = negatives = 0
    for wrong in ordered[::-1]:
        found, negatives = found + int(wrong), negatives + int(not wrong)
        if found >= 0.95 * ordered.sum():
            break
    return negatives / (~ordered).sum()
