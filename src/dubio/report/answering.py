"""What a budget of wrong answers buys: the share of rows that may be answered, and what came of it on test rows.

A threshold is promised on certification rows alone. Test rows are only counted under it, and choose nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dubio.arrays import Bool, Float64
from dubio.decisions.threshold import RiskThreshold, risk_threshold
from dubio.fitted import Fitted
from dubio.report.words import budget, percent

BUDGETS = (0.01, 0.02, 0.05, 0.10)
_PER_MILLE = (*range(5, 100, 5), *range(100, 200, 10), *range(200, 501, 25))
DIAL = tuple(per_mille / 1000 for per_mille in _PER_MILLE)


@dataclass(frozen=True)
class Answered:
    """One budget. threshold: what is promised; of `rows` test rows `answered` fall under it, `wrong` of them wrong."""

    threshold: RiskThreshold
    rows: int
    answered: int
    wrong: int

    @classmethod
    def on(cls, threshold: RiskThreshold, uncertainty: Float64, errors: Bool) -> "Answered":
        """Counts rows of uncertainty `[N]` and errors `[N]`."""
        under = threshold.answers(uncertainty)
        return cls(threshold, len(errors), int(under.sum()), int((under & errors).sum()))

    @property
    def budget(self) -> float:
        """The greatest share of wrong answers that is allowed."""
        return self.threshold.risk

    @property
    def promised(self) -> bool:
        """Whether a threshold can be promised at all."""
        return self.threshold.threshold is not None

    @property
    def coverage(self) -> float:
        """Share of the test rows that are answered."""
        return self.answered / self.rows if self.rows else 0.0

    @property
    def risk(self) -> float | None:
        """Share of wrong rows among the answered ones on test; None where none is answered."""
        return self.wrong / self.answered if self.answered else None

    @property
    def promise(self) -> str:
        """What is promised, or what would be needed for a promise, in a few words."""
        if self.promised:
            return f"at most {budget(self.budget)}, with confidence {budget(1 - self.threshold.delta)}"
        return f"none: {self.missing}"

    @property
    def missing(self) -> str:
        """What a promise would need, where there is none."""
        found = self.threshold
        if found.needed_rows is None:
            return "even the surest rows are wrong more often"
        return f"about {found.needed_rows:,} calibration rows would be needed, there are {found.rows:,}"

    @property
    def outcome(self) -> str:
        """The budget, and what came of it, in a sentence."""
        if not self.promised:
            return f"At most {budget(self.budget)} wrong cannot be promised with this data: no row is answered."
        if self.risk is None:
            return f"At most {budget(self.budget)} wrong: no test row is sure enough to be answered."
        return (
            f"At most {budget(self.budget)} wrong: {percent(self.coverage)} of the test rows are answered, and "
            f"{percent(self.risk)} of those are wrong."
        )


def promises(fitted: Fitted, delta: float, budgets: Sequence[float]) -> list[RiskThreshold]:
    """The chosen method's threshold at each budget, from the certification rows.

    Each budget has a promise of its own: who picks one by what it answers here has looked, and the confidence is less.
    """
    chosen = fitted.chosen.certified
    return [risk_threshold(chosen, fitted.errors, risk, delta, groups=fitted.groups) for risk in budgets]


def dial(risk: float, error_rate: float) -> tuple[float, ...]:
    """Budgets that one may turn to: those of the table, the asked one, and steps up to the error rate of all rows."""
    top = max(error_rate, risk, BUDGETS[-1])
    last = next((step for step in DIAL if step >= top), DIAL[-1])
    return tuple(sorted({*BUDGETS, risk, *(step for step in DIAL if step <= last)}))
