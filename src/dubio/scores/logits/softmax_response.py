"""Softmax response (SR): `U = 1 - max_c p_c`, the incumbent that every other score has to beat.

Scored as its log, `log(1 - max p)`, which ranks rows alike but keeps digits where 1 - p has none left.

Paper: Geifman & El-Yaniv 2017 (arXiv 1705.08500). Cost: none beyond the forward pass.
"""

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.log_space import log_error
from dubio.scores.base import Score


class SoftmaxResponse(Score):
    """`log(1 - max p)` in nats, from -inf towards log(1 - 1/C); nothing is learned."""

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        """Nothing to learn."""

    def _score(self, rows: Representations) -> Float64:
        return log_error(rows.logits)
