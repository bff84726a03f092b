"""A measure of a posterior's samples as a score of the adapter's own predictions.

`U = measure(log p_1 ... log p_S)` of the rows' samples; see `dubio.measures` for the measures and their sources. The
response is of the class that the adapter predicts, so that it ranks the very errors that every other score ranks.
Cost: the S passes that made the samples; the measure itself is free.
"""

from typing import Literal

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.measures import MEASURES
from dubio.scores.base import MethodConfig, Score


class SampledConfig(MethodConfig):
    """posterior: whose samples. measure: what is read from them."""

    posterior: str
    measure: Literal["response", "entropy", "expected_entropy", "mutual_information", "variance", "variation_ratio"]


class SampledScore(Score):
    """One measure of one posterior's samples; nothing is learned."""

    Config = SampledConfig

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        """Nothing to learn."""

    def _score(self, rows: Representations) -> Float64:
        table = rows.samples.get(self.config.posterior)
        if table is None:
            raise DubioError(f"these rows carry no samples of {self.config.posterior}; draw them first")
        return MEASURES[self.config.measure](table, rows.predictions)
