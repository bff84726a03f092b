"""Deep deterministic uncertainty (DDU): `U = -log sum_c (1/K) N(z; mu_c, S_c)`, a Gaussian of its own for each class.

The ridge of every S_c is relative to the variance pooled over classes, so that directions in which a small class
does not vary weigh alike in all classes, and a class collapsed onto its mean keeps a density. Uniform class weights.

Paper: Mukhoti et al. 2021 (arXiv 2102.11582). Cost: K d^2 a row; K d^2 numbers stored.
"""

import numpy as np
from scipy.special import logsumexp

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.scores.base import needed
from dubio.scores.density.feature_scores import OnFeatures
from dubio.scores.density.gaussian import GaussianConfig, covariance, feature_blocks, fit_classes, whiten, whitener


class DDU(OnFeatures):
    """Negated log-density of the features, in nats, unbounded.

    means_ `[K, d]`; whiteners_ `[K, d, d]`; log_dets_ `[K]`: log-determinants of the ridged class covariances.
    """

    Config = GaussianConfig
    learned = ("means_", "whiteners_", "log_dets_")
    shapes = ("K d", "K d d", "K")

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        table, normalize = self.seen(needed(train, "train", self)), self.config.normalize
        gaussians = fit_classes(table, normalize)
        whiteners = []
        for k in range(len(gaussians.classes)):
            rows = np.flatnonzero(gaussians.groups == k)
            own = covariance(table.features[rows], np.zeros(len(rows), np.int64), gaussians.means[k : k + 1], normalize)
            whiteners.append(whitener(own, self.config.ridge, gaussians.scale))
        self.means_: Float64 = gaussians.means
        self.whiteners_: Float64 = np.stack([white.matrix for white in whiteners])
        self.log_dets_: Float64 = np.array([white.log_det for white in whiteners])
        by_class = {
            name: [white.facts[name] for white in whiteners] for name in ("ridge", "effective_rank", "condition")
        }
        self.facts_ = {**gaussians.facts, **by_class}

    def _score(self, rows: Representations) -> Float64:
        k, d = self.means_.shape
        out = np.empty(len(rows), dtype=np.float64)
        for part, block in feature_blocks(self.seen(rows).features, self.config.normalize):
            log_density = np.empty((len(block), k))
            for c in range(k):
                white = whiten(block - self.means_[c], self.whiteners_[c])
                squares = np.einsum("nd,nd->n", white, white)
                log_density[:, c] = -0.5 * (squares + self.log_dets_[c] + d * np.log(2 * np.pi))
            out[part] = np.log(k) - np.asarray(logsumexp(log_density, axis=1))
        return out
