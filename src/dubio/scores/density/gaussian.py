"""Gaussians of features, for MD, RMD and DDU: class means, covariances, and whiteners instead of precisions.

    S = (1/N) sum_i (z_i - mu_{y_i})(z_i - mu_{y_i})^T,   S + r v I = L L^T,   W = L^{-T},   d(z) = |(z - mu) W|^2

v is the mean variance, so that the ridge r means the same whatever the unit of the features. W is kept and not the
precision W W^T: a distance is then a sum of squares and cannot be negative, at any rank and with N < d.

The default r = 1e-3 lies inside 1e-6 .. 1e-2, where out-of-distribution rows that leave the span of the training
features are still found (a pseudo-inverse or Ledoit-Wolf shrinkage loses them), and keeps the condition number below
about d / r. Memory: blocks of rows in float64, whatever the length of the table; cost of a fit: N d^2 + d^3.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import cholesky, get_blas_funcs, get_lapack_funcs, solve_triangular
from scipy.spatial.distance import cdist

from dubio.arrays import Float64, Int64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.base import MethodConfig

BLOCK = 2048  # rows in float64 at a time
CONSTANT = 1e-20  # a variance below this share of the mean square is the rounding of constant features
COLLAPSED = 1e-12  # a class variance below this share of the total one is the rounding of collapsed classes


class FeatureConfig(MethodConfig):
    """normalize: divide each row of features by its L2 norm first (a row of zeros stays zero).

    space: what is looked at, the input of the head or its hidden layer, spectrally normalised (AdUE's code; `hidden`).
    """

    normalize: bool = False
    space: Literal["input", "hidden"] = "input"


class GaussianConfig(FeatureConfig):
    """ridge: added to each covariance, as a share of the mean variance."""

    ridge: float = Field(1e-3, gt=0, le=1)


@dataclass(frozen=True)
class Whitener:
    """matrix: `[d, d]` W with W W^T the precision; log_det: of the ridged covariance; facts: what to report of it."""

    matrix: Float64
    log_det: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class ClassGaussians:
    """The classes present `[K]`, the row's class among them `[N]`, means `[K, d]`, grand mean `[d]`, covariances."""

    classes: Int64
    groups: Int64
    means: Float64
    location: Float64
    within: Float64
    total: Float64
    facts: dict[str, Any]

    @property
    def scale(self) -> float:
        """Mean variance within classes; the total one where every class has collapsed onto its mean."""
        return mean_variance(self.within, self.total)


def feature_blocks(features: NDArray[Any], normalize: bool) -> Generator[tuple[slice, Float64]]:
    """Yields (rows, their features `[<= BLOCK, d]` in a fresh float64 array), in order."""
    for start in range(0, len(features), BLOCK):
        rows = slice(start, min(start + BLOCK, len(features)))
        block = np.array(features[rows], dtype=np.float64)
        if normalize:
            norms = np.linalg.norm(block, axis=1, keepdims=True)
            block /= np.where(norms > 0, norms, 1.0)
        yield rows, block


def location_and_variance(features: NDArray[Any], normalize: bool) -> tuple[Float64, float]:
    """The mean `[d]` and the mean over features of their variance; raises DubioError where no feature varies."""
    n, d = features.shape
    location = np.zeros(d)
    for _, block in feature_blocks(features, normalize):
        location += block.sum(axis=0) / n
    variance = sum(float(((block - location) ** 2).sum()) for _, block in feature_blocks(features, normalize)) / (n * d)
    if variance <= CONSTANT * (variance + float((location**2).mean())):
        kind = "features after normalisation" if normalize else "features"
        raise DubioError(f"all {n} training rows have the same {kind}; check the extraction, or leave this method out")
    return location, variance


def covariance(features: NDArray[Any], groups: Int64, means: Float64, normalize: bool) -> Float64:
    """`[d, d]` mean outer product of the rows about the mean of their group: `groups` `[N]` indexes `means`."""
    out = np.zeros((features.shape[1], features.shape[1]))
    for rows, block in feature_blocks(features, normalize):
        block -= means[groups[rows]]
        out += block.T @ block
    return out / len(features)


def fit_classes(table: Representations, normalize: bool) -> ClassGaussians:
    """Means and covariances by true label. A class without rows gets no mean and is listed in the facts.

    Raises DubioError without labels, where a class has one row only, or where no feature varies.
    """
    classes, groups, counts = np.unique(table.known_labels, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise DubioError(
            f"class {classes[int(np.argmin(counts))]} has one training row and a covariance needs two; "
            "add rows of it or drop it"
        )
    location, _ = location_and_variance(table.features, normalize)
    means = np.zeros((len(classes), table.features.shape[1]))
    for rows, block in feature_blocks(table.features, normalize):
        one_hot = (groups[rows, None] == np.arange(len(classes))).astype(np.float64)
        means += one_hot.T @ (block - location)  # about the grand mean: an offset costs no digits
    means = means / counts[:, None] + location
    within = covariance(table.features, groups, means, normalize)
    between = (means - location) * np.sqrt(counts / len(table))[:, None]
    facts = {
        "rows": len(table),
        "classes": classes.tolist(),
        "absent_classes": np.setdiff1d(np.arange(table.classes), classes).tolist(),
    }
    return ClassGaussians(classes, groups, means, location, within, within + between.T @ between, facts)


def mean_variance(within: Float64, total: Float64) -> float:
    """Mean of the diagonal of `within`, or of `total` where nothing but rounding is left of the former."""
    inside, outside = float(np.trace(within)) / len(within), float(np.trace(total)) / len(total)
    return inside if inside > COLLAPSED * outside else outside


def whitener(covariance_: Float64, ridge: float, scale: float) -> Whitener:
    """Whitens by the Cholesky factor of `covariance_ + ridge * scale * I`.

    Should rounding defeat a tiny ridge, it is raised tenfold until the factor exists; the facts tell the one used,
    the effective rank tr(S)^2 / |S|_F^2 and the condition number (1-norm, after the ridge).
    Raises DubioError where even a ridge of the whole variance does not help.
    """
    d, used = len(covariance_), ridge
    while True:
        ridged = covariance_ + used * scale * np.eye(d)
        try:
            factor = np.asarray(cholesky(ridged, lower=True))
            break
        except np.linalg.LinAlgError:
            if used >= 1:
                raise DubioError("the covariance of the features cannot be factored; check their scale") from None
            used = min(10 * used, 1.0)
    # contiguous, so that a stored and reloaded whitener takes the same path through BLAS, to the bit
    matrix = np.ascontiguousarray(np.asarray(solve_triangular(factor, np.eye(d), lower=True)).T)
    pocon: Any = get_lapack_funcs("pocon", (factor,))
    reciprocal, _ = pocon(factor, np.abs(ridged).sum(axis=0).max(), uplo="L")
    norm = float((covariance_**2).sum())
    facts = {
        "ridge": used,
        "effective_rank": float(np.trace(covariance_)) ** 2 / norm if norm > 0 else 0.0,
        "condition": float(1 / reciprocal),
    }
    return Whitener(matrix, 2 * float(np.log(np.diag(factor)).sum()), facts)


def squared_distances(block: Float64, location: Float64, matrix: Float64, means: Float64) -> Float64:
    """`[N, K]` squared distances of rows, whitened about `location`, to `means` `[K, d]` whitened alike; never < 0."""
    return np.asarray(cdist(whiten(block - location, matrix), means, "sqeuclidean"), dtype=np.float64)


def whiten(centred: Float64, matrix: Float64) -> Float64:
    """`centred @ matrix` for a whitener's matrix, whose lower triangle is 0: half the work; overwrites `centred`."""
    trmm: Any = get_blas_funcs("trmm", (centred, matrix))
    return trmm(1.0, matrix.T, centred.T, lower=1, overwrite_b=1).T  # transposed: BLAS counts by columns
