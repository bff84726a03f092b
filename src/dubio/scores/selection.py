"""Choosing among candidates without fooling oneself: cross-validated gains, the one-standard-error rule, the guard.

Every candidate is judged by its error ROC-AUC minus that of softmax response on the same held-out fold, so that what
makes a fold easy or hard cancels. Source: Breiman et al. 1984 (one-standard-error rule); METHODS 1e.4 for the reason.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dubio.arrays import Bool, Float64
from dubio.errors import DubioError
from dubio.metrics.bootstrap import Bootstrap, resample
from dubio.metrics.ranking import roc_auc_of
from dubio.metrics.ties import TieGroups


@dataclass(frozen=True)
class GuardVerdict:
    """Does a candidate beat the incumbent on held-out rows? gain: ROC-AUC difference with its bootstrap interval."""

    kept: bool
    gain: float
    low: float
    high: float
    draws: int
    level: float

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


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


def guard(
    candidate: Float64, incumbent: Float64, errors: Bool, folds: NDArray[np.int64],
    *, draws: int = 2000, level: float = 0.95, seed: int = 0,
) -> GuardVerdict:  # fmt: skip
    """Keeps a candidate only if the paired bootstrap says that its ROC-AUC is higher than the incumbent's.

    candidate, incumbent: `[N]` scores of the same held-out rows. Pairs are compared within a fold only, since
    out-of-fold scores of different folds come from different fits. Kept means: the interval lies above zero.
    """
    strata: list[int] = []
    parts: list[tuple[slice, int, TieGroups, TieGroups]] = []
    for f in np.unique(folds):
        kinds = [np.flatnonzero((folds == f) & kind) for kind in (errors, ~errors)]
        if not all(len(kind) for kind in kinds):
            continue  # no pair to compare
        rows, start = np.concatenate(kinds), sum(strata)
        own, base = (TieGroups.of(scores[rows], errors[rows]) for scores in (candidate, incumbent))
        parts.append((slice(start, start + len(rows)), len(kinds[0]) * len(kinds[1]), own, base))
        strata += [len(kind) for kind in kinds]
    if not parts:
        raise DubioError("the guard needs both right and wrong rows; give more calibration rows")

    def gain(weights: Float64) -> dict[str, Float64]:
        total = np.zeros(len(weights))
        for at, pairs, own, base in parts:
            counts = weights[:, at]
            total += pairs * (roc_auc_of(own.cumulate(counts)) - roc_auc_of(base.cumulate(counts)))
        return {"gain": total / sum(part[1] for part in parts)}

    # Rows are redrawn within their fold and kind: the number of pairs stays, the interval is that of the order.
    found = resample({"guard": gain}, strata, Bootstrap(draws, seed, level))["guard"]["gain"]
    low, high = np.quantile(found.draws, [(1 - level) / 2, (1 + level) / 2])
    return GuardVerdict(bool(low > 0), found.value, float(low), float(high), draws, level)
