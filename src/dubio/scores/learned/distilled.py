"""A posterior's doubt distilled into one pass: what its samples say of an answer, learned from the adapter's features.

    U = s + (b + b_c) + (a + a_c) s~ + (w + w_c).z~,     s = log((1 - p[c]) / p[c]) of the adapter, c what it predicts,

fitted by ridge regression to t = log((1 - q[c]) / q[c]), q the mean prediction of the posterior's samples: the weights
explain t - s, so that under a strong ridge U is softmax response. z~: centred features over their norm's root mean
square; s~: s, standardised; slopes and intercepts are penalised a tenth as much. What is not a class's own is shared,
so that a class that is rare, or was never predicted, is judged as the others are. No label is read: any row that looks
like those to come can teach. The ridge is the one of least squared error, each row left out once; of repeated rows one
is kept.

Solved in its dual, with K_ij = (z~_i.z~_j + 10 (1 + s~_i s~_j)) (1 + [c_i = c_j]) and the leave-one-out residuals in
closed form, r_i = (K + ridge I)^-1 t|_i / (K + ridge I)^-1_ii.

Source: dubio; distilling an ensemble is Hinton et al. 2015 (arXiv 1503.02531), a dual ridge Saunders et al. 1998. Cost:
the posterior's passes over the calibration rows and n^3 operations, once (seconds at 2,000 rows); then one pass a row.
"""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dubio.arrays import Float64, Int64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.log_space import error_log_odds
from dubio.measures import log_complement, log_mean
from dubio.scores.base import MethodConfig, Score, needed

_HEAD = 10.0  # weight of slopes and intercepts in the kernel
_ROWS = 4096  # more make the dual slow, and the fit little better
_SURE = 50.0  # nats: samples of exactly 0 or 1 have no log-odds


class DistilledConfig(MethodConfig):
    """teacher: the posterior. ridges: tried. class_directions: a direction for each predicted class besides w."""

    teacher: str
    class_directions: bool = True
    ridges: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        tuple(float(f"{10 ** (k / 4):.3g}") for k in range(-8, 13)), min_length=1
    )


class Distilled(Score):
    """Log-odds of error; `directions_` `[C, d]`, `slopes_`, `intercepts_` `[C]`, `centre_` `[d]`, `scales_` `[3]`."""

    Config = DistilledConfig
    learned = ("directions_", "slopes_", "intercepts_", "centre_", "scales_")
    shapes = ("C d", "C", "C", "d", "3")
    uses_calibration = True

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        rows = needed(calibration, "calibration", self)
        if rows.groups is not None:
            rows = rows.take(np.sort(np.unique(rows.groups, return_index=True)[1]))
        if len(rows) > _ROWS:
            rows = rows.take(np.sort(np.random.default_rng(0).permutation(len(rows))[:_ROWS]))
        z, s, classes = np.asarray(rows.features, dtype=np.float64), error_log_odds(rows.logits), rows.predictions
        rest = self._teacher(rows) - s
        self.centre_ = z.mean(axis=0)
        norm = float(np.sqrt(((z - self.centre_) ** 2).sum(axis=1).mean()))
        self.scales_ = np.array([norm or 1.0, s.mean(), s.std() or 1.0])
        z, slope = self._scaled(z, s)
        weights, ridge, error = best_ridge(self._kernel(z, slope, classes), rest, self.config.ridges)
        own = np.zeros((rows.classes, len(rows)))
        own[classes, np.arange(len(rows))] = weights
        self.directions_ = np.broadcast_to(weights @ z, (rows.classes, z.shape[1])).copy()
        if self.config.class_directions:
            self.directions_ += own @ z
        self.slopes_ = _HEAD * (weights @ slope + own @ slope)
        self.intercepts_ = _HEAD * (weights.sum() + own.sum(axis=1))
        spread = float(((rest - rest.mean()) ** 2).mean())
        self.facts_ = {"ridge": ridge, "explained": 1 - error / spread if spread > 0 else 0.0, "rows": len(rows)}

    def _score(self, rows: Representations) -> Float64:
        s, classes = error_log_odds(rows.logits), rows.predictions
        z, slope = self._scaled(np.asarray(rows.features, dtype=np.float64), s)
        found = np.einsum("nd,nd->n", z, self.directions_[classes])
        return s + self.intercepts_[classes] + self.slopes_[classes] * slope + found

    def _teacher(self, rows: Representations) -> Float64:
        """`[N]` the posterior's log-odds that the adapter's answer is wrong."""
        table = rows.samples.get(self.config.teacher)
        if table is None:
            raise DubioError(f"these rows carry no samples of {self.config.teacher} to learn from; draw them first")
        if len(table) < 2:
            raise DubioError(f"one sample of {self.config.teacher} doubts nothing; draw more to learn from")
        mean, classes = log_mean(table), rows.predictions
        return np.clip(log_complement(mean, classes) - mean[np.arange(len(rows)), classes], -_SURE, _SURE)

    def _scaled(self, z: Float64, s: Float64) -> tuple[Float64, Float64]:
        norm, middle, spread = self.scales_
        return (z - self.centre_) / norm, (s - middle) / spread

    def _kernel(self, z: Float64, slope: Float64, classes: Int64) -> Float64:
        same = (classes[:, None] == classes[None, :]).astype(np.float64)
        gram = z @ z.T
        head, own = _HEAD * (1 + np.outer(slope, slope)), gram if self.config.class_directions else 0.0
        return gram + head + same * (own + head)


def best_ridge(kernel: Float64, target: Float64, ridges: tuple[float, ...]) -> tuple[NDArray[Any], float, float]:
    """(dual weights `[n]`, ridge, leave-one-out mean squared error) of the ridge with the least such error."""
    values, vectors = np.linalg.eigh(kernel)
    values, along, squares = np.maximum(values, 0.0), vectors.T @ target, vectors**2
    best: tuple[NDArray[Any], float, float] | None = None
    for ridge in sorted(ridges, reverse=True):  # of equal ones the strongest
        inverse = 1 / (values + ridge)
        weights = vectors @ (inverse * along)
        error = float(np.mean((weights / (squares @ inverse)) ** 2))
        if best is None or error < best[2]:
            best = (weights, float(ridge), error)
    assert best is not None
    return best
