"""Mahalanobis distance (MD): `U = min_c (z - mu_c)^T S^{-1} (z - mu_c)`, to the nearest class of training features.

Class means mu_c by true label and one covariance S shared by the classes, with a relative ridge (see `gaussian`).

Paper: Lee et al. 2018 (arXiv 1807.03888). Cost: d^2 a row; d^2 numbers stored.
"""

import numpy as np

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.scores.base import needed
from dubio.scores.density.feature_scores import OnFeatures
from dubio.scores.density.gaussian import GaussianConfig, feature_blocks, fit_classes, squared_distances, whitener


class MD(OnFeatures):
    """Squared distance to the nearest class, >= 0, in units of within-class variance.

    location_ `[d]`: mean of the features; whitener_ `[d, d]`; means_ `[K, d]`: class means about location_, whitened.
    """

    Config = GaussianConfig
    learned = ("location_", "whitener_", "means_")
    shapes = ("d", "d d", "K d")

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        gaussians = fit_classes(self.seen(needed(train, "train", self)), self.config.normalize)
        white = whitener(gaussians.within, self.config.ridge, gaussians.scale)
        self.location_: Float64 = gaussians.location
        self.whitener_: Float64 = white.matrix
        self.means_: Float64 = (gaussians.means - gaussians.location) @ white.matrix
        self.facts_ = {**gaussians.facts, **white.facts}

    def _score(self, rows: Representations) -> Float64:
        out = np.empty(len(rows), dtype=np.float64)
        for part, block in feature_blocks(self.seen(rows).features, self.config.normalize):
            out[part] = squared_distances(block, self.location_, self.whitener_, self.means_).min(axis=1)
        return out
