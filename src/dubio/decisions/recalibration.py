"""From uncertainty in a method's own units to a calibrated probability of error, non-decreasing in the uncertainty.

Two maps, the better by 5-fold cross-validated log loss on the given rows:
    Platt:    P(error | u) = sigmoid(a z + b), a >= 0, z = (u - mean) / sd, fitted to the smoothed targets
              (w + 1) / (w + 2) for errors and 1 / (r + 2) for right rows, w and r their numbers
    isotonic: the non-decreasing step fit of least squares, linear between steps; an end step of n rows all right or all
              wrong becomes 1 / (n + 2) or (n + 1) / (n + 2) (Laplace), so that the log loss is finite
A method that ranks errors backwards gets a = 0: everybody the base rate, and says so in its facts.
Papers: Platt 1999; Zadrozny & Elkan 2002; Niculescu-Mizil & Caruana 2005.
"""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, xlogy
from sklearn.isotonic import IsotonicRegression

from dubio.arrays import Bool, Float64, Int64, as_errors, as_vector
from dubio.errors import ArtifactError, DubioError, NotFittedError
from dubio.scores.base import FOLDS, State
from dubio.scores.stored import check_arrays

Map = dict[str, Float64]
PLATT, ISOTONIC = "platt", "isotonic"


class Recalibrator:
    """Maps uncertainty `[N]` to error probability `[N]`. Learned: `kind_`, `arrays_` and `facts_`."""

    def __init__(self) -> None:
        self.kind_: str | None = None
        self.arrays_: Map = {}
        self.facts_: dict[str, Any] = {}

    def fit(self, uncertainty: Any, errors: Any, seed: int = 0) -> Self:
        """Learns from held-out rows: uncertainty `[N]`, errors `[N]` (0/1); `seed` deals the folds. Returns self.

        Raises DubioError on NaN, lengths that differ, or fewer than two errors or two right rows.
        """
        values = as_vector(uncertainty, "uncertainty")
        wrong = as_errors(errors, rows=len(values))
        fewest = min(int(wrong.sum()), int((~wrong).sum()))
        if fewest < 2:
            raise DubioError(
                f"calibration has {_few(int(wrong.sum()))} errors and {_few(int((~wrong).sum()))} right rows; "
                "it needs two of each, so give more calibration rows"
            )
        folds = _folds(wrong, min(FOLDS, fewest), seed)
        losses = {kind: _held_out_loss(kind, values, wrong, folds) for kind in _FITS}
        self.kind_ = min(losses, key=lambda kind: losses[kind])
        self.arrays_ = _FITS[self.kind_](values, wrong)
        self.facts_ = {
            "kind": self.kind_,
            "rows": len(values),
            "errors": int(wrong.sum()),
            "log_loss_platt": losses[PLATT],
            "log_loss_isotonic": losses[ISOTONIC],
            "informative": bool(np.ptp(_predict(self.kind_, self.arrays_, values)) > 0),
        }
        return self

    def predict(self, uncertainty: Any) -> Float64:
        """`[N]` error probability in (0, 1); raises NotFittedError before `fit`, DubioError on NaN or infinity."""
        if self.kind_ is None:
            raise NotFittedError("the recalibrator is not fitted; call fit(uncertainty, errors) first")
        return _predict(self.kind_, self.arrays_, as_vector(uncertainty, "uncertainty"))

    def state(self) -> State:
        """Arrays and JSON facts for `from_state`; raises NotFittedError before `fit`."""
        if self.kind_ is None:
            raise NotFittedError("the recalibrator is not fitted; call fit(uncertainty, errors) first")
        return State(dict(self.arrays_), dict(self.facts_))

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The recalibrator that `state` came from, to the bit; raises ArtifactError if the state is not one."""
        kind = state.facts.get("kind")
        if kind not in _FITS or not set(_SHAPES[kind]) <= set(state.arrays):
            raise ArtifactError("the stored recalibration is incomplete or of an unknown kind; fit again")
        made = cls()
        made.kind_, made.facts_ = kind, dict(state.facts)
        try:
            found = check_arrays(state.arrays, _SHAPES[kind], "recalibration")
        except DubioError as error:
            raise ArtifactError(str(error)) from error
        made.arrays_ = {name: array.astype(np.float64) for name, array in found.items()}
        if not _is_map(kind, made.arrays_):
            raise ArtifactError("the stored recalibration is no map to probabilities that never falls; fit again")
        return made


def _fit_platt(values: Float64, wrong: Bool) -> Map:
    """parameters: `[4]` mean, sd, a, b."""
    mean, scale = float(values.mean()), float(values.std())
    scale = scale if scale > 0 else 1.0
    z, w = (values - mean) / scale, int(wrong.sum())
    target = np.where(wrong, (w + 1) / (w + 2), 1 / (len(wrong) - w + 2))

    def loss(parameters: Float64) -> tuple[float, Float64]:
        logit = parameters[0] * z + parameters[1]
        residual = expit(logit) - target
        return float((np.logaddexp(0.0, logit) - target * logit).mean()), np.array(
            [(residual * z).mean(), residual.mean()]
        )

    start = np.array([0.0, np.log(target.mean() / (1 - target.mean()))])
    found: Any = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)],
                          options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000})  # fmt: skip
    return {"parameters": np.array([mean, scale, *found.x], dtype=np.float64)}


def _fit_isotonic(values: Float64, wrong: Bool) -> Map:
    """knots, levels: `[K]` uncertainties and error probabilities, both ascending."""
    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(values, wrong.astype(np.float64))
    knots: Float64 = np.asarray(model.X_thresholds_, dtype=np.float64)
    levels: Float64 = np.asarray(model.y_thresholds_, dtype=np.float64)
    fitted = _interpolate(knots, levels, values)
    low = 1 / (int((fitted <= 0).sum()) + 2) if levels[0] <= 0 else 0.0
    rows = int((fitted >= 1).sum())
    high = (rows + 1) / (rows + 2) if levels[-1] >= 1 else 1.0
    return {"knots": knots, "levels": np.clip(levels, low, max(low, high))}


def _predict(kind: str, arrays: Map, values: Float64) -> Float64:
    if kind == PLATT:
        mean, scale, slope, intercept = arrays["parameters"]
        # Cut before the sigmoid rounds to 1: neither an error nor a success is ever certain.
        return expit(np.clip(slope * ((values - mean) / scale) + intercept, -36.0, 36.0))
    return _interpolate(arrays["knots"], arrays["levels"], values)


def _is_map(kind: str, arrays: Map) -> bool:
    """Whether stored numbers give probabilities that never fall as the uncertainty grows."""
    if kind == PLATT:
        _, scale, slope, _ = arrays["parameters"]
        return bool(scale > 0 and slope >= 0)
    knots, levels = arrays["knots"], arrays["levels"]
    ascends = (np.diff(knots) > 0).all() and (np.diff(levels) >= 0).all()
    return bool(len(knots) and ascends and levels[0] >= 0 and levels[-1] <= 1)


def _interpolate(knots: Float64, levels: Float64, values: Float64) -> Float64:
    """Linear between knots, constant outside, and never out of its step by rounding."""
    if len(knots) == 1:
        return np.full(len(values), levels[0])
    at = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, len(knots) - 2)
    inside = np.clip((values - knots[at]) / (knots[at + 1] - knots[at]), 0.0, 1.0)
    return np.clip(levels[at] + inside * (levels[at + 1] - levels[at]), levels[at], levels[at + 1])


def _held_out_loss(kind: str, values: Float64, wrong: Bool, folds: Int64) -> float:
    """Cross-validated log loss in nats a row."""
    total = 0.0
    for fold in np.unique(folds):
        held = folds == fold
        p = _predict(kind, _FITS[kind](values[~held], wrong[~held]), values[held])
        total -= float((xlogy(wrong[held], p) + xlogy(~wrong[held], 1 - p)).sum())
    return total / len(values)


def _few(count: int) -> str:
    return "no" if count == 0 else str(count)


def _folds(wrong: Bool, count: int, seed: int) -> Int64:
    """`[N]` fold numbers, stratified over right and wrong rows."""
    generator = np.random.default_rng(seed)
    folds = np.empty(len(wrong), dtype=np.int64)
    for kind in (wrong, ~wrong):
        rows = generator.permutation(np.flatnonzero(kind))
        folds[rows] = np.arange(len(rows)) % count
    return folds


_FITS: dict[str, Callable[[Float64, Bool], Map]] = {PLATT: _fit_platt, ISOTONIC: _fit_isotonic}
_SHAPES = {PLATT: {"parameters": "4"}, ISOTONIC: {"knots": "K", "levels": "K"}}
