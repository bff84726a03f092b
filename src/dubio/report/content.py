"""What a report is made of: plain arrays, metrics and facts; no drawing, no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dubio.arrays import Bool, Float64
from dubio.artifacts.manifest import SplitFacts
from dubio.containers import Scores
from dubio.decisions.threshold import RiskThreshold
from dubio.metrics import Metric
from dubio.report.answering import Answered
from dubio.report.words import is_control


@dataclass(frozen=True)
class Cost:
    """What a method costs: seconds to fit, milliseconds to score 1,000 rows (after extraction), bytes on disk.

    samples: adapters drawn from a posterior; its making, its predictions and its bytes are then counted in.
    """

    method: str
    fit_seconds: float
    ms_per_1000_rows: float
    bytes: int
    samples: int = 0


@dataclass(frozen=True)
class ReportContent:
    """Everything that the report shows of N test rows.

    errors `[N]`: True where the prediction is wrong. scores, ood: by method, of test rows and of out-of-domain rows
    (may be empty). before `[N]`: 1 - the largest softmax probability, the error probability without recalibration.
    texts, predicted, labels: `[N]`. chosen, why: the method that decides and the sentence that says why.
    threshold: what was promised; realised: (coverage, error rate among answered rows or None) on test.
    left_out: method -> why it could not be fitted. budgets: what is promised at other budgets than the asked one.
    ood_texts: the texts of the out-of-domain rows, where they are at hand.
    """

    title: str
    model: Mapping[str, str]
    splits: Mapping[str, SplitFacts]
    metrics: Sequence[Metric]
    errors: Bool
    scores: Mapping[str, Scores]
    ood: Mapping[str, Scores]
    before: Float64
    texts: Sequence[str]
    predicted: Sequence[str]
    labels: Sequence[str]
    chosen: str
    why: str
    threshold: RiskThreshold
    realised: tuple[float, float | None]
    costs: Sequence[Cost]
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])
    budgets: Sequence[RiskThreshold] = ()
    ood_texts: Sequence[str] = ()

    def find(self, method: str, metric: str) -> Metric | None:
        """The row of one metric of one method, or None where it is undefined or was not measured."""
        found = self._row(method, metric)
        return None if found is None or found.value is None else found

    def reason(self, method: str, metric: str) -> str | None:
        """Why a metric of a method has no value or no interval, in words; None where it has both."""
        found = self._row(method, metric)
        return None if found is None else found.why

    def _row(self, method: str, metric: str) -> Metric | None:
        return next((m for m in self.metrics if m.method == method and m.metric == metric), None)

    def known(self, metric: str) -> list[Metric]:
        """The rows of one metric that have a value."""
        return [m for m in self.metrics if m.metric == metric and m.value is not None]

    def cost(self, method: str) -> Cost | None:
        """What a method or a posterior costs, where it was measured."""
        return next((c for c in self.costs if c.method == method), None)

    def ranked(self, metric: str = "error_roc_auc") -> list[str]:
        """Scored methods by descending value of a metric; methods without one come last, in their own order."""
        values = {m.method: m.number for m in self.known(metric)}
        return sorted(self.scores, key=lambda name: -values.get(name, float("-inf")))

    @cached_property
    def answers(self) -> list[Answered]:
        """What is answered on test at each budget, the asked one among them, the strictest first."""
        scores = self.scores[self.chosen].uncertainty
        found = {t.risk: t for t in (*self.budgets, self.threshold)}
        return [Answered.on(found[risk], scores, self.errors) for risk in sorted(found)]

    @cached_property
    def answer(self) -> Answered:
        """What is answered on test at the asked budget."""
        return Answered.on(self.threshold, self.scores[self.chosen].uncertainty, self.errors)

    @cached_property
    def answered(self) -> Bool:
        """`[N]` True where the test row is answered at the asked budget."""
        return self.threshold.answers(self.scores[self.chosen].uncertainty)

    @property
    def control(self) -> str | None:
        """The best refitted head on test: what a better classifier gains, without any notion of uncertainty."""
        return next((name for name in self.ranked() if is_control(name)), None)
