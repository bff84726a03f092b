"""From scores to rows of a table: every metric with its interval, every method on the same bootstrap draws.

ROC-AUC compares scores of the same predictions (the adapter's). What changes the predictions is judged as a system,
by metrics whose names start with `system_`. A metric that is undefined on the rows at hand (no errors, say) has a row
without a value that says why.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dubio.arrays import Bool, Float64, Int64, as_labels, as_matrix, as_vector
from dubio.containers import Scores
from dubio.errors import DubioError
from dubio.metrics import ranking, selective
from dubio.metrics.bootstrap import Bootstrap, Resampled, Statistic, resample
from dubio.metrics.calibration import BINS, CalibrationGroups, brier_rows, weighted_mean
from dubio.metrics.correlation import Midranks, spearman_of
from dubio.metrics.delong import delong_test
from dubio.metrics.ties import Cumulative, TieGroups, tie_share
from dubio.scores.log_space import log_softmax

ADAPTER = "adapter"
REFERENCE = "softmax_response"
GAIN = "error_roc_auc_gain"

DETECTION: dict[str, Callable[[Cumulative], Float64]] = {
    "error_roc_auc": ranking.roc_auc_of,
    "error_pr_auc": ranking.pr_auc_of,
    "fpr_at_95_tpr": ranking.fpr_at_tpr_of,
    "aurc": selective.aurc_of,
    "e_aurc": selective.e_aurc_of,
    "augrc": selective.augrc_of,
    "prr": selective.prr_of,
    "risk_at_coverage_80": lambda counts: selective.risk_at_coverage_of(counts, 0.8),
    "risk_at_coverage_90": lambda counts: selective.risk_at_coverage_of(counts, 0.9),
    "coverage_at_risk_5": lambda counts: selective.coverage_at_risk_of(counts, 0.05),
    "coverage_at_risk_10": lambda counts: selective.coverage_at_risk_of(counts, 0.1),
}


@dataclass(frozen=True)
class Metric:
    """One row of a table: a value and the interval low to high, or, where one of them is None, in words why it is so.

    value None: undefined on these rows. low and high None: there is no interval, or none that would be honest.
    """

    method: str
    metric: str
    split: str
    value: float | None
    low: float | None = None
    high: float | None = None
    why: str | None = None

    @property
    def number(self) -> float:
        """The value; raises DubioError, which says why, where there is none."""
        if self.value is None:
            raise DubioError(f"{self.metric} of {self.method} on {self.split} is undefined: {self.why or 'no value'}")
        return self.value


def evaluate_scores(
    split: str, scores: Sequence[Scores], logits: Any, labels: Any,
    *, reference: str | None = REFERENCE, bootstrap: Bootstrap | None = None,
) -> list[Metric]:  # fmt: skip
    """All metrics of scores of the adapter's predictions, and the adapter's own (method "adapter").

    logits: `[N, C]`. labels: `[N]`. reference: the method whose error ROC-AUC the others' gains are measured from, or
    None for no gains. Raises DubioError on lengths that differ, a method given twice, or an unknown reference.
    """
    bootstrap = bootstrap or Bootstrap()
    log_p, y = _log_probabilities(log_softmax(as_matrix(logits, "logits", np.float64)), labels)
    errors = log_p.argmax(axis=1) != y
    _check_names(scores, len(y))
    if reference is not None and reference not in {s.method for s in scores}:
        raise DubioError(f"the reference {reference!r} is not among the scores; add it, or pass reference=None")
    statistics: dict[str, Statistic] = {ADAPTER: _adapter_statistic(log_p, y)}
    statistics |= {s.method: _score_statistic(s, errors) for s in scores}
    found = resample(statistics, [len(y)], bootstrap)
    rows = list(_rows(split, found, bootstrap, one_kind(errors)))
    rows += [Metric(s.method, "tie_share", split, tie_share(s.uncertainty)) for s in scores]
    if reference is not None:
        rows += _gains(split, scores, errors, {s.method: found[s.method]["error_roc_auc"] for s in scores},
                       (reference, bootstrap))  # fmt: skip
    return rows


def evaluate_system(
    split: str, method: str, probabilities: Any, labels: Any, uncertainty: Any, *, bootstrap: Bootstrap | None = None
) -> list[Metric]:
    """A method that changes the predictions, judged with its own: accuracy, NLL, Brier, ECE, AURC, AUGRC, ROC-AUC.

    probabilities: `[N, C]`. uncertainty: `[N]`. Names start with `system_`; the ROC-AUC is of its own errors and must
    not be compared with that of another system. Raises DubioError on rows that do not sum to 1.
    """
    bootstrap = bootstrap or Bootstrap()
    p = as_matrix(probabilities, "probabilities", np.float64)
    if len(p) and (p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > 1e-3):
        raise DubioError("probabilities: rows must be non-negative and sum to 1; pass softmax outputs")
    with np.errstate(divide="ignore"):
        log_p, y = _log_probabilities(np.log(p), labels)
    errors = log_p.argmax(axis=1) != y
    groups = TieGroups.of(as_vector(uncertainty, f"uncertainty of {method}", len(y)), errors)
    own = _adapter_statistic(log_p, y)

    def statistic(weights: Float64) -> Mapping[str, Float64]:
        counts = groups.cumulate(weights)
        kept = ("aurc", "augrc", "error_roc_auc")
        values = {**own(weights), **{name: DETECTION[name](counts) for name in kept}}
        return {f"system_{name}": value for name, value in values.items()}

    return list(_rows(split, resample({method: statistic}, [len(y)], bootstrap), bootstrap, one_kind(errors)))


def evaluate_ood(
    scores_in: Sequence[Scores], scores_out: Sequence[Scores], split: str, *, bootstrap: Bootstrap | None = None
) -> list[Metric]:
    """Does each score rank out-of-domain rows above in-domain rows? `ood_roc_auc` and `ood_fpr_at_95_tpr`.

    Each table is redrawn within itself, so their proportion stays. Raises DubioError where the methods or the
    numbers of rows differ.
    """
    bootstrap = bootstrap or Bootstrap()
    if not scores_in or [s.method for s in scores_in] != [s.method for s in scores_out]:
        raise DubioError(
            "out-of-domain scores must come from the same methods, in the same order, as the in-domain ones"
        )
    inside, outside = len(scores_in[0]), len(scores_out[0])
    _check_names(scores_in, inside)
    _check_names(scores_out, outside)
    is_out = np.repeat([False, True], [inside, outside])

    def statistic_of(known: Scores, strange: Scores) -> Statistic:
        groups = TieGroups.of(np.concatenate([known.uncertainty, strange.uncertainty]), is_out)

        def statistic(weights: Float64) -> Mapping[str, Float64]:
            counts = groups.cumulate(weights)
            return {"ood_roc_auc": ranking.roc_auc_of(counts), "ood_fpr_at_95_tpr": ranking.fpr_at_tpr_of(counts)}

        return statistic

    statistics = {a.method: statistic_of(a, b) for a, b in zip(scores_in, scores_out, strict=True)}
    found = resample(statistics, [inside, outside], bootstrap)
    return list(_rows(split, found, bootstrap, "rows of both kinds are needed"))


def correlation(
    split: str, scores: Sequence[Scores], ground_truth: Any, name: str, *, bootstrap: Bootstrap | None = None
) -> list[Metric]:
    """Spearman's correlation of each score with `ground_truth` `[N]`, as rows of the metric `name`."""
    bootstrap = bootstrap or Bootstrap()
    truth = as_vector(ground_truth, "ground truth")
    _check_names(scores, len(truth))
    truth_ranks = Midranks(truth)

    def statistic_of(score: Scores) -> Statistic:
        ranks = Midranks(score.uncertainty)
        return lambda weights: {name: spearman_of(ranks(weights), truth_ranks(weights), weights)}

    statistics = {s.method: statistic_of(s) for s in scores}
    found = resample(statistics, [len(truth)], bootstrap)
    return list(_rows(split, found, bootstrap, "all rows have the same score, or the same truth"))


