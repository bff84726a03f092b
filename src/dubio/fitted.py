"""What a fit gives: the fitted methods, the choice among them, and the rows that thresholds are computed from.

Arrays only: it knows neither a model nor a disk. `dubio.artifacts` saves and loads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from dubio.containers import Shape
from dubio.decisions.recalibration import Recalibrator
from dubio.scores.base import Score


class Choice(BaseModel):
    """The method that `score` decides with, and the sentence that says why."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    why: str


@dataclass(frozen=True)
class FittedScore:
    """A fitted method with its map to error probability and its scores of the certification rows.

    certified: `[M]` uncertainty of rows that neither the method nor the recalibration has seen.
    """

    name: str
    score: Score
    recalibrator: Recalibrator
    certified: NDArray[np.float64]
    fit_seconds: float = 0.0


@dataclass(frozen=True)
class Fitted:
    """Fitted methods by name, the choice among them, and errors `[M]` of the certification rows.

    left_out: method -> why it could not be fitted. groups: `[M]` numbers that certification rows share where they
    repeat one another; None where none does.
    """

    methods: Mapping[str, FittedScore]
    choice: Choice
    errors: NDArray[np.bool_]
    left_out: Mapping[str, str] = field(default_factory=dict[str, str], kw_only=True)
    groups: NDArray[np.int64] | None = field(default=None, kw_only=True)

    @property
    def mean_of(self) -> str | None:
        """The posterior whose mean prediction is judged; None: the adapter's own predictions."""
        return None

    @property
    def shape(self) -> Shape | None:
        """Of the rows that were fitted on; None where it is not known."""
        return None

    @property
    def pairs(self) -> bool | None:
        """Whether the rows that it was fitted on were pairs of texts; None where nobody knows."""
        return None

    @property
    def chosen(self) -> FittedScore:
        """The method that decides."""
        return self.methods[self.choice.method]
