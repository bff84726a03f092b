"""Refitted head: multinomial logistic regression on the features, scored on the adapter's own prediction (a control).

    U = log(1 - q_yhat),   q = the refitted classifier's probabilities, yhat = the adapter's predicted class.

It never looks at errors. Where it gains, the adapter's head was not trained to its best, and a learned uncertainty
that gains as much has improved the classifier rather than found uncertainty. The strength of the ridge is chosen by
cross-validated gain. Fitting is scikit-learn's L-BFGS. Cost: seconds to a minute to fit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.log_space import log_softmax
from dubio.scores.learned.cross_validated import SelectedConfig, SelectedScore, standardiser


class RefittedHeadConfig(SelectedConfig):
    """strengths: inverse ridges (scikit-learn's C) on standardised features; steps: limit of L-BFGS iterations."""

    strengths: tuple[float, ...] = Field((1e-4, 1e-3, 1e-2, 1e-1), min_length=1)
    steps: int = Field(200, ge=1)


class RefittedHead(SelectedScore):
    """log(1 - q_yhat) in nats; `weight_` `[C, d]` and `bias_` `[C]` act on raw features."""

    Config = RefittedHeadConfig
    learned = ("weight_", "bias_")
    shapes = ("C d", "C")

    def _candidates(self, rows: Representations, watch: Representations) -> NDArray[Any]:
        return np.stack([_surprise(watch, *solution) for solution in self._path(rows, self.config.strengths)])

    def _choose(self, gains: Float64) -> int:
        return int(np.argmax(gains.mean(axis=1)))

    def _finish(self, rows: Representations, chosen: int) -> dict[str, Any]:
        strengths = self.config.strengths[: chosen + 1]
        self.weight_, self.bias_ = self._path(rows, strengths)[-1]
        refitted = np.argmax(_logits(rows, self.weight_, self.bias_), axis=1)
        return {"strength": strengths[-1], "accuracy_on_fitted_rows": float((refitted == rows.known_labels).mean())}

    def _learned_score(self, rows: Representations) -> Float64:
        return _surprise(rows, self.weight_, self.bias_)

    def log_probabilities(self, rows: Representations) -> Float64:
        """`[N, C]` the refitted classifier's own."""
        self.check_fitted()
        return log_softmax(_logits(rows, self.weight_, self.bias_))

    def _path(self, rows: Representations, strengths: tuple[float, ...]) -> list[tuple[Float64, Float64]]:
        """Weights `[C, d]` and biases `[C]` at each strength, each started from the last."""
        labels, z = rows.known_labels, rows.features.astype(np.float64)
        present = np.unique(labels)
        if len(present) < 2:
            raise DubioError("refitting a head needs rows of at least two classes; give more rows")
        mean, scale = standardiser(z)
        z = (z - mean) / scale
        model = LogisticRegression(max_iter=self.config.steps, tol=1e-4, warm_start=True)
        path: list[tuple[Float64, Float64]] = []
        for strength in strengths:
            with threadpool_limits(1):  # thousands of thin products: threads only wait for each other
                model.set_params(C=strength).fit(z, labels)
            coefficients, intercepts = np.asarray(model.coef_), np.asarray(model.intercept_)
            if len(present) == 2:  # scikit-learn keeps one row for two classes: spread it over both
                coefficients = np.concatenate([-coefficients, coefficients]) / 2
                intercepts = np.concatenate([-intercepts, intercepts]) / 2
            weight = np.zeros((rows.classes, z.shape[1]))
            bias = np.full(rows.classes, -30.0)  # a class without rows keeps a vanishing probability
            weight[present] = coefficients / scale
            bias[present] = intercepts - (coefficients / scale) @ mean
            path.append((weight, bias))
        return path


def _logits(rows: Representations, weight: Float64, bias: Float64) -> Float64:
    return rows.features.astype(np.float64) @ weight.T + bias


def _surprise(rows: Representations, weight: Float64, bias: Float64) -> Float64:
    """log(1 - q) of the adapter's predicted class, from the other classes' log-probabilities."""
    log_q = log_softmax(_logits(rows, weight, bias))
    log_q[np.arange(len(rows)), rows.predictions] = -np.inf
    return np.asarray(logsumexp(log_q, axis=1), dtype=np.float64)
