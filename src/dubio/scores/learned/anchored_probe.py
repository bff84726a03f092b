"""Anchored probe: a logistic regression of errors on features that starts, and under a strong ridge stays, at softmax
response (ours; the anchor is the idea of AdUE's L2-SP term, made convex).

    P(error) = sigmoid( a s + b + c_yhat + g H + w.z~ [+ w_yhat.z~] ),   s = log((1 - max p) / max p), H = entropy,

z~ the standardised features divided by sqrt(d); ridge on every departure from a = 1, rest 0. The whole ridge path is
solved by Newton's method; the ridge is chosen by cross-validated gain in error ROC-AUC with the one-standard-error
rule towards strong ridges. With `class_directions` each predicted class has a direction of its own.

The score is the log-odds of error; fitted on calibration rows its sigmoid is a probability. Cost: seconds to fit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.log_space import entropy, error_log_odds
from dubio.scores.learned.cross_validated import SelectedConfig, SelectedScore, standardiser
from dubio.scores.learned.model_selection import one_standard_error
from dubio.scores.learned.ridge_path import Design, solve_path

_MOST_CLASSES = 64  # a direction a class costs a Cholesky factor a class and step
_LIGHT = 0.01  # the slope and intercept are two well-determined numbers: they hardly need the ridge


class AnchoredProbeConfig(SelectedConfig):
    """class_directions: a direction for each predicted class besides the shared one. ridges: the path, in nats."""

    class_directions: bool = False
    ridges: tuple[float, ...] = Field((1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5), min_length=1)


class AnchoredProbe(SelectedScore):
    """Log-odds of error; `shared_` `[D]`, `grouped_` `[C, d]`, `mean_` and `scale_` `[d]` of the features."""

    Config = AnchoredProbeConfig
    learned = ("shared_", "grouped_", "mean_", "scale_")
    shapes = ("D", "K e", "d", "d")

    def _candidates(self, rows: Representations, watch: Representations) -> NDArray[Any]:
        self._standardise(rows)
        design, path = self._design(watch), solve_path(self._design(rows), rows.errors, self._ridges())
        return np.stack([design.predict(*coefficients) for coefficients in path])

    def _choose(self, gains: Float64) -> int:
        return one_standard_error(gains, self._ridges())

    def _finish(self, rows: Representations, chosen: int) -> dict[str, Any]:
        self._standardise(rows)
        ridges = self._ridges()[: chosen + 1]
        self.shared_, self.grouped_ = solve_path(self._design(rows), rows.errors, ridges)[-1]
        return {"ridge": float(ridges[-1]), "slope": 1 + float(self.shared_[0]), "intercept": float(self.shared_[1])}

    def _learned_score(self, rows: Representations) -> Float64:
        few = _few_columns(rows)
        own = self.grouped_ if self.config.class_directions else np.zeros((rows.classes, 1))
        # scales divide the coefficients here, and not every row of features
        directions = (self.shared_[few.shape[1] :] + own) / self.scale_
        every = (rows.features - self.mean_) @ directions.T
        return few[:, 0] + few @ self.shared_[: few.shape[1]] + every[np.arange(len(rows)), rows.predictions]

    def _ridges(self) -> Float64:
        return np.sort(np.array(self.config.ridges))[::-1]

    def _standardise(self, rows: Representations) -> None:
        self.mean_, scale = standardiser(rows.features)
        self.scale_ = scale * np.sqrt(len(scale))

    def _design(self, rows: Representations) -> Design:
        classes, predicted = rows.classes, rows.predictions
        if self.config.class_directions and classes > _MOST_CLASSES:
            raise DubioError(f"class_directions is made for up to {_MOST_CLASSES} classes, not {classes}; leave it off")
        z = (rows.features.astype(np.float64) - self.mean_) / self.scale_
        x = np.column_stack([_few_columns(rows), z])
        penalty = np.ones(x.shape[1])
        penalty[:2] = _LIGHT
        own = z.shape[1] if self.config.class_directions else 0
        return Design(x, x[:, 0].copy(), predicted, penalty, classes, own)


def _few_columns(rows: Representations) -> Float64:
    """`[N, C + 3]`: s, 1, the predicted class as one of C, and H."""
    one_hot = np.eye(rows.classes)[rows.predictions]
    return np.column_stack([error_log_odds(rows.logits), np.ones(len(rows)), one_hot, entropy(rows.logits)])
