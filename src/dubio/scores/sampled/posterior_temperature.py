"""Temperature-scaled response of a posterior's mean prediction: the honest baseline for every posterior.

`U = log(1 - q_c)`, q = softmax(log p / T), p the mean prediction of the samples, c the class that the adapter
predicts. T > 0 minimises the calibration NLL of q; the samples themselves are not scaled.

Paper: Guo et al. 2017 (arXiv 1706.04599); for means of members, Rahaman & Thiery 2021 (arXiv 2007.08792).
Cost: the S passes that made the samples, and one scalar search.
"""

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.log_space import log_softmax
from dubio.measures import log_complement, log_mean
from dubio.scores.base import MethodConfig, Score, needed
from dubio.scores.logits.temperature import best_temperature


class ScaledSamplesConfig(MethodConfig):
    """posterior: whose samples."""

    posterior: str


class ScaledSamples(Score):
    """The mean prediction under the fitted `temperature_` (shape `[1]`)."""

    Config = ScaledSamplesConfig
    learned = ("temperature_",)
    shapes = ("1",)
    uses_calibration = True

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        table = needed(calibration, "calibration", self)
        self.temperature_, self.facts_ = best_temperature(self._mean(table), table.known_labels)

    def _score(self, rows: Representations) -> Float64:
        return log_complement(log_softmax(self._mean(rows) / self.temperature_[0]), rows.predictions)

    def log_probabilities(self, rows: Representations) -> Float64:
        """`[N, C]` of the scaled mean."""
        self.check_fitted()
        return log_softmax(self._mean(rows) / self.temperature_[0])

    def _mean(self, rows: Representations) -> Float64:
        table = rows.samples.get(self.config.posterior)
        if table is None:
            raise DubioError(f"these rows carry no samples of {self.config.posterior}; draw them first")
        return log_mean(table)
