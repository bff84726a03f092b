"""Energy: `U = -T log sum_c exp(l_c / T)`.

Unlike the softmax it sees the common level of the logits, which falls away from the training data.

Paper: Liu et al. 2020 (arXiv 2010.03759). Cost: none.
"""

import numpy as np
from pydantic import Field
from scipy.special import logsumexp

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.base import MethodConfig, Score


class EnergyConfig(MethodConfig):
    """temperature: T > 0 of the logsumexp."""

    temperature: float = Field(1.0, gt=0)


class Energy(Score):
    """Free energy of the logits (unbounded, in logit units); nothing is learned."""

    Config = EnergyConfig

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        """Nothing to learn; log-probabilities in the place of logits are refused, since their energy is 0."""
        for table in (train, calibration):
            if table is None:
                continue
            level = np.asarray(logsumexp(table.logits.astype(np.float64), axis=1), dtype=np.float64)
            if np.abs(level).max() < 1e-5:
                raise DubioError("these logits are log-probabilities, whose energy is 0 for every row")

    def _score(self, rows: Representations) -> Float64:
        t = self.config.temperature
        return np.asarray(-t * logsumexp(rows.logits.astype(np.float64) / t, axis=1), dtype=np.float64)
