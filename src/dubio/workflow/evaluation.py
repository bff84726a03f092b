"""Fitted methods on a test table opened once: every score, every metric, the promise checked, what it cost."""

import io
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from dubio.arrays import Float64, as_numpy
from dubio.containers import Representations, Scores, check_representations
from dubio.decisions.threshold import RiskThreshold, risk_threshold
from dubio.errors import DubioError
from dubio.fitted import Fitted
from dubio.measures import log_complement, log_mean
from dubio.metrics import Bootstrap, Metric, correlation, evaluate_ood, evaluate_scores, evaluate_system
from dubio.metrics.evaluation import ADAPTER
from dubio.report.terminal import metrics_table
from dubio.scores.base import Score
from dubio.scores.derived import DerivedScore
from dubio.workflow.inputs import check_pairs

NO_ROWS = "there are no rows"


@dataclass(frozen=True)
class Evaluation:
    """metrics: every figure. scores, ood: by method, on test and out-of-domain rows. milliseconds: a thousand rows.

    threshold: of the chosen method; realised: (coverage, risk or None) of its decisions on test. summary: in a sentence
    what the test rows say of the adapter and of these decisions, or why they say nothing.
    """

    metrics: tuple[Metric, ...]
    scores: Mapping[str, Scores]
    ood: Mapping[str, Scores]
    milliseconds: Mapping[str, float]
    threshold: RiskThreshold
    realised: tuple[float, float | None]
    summary: str = ""

    def __str__(self) -> str:
        """The comparison table, the summary and the promise, as the command line prints them."""
        page = Console(width=120, file=io.StringIO(), record=True)
        page.print(metrics_table(self.metrics, "test"))
        return f"{page.export_text()}{self.summary}\n{self.threshold.promise}"


def score_all(fitted: Fitted, rows: Representations) -> tuple[dict[str, Scores], dict[str, float]]:
    """Uncertainty and error probability of every fitted method; and milliseconds a thousand rows, by method.

    A method that is a function of a score among those before it (HUQ of MD or DDU, RMD of MD) borrows that one's
    uncertainty, to the bit. Its milliseconds count the lender's too: they are what the method costs alone. The
    S passes of a posterior are not in them.
    """
    check_predictions(fitted, rows)
    out: dict[str, Scores] = {}
    milliseconds: dict[str, float] = {}
    for name, method in fitted.methods.items():
        score, lender = method.score, _lender(fitted, method.score, out)
        start = time.perf_counter()
        if isinstance(score, DerivedScore) and lender is not None:
            uncertainty = score.score_with(rows, out[lender].uncertainty)
        else:
            uncertainty = score.score(rows)
        spent = (time.perf_counter() - start) * 1e6 / max(len(rows), 1)
        milliseconds[name] = spent if lender is None else spent + milliseconds[lender]
        out[name] = Scores.of(name, uncertainty, method.recalibrator.predict(uncertainty))
    return out, milliseconds


def check_predictions(fitted: Fitted, rows: Representations) -> None:
    """Raises DubioError where the rows hold other predictions than those that were judged at the fit.

    Also where they have another number of features, classes or samples, or are single texts, and pairs were fitted
    on, or the other way round.
    """
    if fitted.shape is not None:
        fitted.shape.check(rows)
    if fitted.mean_of != rows.mean_of:
        whose = [
            "the adapter's own" if name is None else f"the mean of {name}" for name in (rows.mean_of, fitted.mean_of)
        ]
        raise DubioError(
            f"these rows hold {whose[0]} predictions, and what was fitted judges {whose[1]}: extract with "
            f"mean_of={fitted.mean_of!r}"
        )
    check_pairs(fitted.pairs, rows.pairs)


def check_fitted(fitted: Any) -> None:
    """Raises DubioError where somebody gives a folder, a model or rows in the place of what was fitted."""
    if not isinstance(fitted, Fitted):
        kind = type(fitted).__name__
        raise DubioError(f"expected what dubio.fit or dubio.open_artifact gives, not {kind}; extract and fit first")


def _lender(fitted: Fitted, score: Score, known: Iterable[str]) -> str | None:
    """Which of the methods whose uncertainty is known is the very score that this one is a function of, if any."""
    if not isinstance(score, DerivedScore):
        return None
    inner = score.inner
    return next((name for name in known if inner.same_as(fitted.methods[name].score)), None)


def promise(fitted: Fitted, risk: float, delta: float = 0.1) -> RiskThreshold:
    """The chosen method's threshold for a budget, from the certification rows that nothing else has seen.

    Raises DubioError on a budget outside (0, 1).
    """
    check_fitted(fitted)
    return risk_threshold(fitted.chosen.certified, fitted.errors, risk=risk, delta=delta, groups=fitted.groups)


