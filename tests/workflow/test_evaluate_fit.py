"""Evaluation: every method by every metric, systems, out-of-domain rows, disagreement, and the promise checked."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import log_loss, roc_auc_score

from dubio.decisions import risk_threshold
from dubio.errors import DubioError
from dubio.metrics import Bootstrap, aurc
from dubio.metrics.evaluation import DETECTION
from dubio.workflow.evaluation import evaluate, promise, realise, score_all
from dubio.workflow.saving import calibration_figures
from workflow.workflow_cases import FAST, fitted, one_thread, parts, small_grids  # noqa: F401

OWN = {"tie_share", "error_probability_ece", "error_probability_ece_equal_width", "error_probability_brier",
       "error_probability_ece_debiased", "error_probability_ece_equal_width_debiased",
       "error_probability_calibration_p"}  # fmt: skip
GAIN = {"error_roc_auc_gain", "error_roc_auc_gain_p", "error_roc_auc_gain_p_delong"}
ADAPTER = {"accuracy", "nll", "brier", "ece_equal_width_15", "ece_equal_mass_15", "ece_equal_width_15_debiased",
           "ece_equal_mass_15_debiased", "calibration_p"}  # fmt: skip
AGREEMENT = np.where(np.arange(400) % 5 == 0, np.nan, np.round(np.random.default_rng(3).random(400), 1))


@pytest.fixture(scope="module")
def evaluation():
    _, _, test, away = parts()
    return evaluate(fitted(), test, ood=away, agreement=AGREEMENT, budget=(0.12, 0.1), draws=60)


@pytest.fixture(scope="module")
def table(evaluation):
    found = {(m.method, m.metric, m.split): m for m in evaluation.metrics}
    assert len(found) == len(evaluation.metrics)
    return found


def test_every_method_has_every_metric(table):
    for name in FAST:
        here = {metric for method, metric, split in table if (method, split) == (name, "test")}
        system = {metric for metric in here if metric.startswith("system_")}
        gain = set() if name == "softmax_response" else GAIN
        assert here - system == set(DETECTION) | OWN | gain | {"spearman_disagreement"}
        assert bool(system) == name.startswith(("refitted", "temperature"))
        ood = {metric for method, metric, split in table if (method, split) == (name, "ood")}
        assert ood == {"ood_roc_auc", "ood_fpr_at_95_tpr"}
    assert {metric for method, metric, _ in table if method == "adapter"} == ADAPTER
    assert {method for method, _, _ in table} == {*FAST, "adapter"}


def test_values_and_intervals(table, evaluation):
    test = parts()[2]
    for name in FAST:
        u = fitted().methods[name].score.score(test)
        np.testing.assert_array_equal(evaluation.scores[name].uncertainty, u)
        row = table[name, "error_roc_auc", "test"]
        assert row.value == pytest.approx(roc_auc_score(test.errors, u))
        assert row.low <= row.value <= row.high
        p = evaluation.scores[name].error_probability
        assert 0 < p.min() <= p.max() < 1
        assert evaluation.milliseconds[name] > 0
    best = max(FAST, key=lambda name: table[name, "error_roc_auc", "test"].value)
    assert table[best, "error_roc_auc_gain", "test"].value > 0.01  # errors are planted where features show them


def test_a_refitted_head_is_judged_as_a_system_of_its_own_predictions(table):
    test = parts()[2]
    p = np.exp(fitted().methods["refitted_both"].score.log_probabilities(test))
    wrong = p.argmax(axis=1) != test.labels
    assert table["refitted_both", "system_accuracy", "test"].value == pytest.approx(1 - wrong.mean())
    assert table["refitted_both", "system_nll", "test"].value == pytest.approx(log_loss(test.labels, p))
    expected = aurc(1 - p.max(axis=1), wrong)
    assert table["refitted_both", "system_aurc", "test"].value == pytest.approx(expected)
    assert not np.array_equal(wrong, test.errors)  # so that the two kinds of figures differ


def test_out_of_domain_rows(table, evaluation):
    _, _, test, away = parts()
    truth = np.repeat([0, 1], [len(test), len(away)])
    for name in FAST:
        score = fitted().methods[name].score
        both = np.concatenate([score.score(test), score.score(away)])
        assert table[name, "ood_roc_auc", "ood"].value == pytest.approx(roc_auc_score(truth, both))
        assert len(evaluation.ood[name]) == len(away)
    assert table["md", "ood_roc_auc", "ood"].value > 0.9


def test_disagreement_is_correlated_where_annotators_are_known(table, evaluation):
    known = ~np.isnan(AGREEMENT)
    for name in FAST:
        expected = spearmanr(evaluation.scores[name].uncertainty[known], 1 - AGREEMENT[known]).statistic
        assert table[name, "spearman_disagreement", "test"].value == pytest.approx(expected)


def test_without_extras_there_is_less():
    found = evaluate(fitted(), parts()[2], draws=5)
    assert not {m.metric for m in found.metrics} & {"spearman_disagreement", "ood_roc_auc"}
    assert found.ood == {}


@pytest.mark.parametrize("risk", [0.01, 0.12, 0.5])
def test_the_promise_is_that_of_the_certification_rows(risk):
    fit, test = fitted(), parts()[2]
    found = promise(fit, risk, 0.1)
    assert found == risk_threshold(fit.chosen.certified, fit.errors, risk=risk, delta=0.1)
    scores, _ = score_all(fit, test)
    coverage, realised = realise(fit, scores, test, found)
    if found.threshold is None:
        assert (coverage, realised) == (0.0, None)
    else:
        answered = scores[fit.choice.method].uncertainty <= found.threshold
        assert coverage == pytest.approx(answered.mean())
        assert realised == pytest.approx(test.errors[answered].mean())
        assert realised <= risk + 0.03
    assert (found.threshold is None) == (risk == 0.01)


def test_nothing_answered_has_no_risk():
    fit, test = fitted(), parts()[2]
    scores, _ = score_all(fit, test)
    assert realise(fit, scores, test, replace(promise(fit, 0.5, 0.1), threshold=-1e9)) == (0.0, None)


def test_evaluation_carries_what_it_measured(evaluation):
    assert evaluation.threshold.risk == 0.12
    assert evaluation.realised[0] > 0


def test_test_rows_need_labels():
    with pytest.raises(DubioError, match="carry no labels"):
        evaluate(fitted(), replace(parts()[2], labels=None))


def test_figures_on_calibration_come_from_out_of_fold_scores():
    fit = fitted()
    found = {(f.method, f.metric): f for f in calibration_figures(fit)}
    for name in FAST:
        expected = roc_auc_score(fit.judged.errors, fit.honest[name])
        assert found[name, "error_roc_auc"].value == pytest.approx(expected)
    assert Bootstrap().draws >= 1000  # the default of a table that is reported
