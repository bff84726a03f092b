"""Choosing among candidates without fooling oneself: cross-validated gains, the one-standard-error rule, the guard.

Every candidate is judged by its error ROC-AUC minus that of softmax response on the same held-out fold, so that what
makes a fold easy or hard cancels. Source: Breiman et al. 1984 (one-standard-error rule).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dubio.arrays import Bool, Float64
from dubio.errors import DubioError
from dubio.metrics.bootstrap import Bootstrap, Statistic, resample
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
    *, units: NDArray[np.int64] | None = None, draws: int = 2000, level: float = 0.95, seed: int = 0,
) -> GuardVerdict:  # fmt: skip
    """Keeps a candidate only if the paired bootstrap says that its ROC-AUC is higher than the incumbent's.

    candidate, incumbent: `[N]` scores of the same held-out rows. Pairs are compared within a fold only, since
    out-of-fold scores of different folds come from different fits. units: `[N]` number of the unit that each row
    belongs to, where rows that repeat one another are one unit and drawn together; None: every row is its own.
    Kept means: the interval lies above zero.
    """
    judged = Judged.of(errors, folds, units)
    return guards({"it": candidate}, incumbent, judged, Bootstrap(draws, seed, level))["it"]


@dataclass(frozen=True)
class Judged:
    """Held-out rows as the guard sees them: errors `[N]`, and each fold's rows, their units, and the strata of units.

    parts: fold by fold, (rows, which drawn unit each of them belongs to, number of wrong-right pairs).
    strata: numbers of units with an error, and without, fold by fold.
    """

    errors: Bool
    parts: tuple[tuple[NDArray[np.int64], NDArray[np.int64], int], ...]
    strata: tuple[int, ...]

    @classmethod
    def of(cls, errors: Bool, folds: NDArray[np.int64], units: NDArray[np.int64] | None = None) -> Self:
        """From errors `[N]`, folds `[N]` and units `[N]`; raises DubioError where no fold has a pair to compare."""
        unit = np.arange(len(errors)) if units is None else units
        wrong = np.bincount(unit, weights=errors) > 0
        place = np.zeros(len(wrong), dtype=np.int64)
        parts: list[tuple[NDArray[np.int64], NDArray[np.int64], int]] = []
        strata: list[int] = []
        for fold in np.unique(folds):
            rows = np.flatnonzero(folds == fold)
            there = np.unique(unit[rows])
            kinds = [there[wrong[there]], there[~wrong[there]]]
            if not all(len(kind) for kind in kinds):
                continue  # no pair to compare
            place[np.concatenate(kinds)] = np.arange(len(there)) + sum(strata)
            failed = int(errors[rows].sum())
            parts.append((rows, place[unit[rows]], failed * (len(rows) - failed)))
            strata += [len(kind) for kind in kinds]
        if not parts:
            raise DubioError("the guard needs both right and wrong rows; give more calibration rows")
        return cls(errors, tuple(parts), tuple(strata))


def guards(
    candidates: Mapping[str, Float64], incumbent: Float64, judged: Judged, bootstrap: Bootstrap
) -> dict[str, GuardVerdict]:
    """The guard's verdict on each of many candidates `[N]`, all on the same draws of the judged rows."""
    level = bootstrap.level
    pairs = np.array([part[2] for part in judged.parts], dtype=np.float64)

    def auc_of(scores: Float64) -> Statistic:
        ties = [TieGroups.of(scores[rows], judged.errors[rows]) for rows, _, _ in judged.parts]

        def auc(weights: Float64) -> dict[str, Float64]:
            parts = zip(judged.parts, ties, strict=True)
            folds = [roc_auc_of(tie.cumulate(weights[:, at])) for (_, at, _), tie in parts]
            return {"auc": np.stack(folds, axis=1) @ (pairs / pairs.sum())}

        return auc

    # Units are redrawn within their fold and kind, so that the interval is that of the order alone.
    statistics = {name: auc_of(scores) for name, scores in candidates.items()}
    found = resample({**statistics, "": auc_of(incumbent)}, judged.strata, bootstrap)
    verdicts: dict[str, GuardVerdict] = {}
    for name in candidates:
        gain = found[name]["auc"].minus(found[""]["auc"])
        low, high = np.quantile(gain.draws, [(1 - level) / 2, (1 + level) / 2])
        verdicts[name] = GuardVerdict(bool(low > 0), gain.value, float(low), float(high), bootstrap.draws, level)
    return verdicts
