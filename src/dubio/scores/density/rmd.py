"""Relative Mahalanobis distance (RMD): `U = min_c MD_c(z) - MD_0(z)`.

MD_c as in `md`; MD_0 is the distance to one Gaussian of all training features. What is unusual about a row whatever
its class cancels, and what is left is how badly the nearest class explains it.

Paper: Ren et al. 2021 (arXiv 2106.09022). Cost: 2 d^2 a row; 2 d^2 numbers stored.
"""

import numpy as np

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.base import State, needed
from dubio.scores.density.feature_scores import OnFeatures
from dubio.scores.density.gaussian import (
    GaussianConfig,
    feature_blocks,
    fit_classes,
    mean_variance,
    squared_distances,
    whitener,
)
from dubio.scores.density.md import MD
from dubio.scores.derived import DerivedScore


class RMD(OnFeatures, DerivedScore):
    """Difference of two squared distances, of either sign; needs two classes among the training labels.

    location_ `[d]`: mean of the features; whitener_ and total_whitener_ `[d, d]`; means_ `[K, d]`, whitened.
    """

    Config = GaussianConfig
    learned = ("location_", "whitener_", "total_whitener_", "means_")
    shapes = ("d", "d d", "d d", "K d")

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        gaussians = fit_classes(self.seen(needed(train, "train", self)), self.config.normalize)
        if len(gaussians.classes) < 2:
            raise DubioError("RMD needs two classes among the training labels (with one it is 0 everywhere); use MD")
        white = whitener(gaussians.within, self.config.ridge, gaussians.scale)
        total = whitener(gaussians.total, self.config.ridge, mean_variance(gaussians.total, gaussians.total))
        self.location_: Float64 = gaussians.location
        self.whitener_: Float64 = white.matrix
        self.total_whitener_: Float64 = total.matrix
        self.means_: Float64 = (gaussians.means - gaussians.location) @ white.matrix
        self.facts_ = {**gaussians.facts, **white.facts, "total": total.facts}

    @property
    def inner(self) -> MD:
        """MD of the same training rows: the distance to the nearest class."""
        facts = {name: value for name, value in self.facts_.items() if name != "total"}
        arrays = {name: getattr(self, name) for name in MD.learned}
        return MD(self.config).restore(State({**arrays, **self.hidden_arrays()}, facts))

    def _derive(self, rows: Representations, inner: Float64) -> Float64:
        out = np.empty(len(rows), dtype=np.float64)
        origin = np.zeros((1, len(self.location_)))
        for part, block in feature_blocks(self.seen(rows).features, self.config.normalize):
            out[part] = inner[part] - squared_distances(block, self.location_, self.total_whitener_, origin)[:, 0]
        return out
