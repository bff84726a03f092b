"""Hybrid uncertainty quantification (HUQ): ranks of a density score and of a softmax score, joined by regions.

With r_e, r_a in (0, 1) the ranks of the epistemic and the aleatoric score among the calibration rows:

    r_e <= t_min, r_a <= t_max:  U = rank of the aleatoric score among the calibration rows with r_e <= t_min,
                                     times the share of those rows
    r_e <= t_min, r_a >  t_max:  U = r_a
    otherwise:                   U = (1 - alpha) r_e + alpha r_a

t_min, t_max and alpha minimise the area under the risk-coverage curve of the calibration rows over the paper's grid
of 275. A score between two reference values gets an interpolated rank, and one beyond them a rank that still grows
inside the outermost half step, so that distinct scores keep distinct ranks.

Paper: Vazhentsev et al. 2023 (ACL, "Hybrid Uncertainty Quantification for Selective Text Classification").
Cost: the density score's, and two numbers stored for each calibration row.
"""

from itertools import product
from typing import Literal, Self

import numpy as np
from pydantic import Field

from dubio.arrays import Bool, Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.log_space import entropy, log_error
from dubio.scores.base import Score, State, fold_of, needed
from dubio.scores.density.ddu import DDU
from dubio.scores.density.gaussian import FeatureConfig
from dubio.scores.density.knn import KNN
from dubio.scores.density.md import MD
from dubio.scores.density.rde import RDE
from dubio.scores.density.rmd import RMD
from dubio.scores.derived import DerivedScore

EPISTEMIC: dict[str, type[Score]] = {"md": MD, "rmd": RMD, "rde": RDE, "ddu": DDU, "knn": KNN}
PREFIX = "epistemic."
T_MIN = (0.0, 0.05, 0.1, 0.15, 0.2)
T_MAX = (1.0, 0.95, 0.9, 0.85, 0.8)
ALPHA = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


class HUQConfig(FeatureConfig):
    """epistemic: the density score; aleatoric: the softmax score; t_min, t_max, alpha: fixed here, or None = chosen."""

    epistemic: Literal["md", "rmd", "rde", "ddu", "knn"] = "md"
    aleatoric: Literal["softmax_response", "entropy"] = "softmax_response"
    t_min: float | None = Field(None, ge=0, le=1)
    t_max: float | None = Field(None, ge=0, le=1)
    alpha: float | None = Field(None, ge=0, le=1)


