"""Fitting every method on one adapter's representations, choosing one, and keeping what decisions need.

Calibration rows are cut in two, by a fixed seed and stratified by error, near-repeated texts on one side:

    fitting half        methods learn from it, are compared on it (out of fold), and are recalibrated on those scores
    certification half  no method sees it; thresholds with a guarantee are computed from it, at any budget, later

In: representations of train and calibration rows, the head. Out: fitted methods with recalibration, and a choice.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from dubio.arrays import Float64
from dubio.containers import Representations, Shape
from dubio.decisions.recalibration import Recalibrator
from dubio.decisions.threshold import two_digits
from dubio.errors import DubioError
from dubio.fitted import Choice, Fitted, FittedScore
from dubio.progress import progress
from dubio.scores.base import Score, fold_of
from dubio.scores.learned.cross_validated import SelectedScore
from dubio.scores.learned.guard import GuardVerdict, Judged, Swaps, fewest_errors, guards
from dubio.scores.registry import METHODS, Method, get_method, is_method, sampled_names
from dubio.workflow.inputs import check_pairs

INCUMBENT = "softmax_response"
FINALISTS = 5
TAIL = 25  # draws beyond each end of an interval that decides
MOST = 100  # times as many errors as there are: beyond it the number that would do is not worth saying


@dataclass(frozen=True)
class FitPlan:
    """How to fit. share: of calibration rows kept for certification. show: progress.

    methods: names, or methods that are not registered (a variant of one); None: every registered one, and every measure
    of the samples that calibration rows carry.
    """

    methods: Sequence[str | Method] | None = None
    share: float = 0.5
    seed: int = 0
    show: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.methods, str):
            raise DubioError(f"methods: expected a list of names, got {self.methods!r}; give [{self.methods!r}]")
        if self.methods is not None and not len(self.methods):
            raise DubioError("methods: the list is empty; name some, or leave it out for all of them")
        if self.seed < 0:
            raise DubioError(f"seed: expected 0 or more, got {self.seed}")


@dataclass(frozen=True)
class Fit(Fitted):
    """honest: method -> `[n]` out-of-fold uncertainty of the fitting half of calibration; judged: that half."""

    honest: Mapping[str, Float64]
    judged: Representations

    @property
    def mean_of(self) -> str | None:
        """As its rows say."""
        return self.judged.mean_of

    @property
    def shape(self) -> Shape | None:
        """Of its rows."""
        return self.judged.shape

    @property
    def pairs(self) -> bool | None:
        """As its rows say."""
        return self.judged.pairs


def fit_methods(
    train: Representations | None, calibration: Representations, head: Any = None, plan: FitPlan | None = None
) -> Fit:
    """Fits, recalibrates and chooses. `head` (a torch module, features -> logits) is needed by AdUE only.

    A method whose needs are not met, or that these rows do not suit, is left out, with the reason; if nothing but
    softmax response remains, that is the choice. Raises DubioError where calibration has too few errors, or lacks
    labels, or softmax response is not among the methods.
    """
    plan = plan or FitPlan()
    if not 0 < plan.share < 1:
        raise DubioError(f"the certification share must lie between 0 and 1, not {plan.share}")
    asked = plan.methods or [*METHODS, *(name for which in calibration.samples for name in sampled_names(which))]
    known = {m.name: m for m in (get_method(m) if isinstance(m, str) else m for m in asked)}
    if INCUMBENT not in known:
        raise DubioError(f"{INCUMBENT} must be among the methods: it is what the others have to beat")
    if train is not None:
        check_pairs(train.pairs, calibration.pairs, "the training rows are")
    if train is not None:
        Shape(calibration.features.shape[1], calibration.classes).check(train, "in calibration", "in train")
    errors = calibration.errors
    if not errors.any() or errors.all():
        raise DubioError(
            f"all {len(errors)} calibration predictions are {'wrong' if errors.any() else 'right'}; uncertainty is "
            "learned from both kinds: give more, or more varied, held-out rows"
        )
    certified = halves(calibration, plan.share, plan.seed)
    judged, kept = calibration.take(~certified), calibration.take(certified)
    fold_of(judged)  # refused here, and not method by method
    left_out = _lacking([*known.values()], train, head)
    names = [name for name in known if name not in left_out]
    fitted: dict[str, FittedScore] = {}
    honest: dict[str, Float64] = {}
    with progress("fitting", len(names), "methods", plan.show) as advance:
        for name in names:
            try:
                score, seconds = _fit_one(known[name].build(head=head), train, judged, fitted)
                own = score.out_of_fold(train, judged)
                recalibrator = Recalibrator().fit(own, judged.errors, seed=plan.seed)
                fitted[name], honest[name] = FittedScore(name, score, recalibrator, score.score(kept), seconds), own
            except DubioError as error:  # these rows do not suit this method; the others need not suffer
                if name == INCUMBENT:
                    raise
                left_out[name] = str(error)
            advance(1)
    controls = [name for name in honest if known[name].control]
    choice = choose(honest, judged, controls)
    return Fit(fitted, choice, kept.errors, honest, judged, left_out=left_out, groups=_repeating(kept))


def _repeating(rows: Representations) -> NDArray[np.int64] | None:
    """`[N]` numbers from 0 that rows share where they repeat one another; None where none does."""
    unit = rows.units[1]
    return unit if len(unit) and unit.max() + 1 < len(unit) else None


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


def choose(honest: Mapping[str, Float64], judged: Representations, controls: Sequence[str] | None = None) -> Choice:
    """The method with the best guaranteed gain over softmax response on out-of-fold scores, else softmax response.

    The guard's level is divided by the number of methods (Bonferroni): with twenty tries one would win by luck. So
    there is a number of errors below which none is chosen, whatever was measured (`fewest_errors`). The controls cannot
    be chosen: where one wins, the classifier is what can be improved, and the reason says so.
    """
    if INCUMBENT not in honest:
        raise DubioError(f"{INCUMBENT} must be among the methods: it is what the others have to beat")
    if controls is None:
        controls = [name for name in honest if is_method(name) and get_method(name).control]
    rivals = [name for name in honest if name != INCUMBENT and name not in controls]
    rows = Judged.of(judged.errors, fold_of(judged), judged.units[1])

    def verdicts(names: Sequence[str], swaps: Swaps) -> dict[str, GuardVerdict]:
        return guards({name: honest[name] for name in names}, honest[INCUMBENT], rows, swaps)

    # Many draws, which the far tail takes, only for the best of those that pass at the common level.
    seen, level = verdicts([*rivals, *controls], Swaps()), 1 - 0.05 / max(1, len(rivals))
    advice = _advice({name: seen[name] for name in controls})
    if rivals and rows.wrong < fewest_errors(level):
        return Choice(method=INCUMBENT, why=_too_few(rows.wrong, judged, len(rivals), fewest_errors(level)) + advice)
    passed = sorted((name for name in rivals if seen[name].kept), key=lambda name: -seen[name].low)[:FINALISTS]
    strict = verdicts(passed, Swaps(ceil(2 * TAIL / (1 - level)), level=level)) if passed else {}
    best = max((name for name in strict if strict[name].kept), key=lambda name: strict[name].low, default=None)
    if best is not None:
        v = strict[best]
        why = (
            f"Error ROC-AUC {100 * v.gain:+.1f} points over softmax response on {len(judged)} calibration rows "
            f"(out of fold, {100 * v.level:.1f} % interval {100 * v.low:+.1f} to {100 * v.high:+.1f}, "
            f"{len(rivals)} tried)."
        )
        return Choice(method=best, why=why + advice)
    others = "The one other method does not beat" if len(rivals) == 1 else f"None of {len(rivals)} methods beat"
    why = f"{others} softmax response on {len(judged)} calibration rows"
    nearest = max(rivals, key=lambda name: seen[name].gain, default=None)
    if nearest is not None:
        why += f" beyond chance; the nearest is {nearest} with {100 * seen[nearest].gain:+.1f} points"
        needed = _errors_that_would_do(seen[nearest], rows.wrong, level)
        why += f", which {rows.wrong} errors are too few to tell from luck (about {needed:,} might)" if needed else ""
    return Choice(method=INCUMBENT, why=f"{why}.{advice}")


def _too_few(wrong: int, judged: Representations, tried: int, fewest: int) -> str:
    """Why nothing but softmax response can be chosen."""
    every = int(judged.errors.sum())
    what = f"{every} wrong" if every == wrong else f"{every} wrong, in {wrong} groups of repeated texts"
    return (
        f"Softmax response decides, since too few of the {len(judged)} calibration rows are wrong to choose among "
        f"{tried} other methods ({what}): the luckiest of them would win. At least {fewest} are needed here, and a few "
        "hundred to see a gain of some points."
    )


def _errors_that_would_do(verdict: GuardVerdict, wrong: int, level: float) -> int | None:
    """About how many errors would show the measured gain at `level`, to two digits; None where there is no gain.

    The interval shrinks as the root of the number of errors, and the gain is taken to be real.
    """
    spread = (verdict.high - verdict.low) / (2 * norm.isf((1 - verdict.level) / 2))
    if verdict.gain <= 0:
        return None
    needed = wrong * (norm.isf((1 - level) / 2) * spread / verdict.gain) ** 2
    return None if not wrong < needed < MOST * wrong else two_digits(ceil(needed))


def _advice(controls: Mapping[str, GuardVerdict]) -> str:
    """What a control that beats softmax response means."""
    best = max(controls, key=lambda name: controls[name].gain, default=None)
    if best is None or not controls[best].kept:
        return ""
    return (
        f" A better head alone ({best}) would gain {100 * controls[best].gain:+.1f} points: train the adapter longer, "
        "or on more data, before anything else."
    )


def _lacking(methods: Sequence[Method], train: Representations | None, head: Any) -> dict[str, str]:
    """Name -> why it cannot be fitted, of the methods whose needs are not met."""
    given = {"train": train is not None, "head": head is not None}
    words = {"train": "it needs the training rows", "head": "it needs the model's classification head"}
    return {
        method.name: "; ".join(words[need] for need in lacking)
        for method in methods
        if (lacking := [need for need in words if need in method.needs and not given[need]])
    }
