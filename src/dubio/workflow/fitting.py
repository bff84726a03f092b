"""Fitting every method on one adapter's representations, choosing one, and keeping what decisions need.

Calibration rows are cut in two, by a fixed seed and stratified by error, near-repeated texts on one side:

    fitting half        methods learn from it, are compared on it (out of fold), and are recalibrated on those scores
    certification half  no method sees it; thresholds with a guarantee are computed from it, at any budget, later

In: representations of train and calibration rows, the head. Out: fitted methods with recalibration, and a choice.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dubio.arrays import Float64
from dubio.artifacts.manifest import Choice
from dubio.artifacts.store import Fitted, FittedScore
from dubio.containers import Representations
from dubio.decisions.recalibration import Recalibrator
from dubio.errors import DubioError
from dubio.progress import progress
from dubio.scores.base import Score, fold_of
from dubio.scores.registry import METHODS, get_method
from dubio.scores.selected import SelectedScore
from dubio.scores.selection import guard

INCUMBENT = "softmax_response"


@dataclass(frozen=True)
class FitPlan:
    """methods: registry names (all by default). share: of calibration rows kept for certification. show: progress."""

    methods: Sequence[str] = tuple(METHODS)
    share: float = 0.5
    seed: int = 0
    show: bool = True


@dataclass(frozen=True)
class Fit(Fitted):
    """honest: method -> `[n]` out-of-fold uncertainty of the fitting half of calibration; judged: that half."""

    honest: Mapping[str, Float64]
    judged: Representations


def fit_methods(
    train: Representations | None, calibration: Representations, head: Any = None, plan: FitPlan | None = None
) -> Fit:
    """Fits, recalibrates and chooses. `head` (a torch module, features -> logits) is needed by AdUE only.

    Raises DubioError where calibration has too few errors, or lacks labels. Without `train`, methods that need it are
    left out; if nothing but softmax response remains, that is the choice.
    """
    plan = plan or FitPlan()
    if not 0 < plan.share < 1:
        raise DubioError(f"the certification share must lie between 0 and 1, not {plan.share}")
    errors = calibration.errors
    if not errors.any() or errors.all():
        raise DubioError(
            f"all {len(errors)} calibration predictions are {'wrong' if errors.any() else 'right'}; uncertainty is "
            "learned from both kinds: give more, or more varied, held-out rows"
        )
    certified = halves(calibration, plan.share, plan.seed)
    judged, kept = calibration.take(~certified), calibration.take(certified)
    names = _usable(plan.methods, train, head)
    fitted: dict[str, FittedScore] = {}
    honest: dict[str, Float64] = {}
    with progress("fitting", len(names), "methods", plan.show) as advance:
        for name in names:
            score, seconds = _fit_one(get_method(name).build(head=head), train, judged, fitted)
            honest[name] = score.out_of_fold(train, judged)
            recalibrator = Recalibrator().fit(honest[name], judged.errors, seed=plan.seed)
            fitted[name] = FittedScore(name, score, recalibrator, score.score(kept), seconds)
            advance(1)
    return Fit(fitted, choose(honest, judged), kept.errors, honest, judged)


def _fit_one(
    method: Score, train: Representations | None, judged: Representations, fitted: Mapping[str, FittedScore]
) -> tuple[Score, float]:
    """The fitted method and its seconds; both taken over from a method that differs in nothing but the guard."""
    for other in fitted.values():
        twin = other.score.twin(method) if isinstance(other.score, SelectedScore) else None
        if twin is not None:
            return twin, other.fit_seconds
    start = time.perf_counter()
    return method.fit(train, judged), time.perf_counter() - start


def halves(calibration: Representations, share: float, seed: int) -> NDArray[np.bool_]:
    """`[N]` True for certification rows: a seeded share of the right and of the wrong rows, groups undivided."""
    generator = np.random.default_rng(seed)
    errors, unit = calibration.units
    out = np.zeros(len(errors), dtype=np.bool_)
    for kind in (errors, ~errors):
        dealt = generator.permutation(np.flatnonzero(kind))
        out[dealt[: round(share * len(dealt))]] = True
    return out[unit]


def choose(honest: Mapping[str, Float64], judged: Representations) -> Choice:
    """The method with the best guaranteed gain over softmax response on out-of-fold scores, else softmax response.

    The guard's level is divided by the number of methods (Bonferroni): with twenty tries one would win by luck.
    """
    if INCUMBENT not in honest:
        raise DubioError(f"{INCUMBENT} must be among the methods: it is what the others have to beat")
    errors, folds, tried = judged.errors, fold_of(judged), len(honest) - 1
    verdicts = {
        name: guard(scores, honest[INCUMBENT], errors, folds, level=1 - 0.05 / max(1, tried))
        for name, scores in honest.items()
        if name != INCUMBENT
    }
    best = max(verdicts, key=lambda name: verdicts[name].low, default=None)
    if best is None or not verdicts[best].kept:
        luckiest = max(verdicts, key=lambda name: verdicts[name].gain, default=None)
        tail = f"; the largest gain was {100 * verdicts[luckiest].gain:+.1f} points ({luckiest})" if luckiest else ""
        return Choice(
            method=INCUMBENT,
            why=f"None of {tried} methods beat softmax response on {len(judged)} calibration rows beyond chance{tail}.",
        )
    v = verdicts[best]
    return Choice(
        method=best,
        why=f"Error ROC-AUC {100 * v.gain:+.1f} points over softmax response on {len(judged)} calibration rows "
        f"(out of fold, {100 * v.level:.1f} % interval {100 * v.low:+.1f} to {100 * v.high:+.1f}, {tried} tried).",
    )


def _usable(names: Sequence[str], train: Representations | None, head: Any) -> list[str]:
    """Known names, without those whose needs are not met."""
    methods = [get_method(name) for name in names]
    return [
        m.name for m in methods
        if (train is not None or "train" not in m.needs) and (head is not None or "head" not in m.needs)
    ]  # fmt: skip
