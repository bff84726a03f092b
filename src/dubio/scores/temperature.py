"""Temperature-scaled softmax response: `U = log(1 - max_c softmax(l / T)_c)`.

T > 0 minimises the calibration NLL: one-dimensional and convex in 1/T, so its minimum is unique. With two classes
the order of rows cannot change; with more it can, which makes this the honest baseline for every learned score.

Paper: Guo et al. 2017 (arXiv 1706.04599). Cost: one scalar search.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.base import Score, needed
from dubio.scores.log_space import log_error, log_softmax


class TemperatureScaledResponse(Score):
    """Softmax response after dividing the logits by the fitted `temperature_` (shape `[1]`)."""

    learned = ("temperature_",)
    uses_calibration = True

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        table = needed(calibration, "calibration", self)
        labels, rows = table.known_labels, np.arange(len(table))
        logits = table.logits.astype(np.float64)

        def nll(log_inverse: float) -> float:
            return -float(log_softmax(logits * np.exp(log_inverse))[rows, labels].mean())

        found: Any = minimize_scalar(nll, bounds=(np.log(1e-3), np.log(1e3)), method="bounded", options={"xatol": 1e-8})
        if not found.success:
            raise DubioError("temperature scaling found no minimum; check the calibration logits")
        self.temperature_: Float64 = np.array([np.exp(-found.x)])
        self.facts_ = {
            "temperature": float(self.temperature_[0]),
            "nll_before": nll(0.0),
            "nll_after": float(found.fun),
        }

    def _score(self, rows: Representations) -> Float64:
        return log_error(rows.logits.astype(np.float64) / self.temperature_[0])