class HUQ(DerivedScore):
    """Joined rank in (0, 1).

    epistemic_reference_, aleatoric_reference_ `[n]`: scores of the calibration rows; weights_ `[3]`: t_min, t_max,
    alpha. The density score's own arrays are stored beside them under the prefix `epistemic.`.
    """

    Config = HUQConfig
    learned = ("epistemic_reference_", "aleatoric_reference_", "weights_")
    shapes = ("n", "n", "3")
    uses_calibration = True

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        table = needed(calibration, "calibration", self)
        self.epistemic_ = self._density().fit(needed(train, "train", self))
        self.epistemic_reference_: Float64 = self.epistemic_.score(table)
        self.aleatoric_reference_: Float64 = self._aleatoric(table)
        self._choose(table)

    def _choose(self, table: Representations) -> None:
        """The grid point of least risk-coverage area on the reference rows; the simplest (first) under a tie."""
        config = self.config
        grid = [
            np.array(point)
            for point in product(*(
                values if fixed is None else (fixed,)
                for fixed, values in ((config.t_min, T_MIN), (config.t_max, T_MAX), (config.alpha, ALPHA))
            ))
        ]  # fmt: skip
        areas = np.zeros(1)
        if len(grid) > 1:
            errors = table.errors
            if not 0 < errors.sum() < len(errors):
                raise DubioError(
                    "HUQ chooses its weights by errors, and the calibration rows are all right or all wrong"
                )
            e, a = self.epistemic_reference_, self.aleatoric_reference_
            ranks = rank_among(e, e), rank_among(a, a)
            areas = np.array([risk_coverage_area(self._joined(ranks, a, ranks[0], point), errors) for point in grid])
        self.weights_: Float64 = grid[int(np.argmin(areas))]
        self.facts_ = {
            "rows": len(table),
            "t_min": float(self.weights_[0]),
            "t_max": float(self.weights_[1]),
            "alpha": float(self.weights_[2]),
            "epistemic": self.epistemic_.facts_,
        }

    @property
    def inner(self) -> Score:
        """The density score."""
        return self.epistemic_

    def _derive(self, rows: Representations, inner: Float64) -> Float64:
        aleatoric = self._aleatoric(rows)
        e = rank_among(self.epistemic_reference_, inner)
        a = rank_among(self.aleatoric_reference_, aleatoric)
        reference = rank_among(self.epistemic_reference_, self.epistemic_reference_)
        return self._joined((e, a), aleatoric, reference, self.weights_)

    def _joined(
        self, ranks: tuple[Float64, Float64], aleatoric: Float64, reference: Float64, weights: Float64
    ) -> Float64:
        """The three regions of the module's equations; `reference` `[n]` are the r_e of the calibration rows."""
        (e, a), (t_min, t_max, alpha) = ranks, weights
        out = (1 - alpha) * e + alpha * a
        low = e <= t_min
        group = self.aleatoric_reference_[reference <= t_min]
        if low.any() and len(group):
            within = rank_among(group, aleatoric[low]) * (len(group) / len(reference))
            out[low] = np.where(a[low] > t_max, a[low], within)
        return out

    def _density(self) -> Score:
        return EPISTEMIC[self.config.epistemic].with_options(
            {"normalize": self.config.normalize, "space": self.config.space}, head=self.head
        )

    def _aleatoric(self, rows: Representations) -> Float64:
        return log_error(rows.logits) if self.config.aleatoric == "softmax_response" else entropy(rows.logits)

    def out_of_fold(self, train: Representations | None, calibration: Representations) -> Float64:
        """As the base class does it, with the density fitted once: it never reads the calibration rows."""
        density = self._density().fit(needed(train, "train", self))
        out, folds = np.empty(len(calibration), dtype=np.float64), fold_of(calibration)
        epistemic, aleatoric = density.score(calibration), self._aleatoric(calibration)
        for fold in np.unique(folds):
            kept, held = folds != fold, folds == fold
            refit = type(self)(self.config, head=self.head)
            refit.epistemic_ = density
            refit.epistemic_reference_, refit.aleatoric_reference_ = epistemic[kept], aleatoric[kept]
            refit._choose(calibration.take(kept))
            refit._fitted = True
            out[held] = refit.score(calibration.take(held))
        return out

    def state(self) -> State:
        """As the base class, with the density score's arrays under `epistemic.`."""
        own, inner = super().state(), self.epistemic_.state()
        return State({**own.arrays, **{PREFIX + name: array for name, array in inner.arrays.items()}}, own.facts)

    def restore(self, state: State) -> Self:
        """As the base class, the density score included; raises DubioError if an array is missing."""
        arrays = {name.removeprefix(PREFIX): a for name, a in state.arrays.items() if name.startswith(PREFIX)}
        self.epistemic_ = self._density().restore(State(arrays, dict(state.facts.get("epistemic", {}))))
        return super().restore(state)


def rank_among(reference: Float64, values: Float64) -> Float64:
    """`[N]` ranks in (0, 1) of `values` among `reference` `[n]`: mid-rank / n at a reference value, linear between.

    Beyond the ends the rank approaches 0 or 1 as x / (1 + x), x the excess in standard deviations of the reference.
    """
    levels, counts = np.unique(reference, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(reference)
    place = np.searchsorted(levels, values, side="right")
    # Rounding may leave an interpolated rank a bit outside of its two neighbours', out of order with other ranks.
    lowest, highest = middle[np.maximum(place - 1, 0)], middle[np.minimum(place, len(middle) - 1)]
    out = np.clip(np.interp(values, levels, middle), lowest, highest)
    scale = float(reference.std()) or 1.0
    above, below = np.maximum(values - levels[-1], 0), np.maximum(levels[0] - values, 0)
    return out + (1 - middle[-1]) * above / (scale + above) - middle[0] * below / (scale + below)


def risk_coverage_area(uncertainty: Float64, errors: Bool) -> float:
    """Mean selective risk over all coverages (RCC-AUC / N), averaged over the orders of tied rows."""
    _, level, counts = np.unique(uncertainty, return_inverse=True, return_counts=True)
    mean_error = np.bincount(level, weights=errors) / counts
    wrong = np.cumsum(np.repeat(mean_error, counts))
    return float((wrong / np.arange(1, len(wrong) + 1)).mean())
