"""Temperature-scaled softmax response: `U = log(1 - max_c softmax(l / T)_c)`.

T > 0 minimises the calibration NLL: one-dimensional and convex in 1/T, so its minimum is unique. With two classes
the order of rows cannot change; with more it can, which makes this the honest baseline for every learned score.

Paper: Guo et al. 2017 (arXiv 1706.04599). Cost: one scalar search.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from dubio.arrays import Float64, Int64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.log_space import log_error, log_softmax
from dubio.scores.base import Score, needed


class TemperatureScaledResponse(Score):
    """Softmax response after dividing the logits by the fitted `temperature_` (shape `[1]`)."""

    learned = ("temperature_",)
    shapes = ("1",)
    uses_calibration = True

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        table = needed(calibration, "calibration", self)
        self.temperature_, self.facts_ = best_temperature(table.logits.astype(np.float64), table.known_labels)

    def _score(self, rows: Representations) -> Float64:
        return log_error(rows.logits.astype(np.float64) / self.temperature_[0])

    def log_probabilities(self, rows: Representations) -> Float64:
        """`[N, C]` of the scaled logits."""
        self.check_fitted()
        return log_softmax(rows.logits.astype(np.float64) / self.temperature_[0])


def best_temperature(logits: Float64, labels: Int64) -> tuple[Float64, dict[str, float]]:
    """(`[1]` the temperature of least NLL, facts) for logits, or log-probabilities, `[N, C]` and labels `[N]`.

    Raises DubioError where the search finds no minimum.
    """
    rows = np.arange(len(labels))

    def nll(log_inverse: float) -> float:
        return -float(log_softmax(logits * np.exp(log_inverse))[rows, labels].mean())

    found: Any = minimize_scalar(nll, bounds=(np.log(1e-3), np.log(1e3)), method="bounded", options={"xatol": 1e-8})
    if not found.success:
        raise DubioError("temperature scaling found no minimum; check the calibration logits")
    temperature = np.array([np.exp(-found.x)])
    facts = {"temperature": float(temperature[0]), "nll_before": nll(0.0), "nll_after": float(found.fun)}
    return temperature, facts
