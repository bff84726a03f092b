"""k nearest neighbours (kNN): `U = |z - z_(k)|`, the distance to the k-th nearest training row.

The paper works on L2-normalised features (`normalize=True`, as registered). No density is assumed, no label is read.

Paper: Sun et al. 2022 (arXiv 2204.06507). Cost: N d a row (N training rows); N d float32 numbers stored.
"""

import numpy as np
from pydantic import Field

from dubio.arrays import Float32, Float64
from dubio.containers import Representations
from dubio.scores.base import needed
from dubio.scores.density.feature_scores import OnFeatures
from dubio.scores.density.gaussian import FeatureConfig, feature_blocks, location_and_variance

QUERIES = 512  # rows compared at a time with one block of training rows: the table of distances stays small


class KNNConfig(FeatureConfig):
    """k: which neighbour counts, capped at the number of training rows (paper: 50 on CIFAR-10, 200 on CIFAR-100)."""

    k: int = Field(50, ge=1)


class KNN(OnFeatures):
    """Euclidean distance to the k-th neighbour, >= 0.

    location_ `[d]`: mean of the (normalised) features; neighbours_ `[N, d]`: training rows about it, float32.
    """

    Config = KNNConfig
    learned = ("location_", "neighbours_")
    shapes = ("d", "N d")

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        table = self.seen(needed(train, "train", self))
        self.location_, _ = location_and_variance(table.features, self.config.normalize)
        self.neighbours_ = self._centred(table.features)
        self.facts_ = {"rows": len(table), "k": min(self.config.k, len(table))}

    def _score(self, rows: Representations) -> Float64:
        queries = self._centred(self.seen(rows).features)
        out = np.empty(len(rows), dtype=np.float64)
        for start in range(0, len(rows), QUERIES):
            part = slice(start, start + QUERIES)
            out[part] = self._distance_to_kth(queries[part].astype(np.float64))
        return out

    def _centred(self, features: Float32) -> Float32:
        """Features about `location_`, which keeps the digits of a distance between rows far from the origin."""
        out = np.empty(features.shape, dtype=np.float32)
        for part, block in feature_blocks(features, self.config.normalize):
            out[part] = block - self.location_
        return out

    def _distance_to_kth(self, queries: Float64) -> Float64:
        """`[B]` distances, holding on to the k smallest squares while the training rows pass in blocks."""
        k = int(self.facts_["k"])
        nearest = np.empty((len(queries), 0))
        norms = np.einsum("nd,nd->n", queries, queries)[:, None]
        for _, block in feature_blocks(self.neighbours_, normalize=False):
            squares = norms + np.einsum("nd,nd->n", block, block) - 2 * (queries @ block.T)
            nearest = np.concatenate([nearest, squares], axis=1)
            if nearest.shape[1] > k:
                nearest = np.partition(nearest, k - 1, axis=1)[:, :k]
        return np.sqrt(np.maximum(nearest.max(axis=1), 0.0))
