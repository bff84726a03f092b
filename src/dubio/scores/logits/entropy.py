"""Entropy of the softmax: `U = -sum_c p_c log p_c`, in nats.

Paper: Shannon 1948; as a detector of errors, Hendrycks & Gimpel 2017 (arXiv 1610.02136). Cost: none.
"""

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.log_space import entropy
from dubio.scores.base import Score


class Entropy(Score):
    """Shannon entropy of the class probabilities, 0 to log C nats; nothing is learned."""

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        """Nothing to learn."""

    def _score(self, rows: Representations) -> Float64:
        return entropy(rows.logits)
