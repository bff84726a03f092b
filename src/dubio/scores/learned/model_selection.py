"""Choosing among candidates without fooling oneself: cross-validated gains and the one-standard-error rule.

Every candidate is judged by its error ROC-AUC minus that of softmax response on the same held-out fold, so that what
makes a fold easy or hard cancels. Source: Breiman et al. 1984 (one-standard-error rule).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dubio.arrays import Bool, Float64
from dubio.errors import DubioError


def error_auc(scores: NDArray[Any], errors: Bool) -> Float64:
    """`[K]` ROC-AUC of K candidates' scores `[K, N]` against errors `[N]`, exact under ties."""
    wrong = int(errors.sum())
    right = len(errors) - wrong
    if not wrong or not right:
        raise DubioError("ROC-AUC needs both right and wrong rows; give more calibration rows")
    ranks = np.asarray(rankdata(scores, axis=1)[:, errors].sum(axis=1), dtype=np.float64)
    return (ranks - wrong * (wrong + 1) / 2) / (wrong * right)


def fold_gains(scores: NDArray[Any], incumbent: Float64, errors: Bool, folds: NDArray[np.int64]) -> Float64:
    """`[K, F]` ROC-AUC gain of each of K candidates `[K, N]` over the incumbent `[N]`, fold by fold."""
    columns = [
        error_auc(scores[:, folds == f], errors[folds == f])
        - error_auc(incumbent[None, folds == f], errors[folds == f])
        for f in np.unique(folds)
    ]
    return np.stack(columns, axis=1)


def one_standard_error(gains: Float64, caution: NDArray[Any]) -> int:
    """Index of the most cautious candidate within one standard error of the best mean gain.

    gains: `[K, F]`. caution: `[K]`, higher = closer to the incumbent; a tie goes to the higher gain.
    """
    means = gains.mean(axis=1)
    best = int(np.argmax(means))
    error = float(gains[best].std(ddof=1) / np.sqrt(gains.shape[1])) if gains.shape[1] > 1 else 0.0
    near = np.flatnonzero(means >= means[best] - error)
    return int(near[np.lexsort((means[near], caution[near]))[-1]])
