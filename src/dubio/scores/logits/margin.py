"""Margin: `U = -(l_1 - l_2)`, the negated gap between the two largest logits.

The gap of logits equals the log-ratio of the two largest probabilities, so it never saturates.

Paper: Scheffer, Decomain & Wrobel 2001 (margin sampling). Cost: none.
"""

import numpy as np

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.scores.base import Score


class Margin(Score):
    """Negated log-ratio of the two most probable classes, in nats, at most 0; nothing is learned."""

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        """Nothing to learn."""

    def _score(self, rows: Representations) -> Float64:
        top = np.partition(rows.logits.astype(np.float64), -2, axis=1)[:, -2:]
        return top[:, 0] - top[:, 1]
