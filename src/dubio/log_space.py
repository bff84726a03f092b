"""Softmax quantities from float logits in log space: no `1 - p`, so no ties and no lost digits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, xlogy

from dubio.arrays import Float64


def log_softmax(logits: NDArray[Any]) -> Float64:
    """Log-probabilities `[N, C]` in float64 (nats)."""
    out = np.asarray(logits, dtype=np.float64)
    return out - np.asarray(logsumexp(out, axis=1, keepdims=True), dtype=np.float64)


def log_error(logits: NDArray[Any]) -> Float64:
    """`[N]` log(1 - max p), as the logsumexp of the other classes' log-probabilities."""
    return _log_others(log_softmax(logits))


def error_log_odds(logits: NDArray[Any]) -> Float64:
    """`[N]` log((1 - max p) / max p): softmax response on an unbounded scale, same order as 1 - max p."""
    log_p = log_softmax(logits)
    return _log_others(log_p) - log_p.max(axis=1)


def entropy(logits: NDArray[Any]) -> Float64:
    """`[N]` Shannon entropy of the softmax, in nats."""
    p = np.exp(log_softmax(logits))
    return -xlogy(p, p).sum(axis=1)


def _log_others(log_p: Float64) -> Float64:
    others = log_p.copy()
    others[np.arange(len(log_p)), np.argmax(log_p, axis=1)] = -np.inf
    return np.asarray(logsumexp(others, axis=1), dtype=np.float64)
