"""From scores to rows of a table: every metric with its interval, or why there is none that holds.

ROC-AUC compares scores of the same predictions (the adapter's). What changes the predictions is judged as a system,
by metrics whose names start with `system_`. A metric that is undefined on the rows at hand (no errors, say) has a row
without a value that says why.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dubio.arrays import Float64, Int64, as_labels, as_matrix, as_vector
from dubio.containers import Scores
from dubio.errors import DubioError
from dubio.log_space import log_softmax
from dubio.metrics.bootstrap import Bootstrap, Statistic, resample
from dubio.metrics.calibration import BINS, CalibrationGroups, brier_rows, weighted_mean
from dubio.metrics.correlation import Midranks, spearman_of
from dubio.metrics.delong import delong_test
from dubio.metrics.influence import Ranked, of_mean, of_roc_auc
from dubio.metrics.intervals import DIFFERENCE, FEWEST_DELONG, LOG, Interval, Kinds, Scale, p_of
from dubio.metrics.table import DETECTION, Judged, Metric, calibration, detection, of_draws
from dubio.metrics.ties import TieGroups, tie_share

ADAPTER = "adapter"
REFERENCE = "softmax_response"
GAIN = "error_roc_auc_gain"
SYSTEM = "system_"
FEWEST_RANKED = 20  # rows below which a rank correlation has no interval

__all__ = ["ADAPTER", "DETECTION", "GAIN", "REFERENCE", "Metric", "correlation", "evaluate_ood", "evaluate_scores",
           "evaluate_system"]  # fmt: skip


def evaluate_scores(
    split: str, scores: Sequence[Scores], logits: Any, labels: Any,
    *, reference: str | None = REFERENCE, bootstrap: Bootstrap | None = None, groups: Any = None,
) -> list[Metric]:  # fmt: skip
    """All metrics of scores of the adapter's predictions, and the adapter's own (method "adapter").

    logits: `[N, C]`. labels: `[N]`. reference: the method whose error ROC-AUC the others' gains are measured from, or
    None for no gains. groups: `[N]`, rows that repeat one another share a number and count once in every interval.
    Raises DubioError on lengths that differ, a method given twice, or an unknown reference.
    """
    log_p, y = _log_probabilities(log_softmax(as_matrix(logits, "logits", np.float64)), labels)
    errors = log_p.argmax(axis=1) != y
    _check_names(scores, len(y))
    if reference is not None and reference not in {s.method for s in scores}:
        raise DubioError(f"the reference {reference!r} is not among the scores; add it, or pass reference=None")
    on = Judged(split, Kinds(errors, _units(groups, len(y))), bootstrap or Bootstrap())
    rows = list(_classifier(on, ADAPTER, log_p, y))
    tied = {s.method: TieGroups.of(s.uncertainty, errors) for s in scores}
    rows += detection(on, tied, tuple(DETECTION))
    for score in scores:
        rows += _probability(on, score)
        rows.append(Metric(score.method, "tie_share", split, tie_share(score.uncertainty)))
    return rows if reference is None else [*rows, *_gains(on, scores, tied, reference)]


def evaluate_system(
    split: str, method: str, probabilities: Any, labels: Any, uncertainty: Any,
    *, bootstrap: Bootstrap | None = None, groups: Any = None,
) -> list[Metric]:  # fmt: skip
    """A method that changes the predictions, judged with its own: accuracy, NLL, Brier, ECE, AURC, AUGRC, ROC-AUC.

    probabilities: `[N, C]`. uncertainty: `[N]`. groups: as of `evaluate_scores`. Names start with `system_`; the
    ROC-AUC is of its own errors and must not be compared with that of another system. Raises DubioError on rows that
    do not sum to 1.
    """
    p = as_matrix(probabilities, "probabilities", np.float64)
    if len(p) and (p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > 1e-3):
        raise DubioError("probabilities: rows must be non-negative and sum to 1; pass softmax outputs")
    with np.errstate(divide="ignore"):
        log_p, y = _log_probabilities(np.log(p), labels)
    errors = log_p.argmax(axis=1) != y
    tied = TieGroups.of(as_vector(uncertainty, f"uncertainty of {method}", len(y)), errors)
    on = Judged(split, Kinds(errors, _units(groups, len(y))), bootstrap or Bootstrap())
    rows = list(_classifier(on, method, log_p, y, SYSTEM))
    return rows + detection(on, {method: tied}, ("aurc", "augrc", "error_roc_auc"), SYSTEM)


def evaluate_ood(
    scores_in: Sequence[Scores], scores_out: Sequence[Scores], split: str, *, bootstrap: Bootstrap | None = None
) -> list[Metric]:
    """Does each score rank out-of-domain rows above in-domain rows? `ood_roc_auc` and `ood_fpr_at_95_tpr`.

    Raises DubioError where the methods or the numbers of rows differ.
    """
    if not scores_in or [s.method for s in scores_in] != [s.method for s in scores_out]:
        raise DubioError(
            "out-of-domain scores must come from the same methods, in the same order, as the in-domain ones"
        )
    inside, outside = len(scores_in[0]), len(scores_out[0])
    _check_names(scores_in, inside)
    _check_names(scores_out, outside)
    is_out = np.repeat([False, True], [inside, outside])
    on = Judged(split, Kinds(is_out, names=("out-of-domain", "in-domain")), bootstrap or Bootstrap())
    tied = {
        a.method: TieGroups.of(np.concatenate([a.uncertainty, b.uncertainty]), is_out)
        for a, b in zip(scores_in, scores_out, strict=True)
    }
    found = detection(on, tied, ("error_roc_auc", "fpr_at_95_tpr"))
    return [replace(m, metric=f"ood_{m.metric.removeprefix('error_')}") for m in found]


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

    found = resample({s.method: statistic_of(s) for s in scores}, [len(truth)], bootstrap)
    few = f"no interval holds with fewer than {FEWEST_RANKED} rows; there are {len(truth)}"
    out: list[Metric] = []
    for method, metrics in found.items():
        if np.isnan(metrics[name].value):
            out.append(Metric(method, name, split, None, why="all rows have the same score, or the same truth"))
        else:
            wide = len(truth) >= FEWEST_RANKED
            ends = of_draws(metrics[name], bootstrap) if wide else Interval(None, None, few)
            out.append(Metric(method, name, split, metrics[name].value, *ends))
    return out


def _classifier(on: Judged, method: str, log_p: Float64, labels: Int64, prefix: str = "") -> Iterator[Metric]:
    """Accuracy, NLL, Brier, ECE and the test of calibration of log-probabilities `[N, C]`."""
    p, rows, errors = np.exp(log_p), np.arange(len(labels)), on.kinds.errors
    once, right = np.ones((1, len(labels))), (~errors).astype(np.float64)
    accuracy = float(weighted_mean(right, once)[0])
    low, high, _ = on.share(1 - accuracy, np.ones(len(labels), dtype=bool))
    ends = Interval(None, None) if low is None or high is None else Interval(1 - high, 1 - low)
    yield on.row(method, f"{prefix}accuracy", accuracy, ends)
    loss = -log_p[rows, labels]
    if np.isfinite(loss).all():
        yield _mean(on, method, f"{prefix}nll", loss)
    else:
        yield Metric(method, f"{prefix}nll", on.split, None, why="a label was given probability 0")
    yield _mean(on, method, f"{prefix}brier", brier_rows(p, labels), LOG.upto(2.0))
    table = CalibrationGroups.of(np.minimum(p.max(axis=1), 1.0), right)
    names = {scheme: f"{prefix}ece_{scheme}_{BINS}" for scheme in ("equal_width", "equal_mass")}
    yield from calibration(on, method, table, names, f"{prefix}calibration_p")


def _probability(on: Judged, score: Scores) -> Iterator[Metric]:
    """ECE, Brier and the test of calibration of a score's error probability, where it has one."""
    if score.error_probability is None:
        return
    table = CalibrationGroups.of(score.error_probability, on.kinds.errors)
    names = {"equal_mass": "error_probability_ece", "equal_width": "error_probability_ece_equal_width"}
    yield from calibration(on, score.method, table, names, "error_probability_calibration_p")
    yield _mean(on, score.method, "error_probability_brier", (table.probability - table.outcome) ** 2, LOG.upto(1.0))


