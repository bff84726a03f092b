"""Invariant 5: NaN and infinity in features, logits, labels or scores are an error that names the row."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from invariant_cases import fitted, small, tables

import dubio.metrics as dm
from dubio.containers import Representations, Scores
from dubio.decisions import Recalibrator, risk_threshold
from dubio.errors import DubioError
from dubio.scores import base
from dubio.scores.registry import METHODS

VALUES = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
ROW = 17


def spoilt(rows, field, value, row=ROW):
    """The table with one bad number, built behind the back of the checks of `Representations.of`."""
    array = getattr(rows, field).copy()
    array[row, 1] = value
    return replace(rows, **{field: array})


@VALUES
@pytest.mark.parametrize("field", ["features", "logits"])
@pytest.mark.parametrize("name", list(METHODS))
def test_every_fit_and_score_names_the_row(name, field, value):
    train, calibration, test = tables()
    with pytest.raises(DubioError, match=rf"^train {field}: row {ROW} holds NaN or infinity"):
        small(name).fit(spoilt(train, field, value), calibration)
    with pytest.raises(DubioError, match=rf"^calibration {field}: row {ROW} holds NaN or infinity"):
        small(name).fit(train, spoilt(calibration, field, value))
    with pytest.raises(DubioError, match=rf"^{field}: row {ROW} holds NaN or infinity"):
        fitted(name).score(spoilt(test, field, value))


@pytest.mark.parametrize("name", list(METHODS))
def test_the_row_is_counted_from_the_start_of_the_table_not_of_the_chunk(name, monkeypatch):
    monkeypatch.setattr(base, "CHUNK", 50)
    with pytest.raises(DubioError, match=r"^logits: row 137 holds NaN"):
        fitted(name).score(spoilt(tables()[2], "logits", np.nan, 137))


@pytest.mark.parametrize("name", list(METHODS))
def test_a_score_that_comes_out_infinite_is_an_error(name, monkeypatch):
    method = small(name).fit(*tables()[:2])
    monkeypatch.setattr(type(method), "_score", lambda self, rows: np.where(np.arange(len(rows)) == 5, np.inf, 0.0))
    with pytest.raises(DubioError, match=r"uncertainty of \w+: row 5 holds NaN or infinity"):
        method.score(tables()[2])


@VALUES
@pytest.mark.parametrize("wrap", [np.asarray, torch.as_tensor])
def test_representations_and_scores(value, wrap):
    z, logits, labels = np.zeros((4, 2)), np.zeros((4, 3)), np.zeros(4)
    for bad in (z, logits):
        bad[2, 1] = value
        with pytest.raises(DubioError, match="row 2 holds NaN"):
            Representations.of(wrap(z), wrap(logits), labels)
        bad[2, 1] = 0
    labels[3] = value
    with pytest.raises(DubioError, match="labels: row 3 holds NaN"):
        Representations.of(z, logits, wrap(labels))
    with pytest.raises(DubioError, match="uncertainty of md: row 3 holds NaN"):
        Scores.of("md", wrap(labels))
    with pytest.raises(DubioError, match="error probability of md: row 3 holds NaN"):
        Scores.of("md", z[:, 0], wrap(labels))


GOOD = np.linspace(0.1, 0.9, 8)
ERRORS = np.arange(8) % 2
PAIRS = np.stack([GOOD, 1 - GOOD], axis=1)
ON_TWO_VECTORS = {
    "roc_auc": dm.roc_auc, "pr_auc": dm.pr_auc, "fpr_at_tpr": dm.fpr_at_tpr, "roc_curve": dm.roc_curve, "aurc": dm.aurc,
    "e_aurc": dm.e_aurc, "augrc": dm.augrc, "prr": dm.prr, "risk_at_coverage": dm.risk_at_coverage,
    "coverage_at_risk": dm.coverage_at_risk, "risk_coverage_curve": dm.risk_coverage_curve, "ece": dm.ece,
    "error_probability_ece": dm.error_probability_ece, "error_probability_brier": dm.error_probability_brier,
    "reliability_bins": dm.reliability_bins, "spearman": dm.spearman,
    "recalibrator": lambda u, e: Recalibrator().fit(u, e), "risk_threshold": lambda u, e: risk_threshold(u, e, 0.4),
}  # fmt: skip
ON_A_TABLE = {"accuracy": (dm.accuracy, PAIRS), "nll": (dm.nll, np.log(PAIRS)), "brier": (dm.brier, PAIRS)}
BUILT = {"delong_test", "tie_share", "evaluate_scores", "evaluate_system", "evaluate_ood", "correlation", "resample"}


def test_no_metric_is_left_out():
    """A new public metric has to be added to one of the tables above."""
    functions = {name for name in dm.__all__ if name[0].islower()}
    assert functions == (set(ON_TWO_VECTORS) - {"recalibrator", "risk_threshold"}) | set(ON_A_TABLE) | BUILT


@VALUES
@pytest.mark.parametrize("name", ON_TWO_VECTORS)
def test_every_metric_and_decision_names_the_row(name, value):
    metric = ON_TWO_VECTORS[name]
    metric(GOOD, ERRORS)
    for place in (0, 1):
        arrays = [GOOD.copy(), ERRORS.astype(float)]
        arrays[place][5] = value
        with pytest.raises(DubioError, match="row 5 holds NaN or infinity"):
            metric(*arrays)


@VALUES
@pytest.mark.parametrize("name", ON_A_TABLE)
def test_every_metric_of_tables_names_the_row(name, value):
    metric, table = ON_A_TABLE[name]
    metric(table, ERRORS)
    bad, labels = table.copy(), ERRORS.astype(float)
    bad[5, 0], labels[6] = value, value
    with pytest.raises(DubioError, match="row 5 holds NaN or infinity"):
        metric(bad, ERRORS)
    with pytest.raises(DubioError, match="labels: row 6 holds NaN or infinity"):
        metric(table, labels)


@VALUES
def test_the_rest_names_the_row_too(value):
    bad, logits, truth = GOOD.copy(), np.log(PAIRS), ERRORS.astype(float)
    bad[5], logits[4, 1], truth[3] = value, value, value
    good, spoiled = [Scores.of("a", GOOD)], [Scores("a", bad)]
    for call, row in (
        (lambda: dm.delong_test(bad, GOOD, ERRORS), 5),
        (lambda: dm.delong_test(GOOD, bad, ERRORS), 5),
        (lambda: dm.tie_share(bad), 5),
        (lambda: dm.evaluate_scores("t", spoiled, np.log(PAIRS), ERRORS, reference=None), 5),
        (lambda: dm.evaluate_scores("t", good, logits, ERRORS, reference=None), 4),
        (lambda: dm.evaluate_scores("t", good, np.log(PAIRS), truth, reference=None), 3),
        (lambda: dm.evaluate_system("t", "a", PAIRS, ERRORS, bad), 5),
        (lambda: dm.evaluate_system("t", "a", np.where(np.isfinite(logits), PAIRS, value), ERRORS, GOOD), 4),
        (lambda: dm.correlation("t", good, truth, "x"), 3),
        (lambda: dm.correlation("t", spoiled, GOOD, "x"), 5),
        (lambda: Recalibrator().fit(GOOD, ERRORS).predict(bad), 5),
        (lambda: risk_threshold(np.arange(500.0), np.zeros(500), 0.05).answers(bad), 5),
    ):
        with pytest.raises(DubioError, match=f"row {row} holds NaN or infinity"):
            call()
    with pytest.raises(DubioError, match="holds NaN or infinity"):
        dm.evaluate_ood(good, spoiled, "ood")


def test_a_score_of_one_kind_of_rows_has_no_number():
    """What is undefined has no value in a table and says why: never a number and never NaN."""
    test = tables()[2]
    right = test.take(~test.errors)
    scores = [Scores.of(name, fitted(name).score(right)) for name in ("softmax_response", "md")]
    rows = dm.evaluate_scores("test", scores, right.logits, right.labels, bootstrap=dm.Bootstrap(draws=20))
    assert all(np.isfinite([x for x in (m.value, m.low, m.high) if x is not None]).all() for m in rows)
    undefined = {m.metric for m in rows if m.value is None}
    assert {"error_roc_auc", "prr", "error_roc_auc_gain"} <= undefined
    assert all(m.why == "no row is wrong" for m in rows if m.value is None and "debiased" not in m.metric)