def _score_statistic(scores: Scores, errors: Bool) -> Statistic:
    groups = TieGroups.of(scores.uncertainty, errors)
    p = scores.error_probability
    table = None if p is None else CalibrationGroups.of(p, errors)

    def statistic(weights: Float64) -> Mapping[str, Float64]:
        counts = groups.cumulate(weights)
        values = {name: metric(counts) for name, metric in DETECTION.items()}
        if table is not None:
            values["error_probability_ece"] = table.equal_mass(weights)
            values["error_probability_ece_equal_width"] = table.equal_width(weights)
            values["error_probability_brier"] = table.brier(weights)
        return values

    return statistic


def _adapter_statistic(log_p: Float64, labels: Int64) -> Statistic:
    p, rows = np.exp(log_p), np.arange(len(labels))
    right = (log_p.argmax(axis=1) == labels).astype(np.float64)
    loss, square = -log_p[rows, labels], brier_rows(p, labels)
    known_loss = bool(np.isfinite(loss).all())  # a label given probability 0 leaves no NLL to report
    table = CalibrationGroups.of(np.minimum(p.max(axis=1), 1.0), right)

    def statistic(weights: Float64) -> Mapping[str, Float64]:
        return {
            "accuracy": weighted_mean(right, weights),
            "nll": weighted_mean(loss, weights) if known_loss else np.full(len(weights), np.nan),
            "brier": weighted_mean(square, weights),
            f"ece_equal_width_{BINS}": table.equal_width(weights),
            f"ece_equal_mass_{BINS}": table.equal_mass(weights),
        }

    return statistic