def evaluate(
    fitted: Fitted, test: Representations, *, ood: Representations | None = None, agreement: Any = None,
    budget: tuple[float, float] = (0.05, 0.1), draws: int = 1000,
) -> Evaluation:  # fmt: skip
    """Judges every fitted method on `test` (with labels), and on `ood` rows where given.

    agreement: `[N]` share of annotators who agree with the label, NaN or None where unknown; each score's Spearman
    correlation with disagreement is then reported. budget: (risk, delta) of the promise. What is undefined, on rows
    without an error or without rows at all, has no value and says why; rows that repeat (`test.groups`) count once in
    every interval. Raises DubioError on rows of another model than was fitted, and agreement that is not one a row.
    """
    check_fitted(fitted)
    check_representations(test, "test")
    if ood is not None:
        check_representations(ood, "ood")
    known = None if agreement is None else known_agreement(agreement, len(test))
    bootstrap, y = Bootstrap(draws=draws), test.known_labels
    scores, milliseconds = score_all(fitted, test)
    away = score_all(fitted, ood)[0] if ood is not None else {}
    threshold = promise(fitted, *budget)
    if len(test):
        judged = [*scores.values()]
        metrics = evaluate_scores("test", judged, test.logits, y, bootstrap=bootstrap, groups=test.groups)
        for name, log_p in _systems(fitted, test).items():
            own = log_complement(log_p, log_p.argmax(axis=1))
            metrics += evaluate_system(
                "test", name, np.exp(log_p), y, own, bootstrap=bootstrap, groups=test.groups
            )  # fmt: skip
    else:
        metrics = [Metric(ADAPTER, "accuracy", "test", None, why=NO_ROWS), *_undefined(scores, "error_roc_auc", "test")]
    if ood is not None:
        there = len(test) and len(ood)
        inside, outside = [*scores.values()], [*away.values()]
        metrics += (
            evaluate_ood(inside, outside, "ood", bootstrap=bootstrap)
            if there else _undefined(scores, "ood_roc_auc", "ood")
        )  # fmt: skip
    if known is not None:
        at = np.isfinite(known)
        kept = [Scores(s.method, s.uncertainty[at], None) for s in scores.values()]
        metrics += correlation("test", kept, 1 - known[at], "spearman_disagreement", bootstrap=bootstrap)
    realised = realise(fitted, scores, test, threshold)
    summary = _summary(test, threshold, realised)
    return Evaluation(tuple(metrics), scores, away, milliseconds, threshold, realised, summary)


def _systems(fitted: Fitted, test: Representations) -> dict[str, Float64]:
    """Log-probabilities `[N, C]` of all that changes the adapter's: posteriors' means, and methods that say so."""
    systems = {name: log_mean(table) for name, table in test.samples.items()}
    for name, method in fitted.methods.items():
        changed = method.score.log_probabilities(test)
        if changed is not None:
            systems[name] = changed
    return systems


def _undefined(methods: Iterable[str], metric: str, split: str) -> list[Metric]:
    return [Metric(name, metric, split, None, why=NO_ROWS) for name in methods]


def known_agreement(values: Any, rows: int) -> Float64:
    """`[N]` float64 from a list or an array, NaN where unknown; raises DubioError unless it is one number a row."""
    try:
        found = np.asarray(as_numpy(values), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DubioError("agreement: expected a number for each row, and NaN or None where it is unknown") from error
    if found.shape != (rows,):
        raise DubioError(f"agreement: expected one number for each of {rows} rows, got shape {found.shape}")
    if not np.isfinite(found).any():
        raise DubioError("agreement: it is known of no row; leave it out")
    return found


def realise(
    fitted: Fitted, scores: Mapping[str, Scores], test: Representations, threshold: RiskThreshold
) -> tuple[float, float | None]:
    """(coverage, error rate among answered or None) of the chosen method's decisions on labelled rows."""
    if threshold.threshold is None or len(test) == 0:
        return 0.0, None
    answered = scores[fitted.choice.method].uncertainty <= threshold.threshold
    risk = float(test.errors[answered].mean()) if answered.any() else None
    return float(answered.mean()), risk


def _summary(test: Representations, threshold: RiskThreshold, realised: tuple[float, float | None]) -> str:
    rows, wrong = len(test), int(test.errors.sum())
    if rows == 0:
        return "There are no test rows: nothing is measured, and what is promised is known from calibration rows alone."
    words = f"Of {rows} test rows {wrong} are wrong (accuracy {1 - wrong / rows:.1%})"
    coverage, risk = realised
    if threshold.threshold is not None:
        words += f"; {round(coverage * rows)} are answered ({coverage:.1%})"
        words += "" if risk is None else f", and {risk:.1%} of those are wrong"
    if wrong in (0, rows):
        words += f"; since {'none' if wrong == 0 else 'every one'} is wrong, how well errors are found is undefined"
    return f"{words}."