def _mean(on: Judged, method: str, name: str, loss: Float64, scale: Scale = LOG) -> Metric:
    value = float(weighted_mean(loss, np.ones((1, len(loss))))[0])
    return on.row(method, name, value, on.smooth(of_mean(loss, on.kinds.errors), scale))


def _gains(on: Judged, scores: Sequence[Scores], tied: Mapping[str, TieGroups], reference: str) -> Iterator[Metric]:
    """Paired differences in error ROC-AUC to the reference, with both p-values."""
    kinds, split = on.kinds, on.split
    others = [s for s in scores if s.method != reference]
    if kinds.errors.all() or not kinds.errors.any():
        yield from (Metric(s.method, GAIN, split, None, why=kinds.one_sided()) for s in others)
        return
    influence = {method: of_roc_auc(Ranked.of(groups)) for method, groups in tied.items()}
    values = {m: float(DETECTION["error_roc_auc"](groups.cumulate())[0]) for m, groups in tied.items()}
    base = next(s for s in scores if s.method == reference)
    for score in others:
        gain = influence[score.method].minus(influence[reference])
        value = values[score.method] - values[reference]
        yield on.row(score.method, GAIN, value, on.smooth(gain, DIFFERENCE))
        p_value = p_of(gain, kinds)
        why = None if p_value is not None else kinds.too_few(2, what="p-value")
        yield Metric(score.method, f"{GAIN}_p", split, p_value, why=why)
        why = kinds.too_few(FEWEST_DELONG, what="p-value")
        p_value = None if why else delong_test(score.uncertainty, base.uncertainty, kinds.errors).p_value
        yield Metric(score.method, f"{GAIN}_p_delong", split, p_value, why=why)


def _units(groups: Any, rows: int) -> Int64 | None:
    """`[N]` numbers from 0 of the groups, or None where every row is its own."""
    if groups is None:
        return None
    given = as_vector(groups, "groups", rows)
    units = np.unique(given, return_inverse=True)[1].ravel().astype(np.int64)
    return None if len(units) == 0 or units.max() + 1 == len(units) else units


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