def one_kind(errors: Bool) -> str:
    """Why a comparison of wrong with right rows is undefined on errors `[N]`."""
    return "no row is wrong" if not errors.any() else "no row is right" if errors.all() else ""


def _rows(
    split: str, found: Mapping[str, Mapping[str, Resampled]], bootstrap: Bootstrap, undefined: str
) -> Iterator[Metric]:  # fmt: skip
    """A row a metric; undefined: why one without a value has none."""
    for method, metrics in found.items():
        for name, result in metrics.items():
            if np.isnan(result.value):
                why = "a label was given probability 0" if name.endswith("nll") else undefined
                yield Metric(method, name, split, None, why=why)
            else:
                low, high = result.interval(bootstrap.level, centred="ece" in name.split("_")) or (None, None)
                yield Metric(method, name, split, result.value, low, high)


def _gains(
    split: str, scores: Sequence[Scores], errors: Bool, found: Mapping[str, Resampled],
    against: tuple[str, Bootstrap],
) -> Iterator[Metric]:  # fmt: skip
    """Paired differences in error ROC-AUC to the reference, with both p-values."""
    reference, bootstrap = against
    base = next(s for s in scores if s.method == reference)
    enough = min(int(errors.sum()), int((~errors).sum())) >= 2
    for score in scores:
        if score.method == reference:
            continue
        gain = found[score.method].minus(found[reference])
        yield from _rows(split, {score.method: {GAIN: gain}}, bootstrap, one_kind(errors))
        p_value = gain.p_value()
        if p_value is not None:
            yield Metric(score.method, f"{GAIN}_p", split, p_value)
        if enough:
            test = delong_test(score.uncertainty, base.uncertainty, errors)
            yield Metric(score.method, f"{GAIN}_p_delong", split, test.p_value)


def _log_probabilities(log_p: Float64, labels: Any) -> tuple[Float64, Int64]:
    if len(log_p) == 0:
        raise DubioError("no rows to evaluate; give at least one")
    return log_p, as_labels(labels, "labels", len(log_p), log_p.shape[1])


def _check_names(scores: Sequence[Scores], rows: int) -> None:
    names = [s.method for s in scores]
    if len(set(names)) < len(names) or ADAPTER in names:
        raise DubioError(f"each method must be given once, and none may be called {ADAPTER!r}; got {', '.join(names)}")
    for s in scores:
        if len(s) != rows:
            raise DubioError(f"{s.method} scored {len(s)} rows, and there are {rows}; they must be the same rows")
