"""Scores that are a function of another fitted score: HUQ of a density score, RMD of MD.

Where the other score's uncertainty of the rows is known already, it can be lent instead of computed again.
"""

from abc import abstractmethod

from dubio.arrays import Float64
from dubio.containers import Representations
from dubio.scores.base import Score


class DerivedScore(Score):
    """Base of such scores; a subclass names its `inner` score and writes `_derive` in place of `_score`."""

    @property
    @abstractmethod
    def inner(self) -> Score:
        """The fitted score that this one is a function of."""

    def score_with(self, rows: Representations, lent: Float64) -> Float64:
        """As `score`, to the bit, given `[N]` the uncertainty that `inner` gives these rows."""
        return self._by_chunk(rows, lambda part, where: self._derive(part, lent[where]))

    def _score(self, rows: Representations) -> Float64:
        return self._derive(rows, self.inner.score(rows))

    @abstractmethod
    def _derive(self, rows: Representations, inner: Float64) -> Float64: ...
