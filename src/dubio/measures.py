"""Samples -> uncertainty: what S log-probability tables `[S, N, C]` say about each row. Higher = more likely wrong.

    mean prediction      p = (1/S) sum_s p_s            probabilities are averaged, never logits
    predictive entropy   H[p]
    expected entropy     (1/S) sum_s H[p_s]             aleatoric part
    mutual information   H[p] - expected entropy >= 0   epistemic part (nats); Depeweg et al. 2018, Houlsby et al. 2011
    class variance       max_c Var_s p_s[c]             BayesLoRA, arXiv 2506.22809
    variation ratio      1 - share of the samples that vote for the most voted class; Freeman 1965
    response             log(1 - p[c]), c the class that is judged: the adapter's own, or that of the mean

Everything in float64 from log-probabilities, so that nothing ties or is lost near 0 and 1.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, xlogy

from dubio.arrays import Float64, Int64
from dubio.errors import DubioError


def log_mean(log_probabilities: NDArray[Any]) -> Float64:
    """Log of the mean prediction, `[S, N, C]` -> `[N, C]`; raises DubioError on another shape, or no samples."""
    return _by_parts(log_probabilities, lambda log_p: np.asarray(logsumexp(log_p, axis=0) - np.log(len(log_p))))


def log_complement(log_p: Float64, classes: Int64) -> Float64:
    """`[N]` log(1 - p[class]) from log-probabilities `[N, C]`, as the logsumexp of the other classes."""
    others = log_p.copy()
    others[np.arange(len(log_p)), classes] = -np.inf
    return np.asarray(logsumexp(others, axis=1), dtype=np.float64)


def predictive_entropy(log_probabilities: NDArray[Any]) -> Float64:
    """`[N]` entropy of the mean prediction, in nats."""
    p = np.exp(log_mean(log_probabilities))
    return -xlogy(p, p).sum(axis=1)


def expected_entropy(log_probabilities: NDArray[Any]) -> Float64:
    """`[N]` mean entropy of the samples, in nats."""

    def entropy(log_p: Float64) -> Float64:
        p = np.exp(log_p)
        return -xlogy(p, p).sum(axis=2).mean(axis=0)

    return _by_parts(log_probabilities, entropy)


def mutual_information(log_probabilities: NDArray[Any]) -> Float64:
    """`[N]` mutual information of label and adapter, in nats: the mean divergence of the samples from their mean.

    Computed as (1/S) sum_s KL(p_s || p) term by term: a difference of entropies would be noise where samples agree.
    """

    def divergence(log_p: Float64) -> Float64:
        mean, p = log_mean(log_p), np.exp(log_p)
        # A class of probability 0 adds nothing; elsewhere sum_c p_s (log p_s - log p) - p_s + p has no negative term.
        with np.errstate(invalid="ignore"):
            terms = np.where(p > 0, p * (log_p - mean), 0.0) - p + np.exp(mean)
        return np.maximum(terms, 0.0).sum(axis=2).mean(axis=0)

    return _by_parts(log_probabilities, divergence)


def class_variance(log_probabilities: NDArray[Any]) -> Float64:
    """`[N]` log of the largest variance over samples of a class's probability; one sample, or none differing: -745."""
    variance = _by_parts(log_probabilities, lambda log_p: np.exp(log_p).var(axis=0).max(axis=1))
    return np.log(np.maximum(variance, np.nextafter(0, 1)))


def variation_ratio(log_probabilities: NDArray[Any]) -> Float64:
    """`[N]` share of the samples that do not vote for the most voted class."""
    table = _checked(log_probabilities)
    votes = table.argmax(axis=2)
    counts = np.stack([(votes == c).sum(axis=0) for c in range(table.shape[2])])
    return 1 - counts.max(axis=0) / len(table)


def response(log_probabilities: NDArray[Any], classes: Int64) -> Float64:
    """`[N]` log(1 - p[c]) of the mean prediction p and the judged classes c `[N]`: softmax response of the samples."""
    return log_complement(log_mean(log_probabilities), classes)


PART = 2**22  # entries that are held in float64 at once

MEASURES: Mapping[str, Callable[[NDArray[Any], Int64], Float64]] = {
    "response": response,
    "entropy": lambda table, _: predictive_entropy(table),
    "expected_entropy": lambda table, _: expected_entropy(table),
    "mutual_information": lambda table, _: mutual_information(table),
    "variance": lambda table, _: class_variance(table),
    "variation_ratio": lambda table, _: variation_ratio(table),
}


def _by_parts(log_probabilities: NDArray[Any], measure: Callable[[Float64], Float64]) -> Float64:
    """`measure` of parts of the rows, in float64 one at a time: S tables of all rows may be large."""
    table = _checked(log_probabilities)
    step = max(1, PART // (len(table) * table.shape[2]))
    starts = range(0, max(1, table.shape[1]), step)
    return np.concatenate([measure(table[:, start : start + step].astype(np.float64)) for start in starts])


def _checked(log_probabilities: NDArray[Any]) -> NDArray[Any]:
    table = np.asarray(log_probabilities)
    if table.ndim != 3 or len(table) == 0 or table.shape[2] < 2:
        raise DubioError(f"samples: expected log-probabilities [samples, rows, classes], got shape {table.shape}")
    return table
