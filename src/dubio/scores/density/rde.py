"""Robust density estimation (RDE): robust Mahalanobis distance to the nearest class after kernel PCA.

    k(z, z') = exp(-gamma |z - z'|^2),   h(z) = centred k(z, Z) A,   U = min_c (h - m_c)^T C^{-1} (h - m_c)

A holds the leading kernel components, each of unit variance on the reference rows Z; C is the Minimum Covariance
Determinant (MCD) covariance of those rows about their class medians, m_c the class median plus the MCD location.
`per_class=False` is AdUE's code: one centre for all rows. MCD then keeps the densest half of the rows, drops whole
classes as outliers, and scores their rows above rows from elsewhere.

Where this departs from that code besides, and why:
* gamma = WIDTH / (d * mean variance) instead of 1 / d, so that the unit of the features does not matter;
* at most `rows` reference rows, drawn with a seed in proportion to the classes: kernel PCA is cubic in them;
* at most one component for 20 reference rows (100 for 2,000; the paper's 256 need `rows=5120`): MCD searches among
  subsets of 300 rows, and with components of about that number it returns an arbitrary half of the data;
* where MCD fails (many repeated rows) the plain mean and covariance stand in, and the fact `robust` says so.

Far from all rows the kernel is 0 and the score levels off: it tells unusual from usual rows, not far from farther.

Paper: Yoo et al. 2022 (arXiv 2203.01677). Cost: seconds to fit; n d a row and n (d + p) numbers stored (n = `rows`).
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.scores.base import needed
from dubio.scores.density.feature_scores import OnFeatures
from dubio.scores.density.gaussian import FeatureConfig, Whitener, feature_blocks, location_and_variance, whitener

ROWS_PER_COMPONENT = 20
WIDTH = 0.1  # at 1 the kernel is nearly 0 for rows at twice the usual distance, and they fall back to the centre
RIDGE = 1e-6  # components have unit variance and MCD enough rows: the ridge only guards the factorisation
NULL = 1e-8  # eigenvalues below this share of the largest are the null space of the kernel


class RDEConfig(FeatureConfig):
    """components: kernel components, at most `rows / 20`; rows: reference rows; seed: of the draw and of MCD;
    per_class: a centre for each class (needs labels) instead of one for all.
    """

    components: int = Field(256, ge=1)
    rows: int = Field(2000, ge=2)
    seed: int = Field(42, ge=0)
    per_class: bool = True


class RDE(OnFeatures):
    """Squared robust distance in the space of kernel components, >= 0.

    location_ `[d]`, gamma_ `[1]`, reference_ `[n, d]` about the location; kernel_mean_ `[n]` and components_ `[n, p]`:
    the centring and the scaled eigenvectors; robust_whitener_ `[p, p]`: MCD; centres_ `[K, p]`, whitened, K = 1 if one
    centre serves all.
    """

    Config = RDEConfig
    learned = ("location_", "gamma_", "reference_", "kernel_mean_", "components_", "robust_whitener_", "centres_")
    shapes = ("d", "1", "n d", "n", "n p", "p p", "K p")

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        table = self.seen(needed(train, "train", self))
        self.location_, variance = location_and_variance(table.features, self.config.normalize)
        self.gamma_: Float64 = np.array([WIDTH / (table.features.shape[1] * variance)])
        chosen = table.take(draw_rows(table, self.config.rows, self.config.seed))
        blocks = [block - self.location_ for _, block in feature_blocks(chosen.features, self.config.normalize)]
        self.reference_: Float64 = np.concatenate(blocks)
        self._fit_components(min(self.config.components, max(1, len(chosen) // ROWS_PER_COMPONENT)))
        h = self.components_of(self.reference_)
        groups = np.zeros(len(h), np.int64)
        medians = np.zeros((1, h.shape[1]))
        if self.config.per_class:
            classes, groups = np.unique(chosen.known_labels, return_inverse=True)
            medians = np.stack([np.median(h[groups == k], axis=0) for k in range(len(classes))])
        location, white, robust = fit_robust(h - medians[groups], self.config.seed)
        self.robust_whitener_: Float64 = white.matrix
        self.centres_: Float64 = (medians + location) @ white.matrix
        self.facts_ = {
            "rows": len(chosen),
            "components": self.components_.shape[1],
            "gamma": float(self.gamma_[0]),
            "robust": robust,
            **white.facts,
        }

    def _fit_components(self, count: int) -> None:
        """Kernel PCA of the reference rows; components in the null space are dropped (repeated rows make them)."""
        from sklearn.decomposition import KernelPCA  # here: scoring a stored method needs no scikit-learn

        kernel = self._kernel(self.reference_)
        found = KernelPCA(count, kernel="precomputed", eigen_solver="dense", random_state=self.config.seed).fit(kernel)
        values, vectors = np.asarray(found.eigenvalues_), np.asarray(found.eigenvectors_)
        kept = values > NULL * values[0]
        unit = vectors[:, kept] / values[kept] * np.sqrt(len(kernel))  # unit variance on the reference rows
        # Taking each column's mean off the weights centres the rows of the kernel; columns are centred when scoring.
        self.components_: Float64 = np.ascontiguousarray(unit - unit.mean(axis=0))
        self.kernel_mean_: Float64 = kernel.mean(axis=0)

    def components_of(self, centred: Float64) -> Float64:
        """`[N, p]` kernel components of features about `location_`."""
        return (self._kernel(centred) - self.kernel_mean_) @ self.components_

    def _kernel(self, centred: Float64) -> Float64:
        """`[N, n]` RBF kernel against the reference rows."""
        squares = np.einsum("nd,nd->n", self.reference_, self.reference_) - 2 * (centred @ self.reference_.T)
        squares += np.einsum("nd,nd->n", centred, centred)[:, None]
        return np.exp(-self.gamma_[0] * np.maximum(squares, 0.0))

    def _score(self, rows: Representations) -> Float64:
        out = np.empty(len(rows), dtype=np.float64)
        for part, block in feature_blocks(self.seen(rows).features, self.config.normalize):
            white = self.components_of(block - self.location_) @ self.robust_whitener_
            out[part] = np.asarray(cdist(white, self.centres_, "sqeuclidean")).min(axis=1)
        return out


def draw_rows(table: Representations, limit: int, seed: int) -> NDArray[np.int64]:
    """At most `limit` row numbers, ascending, each class in proportion where labels are known; all rows if they fit."""
    if len(table) <= limit:
        return np.arange(len(table))
    generator = np.random.default_rng(seed)
    labels = np.zeros(len(table), np.int64) if table.labels is None else table.labels
    shuffled = generator.permutation(len(table))
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # equal steps through rows sorted by class take every class in proportion
    return np.sort(ordered[(np.arange(limit) * len(table)) // limit])


def fit_robust(h: Float64, seed: int) -> tuple[Float64, Whitener, bool]:
    """MCD location and whitener of components `[n, p]`; plain mean and covariance (False) where MCD has no answer."""
    from sklearn.covariance import MinCovDet

    p = h.shape[1]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # its remarks on rank are answered by the checks below
        try:
            with threadpool_limits(1):  # hundreds of small factorisations: threads only get in each other's way
                found: Any = MinCovDet(random_state=seed).fit(h)
            location, cov = np.asarray(found.location_), np.asarray(found.covariance_)
        except (ValueError, IndexError, ZeroDivisionError, np.linalg.LinAlgError):
            location, cov = np.full(p, np.nan), np.full((p, p), np.nan)
    robust = bool(np.isfinite(location).all() and np.isfinite(cov).all())
    robust = robust and float(np.linalg.eigvalsh(cov)[0]) > RIDGE * float(np.trace(cov)) / p
    if not robust:
        location, cov = h.mean(axis=0), np.atleast_2d(np.cov(h, rowvar=False, bias=True))
    return location, whitener(cov, RIDGE, float(np.trace(cov)) / p), robust
