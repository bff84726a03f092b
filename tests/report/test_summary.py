"""What somebody in a hurry reads: figures are those of the metrics, and no sentence says more than its interval."""

from dataclasses import replace

import numpy as np
import pytest
from report_samples import artifact, content

from dubio.artifacts.manifest import CalibrationFigure
from dubio.decisions.threshold import risk_threshold
from dubio.metrics import Metric
from dubio.report.answering import BUDGETS, Answered, dial, promises
from dubio.report.content import Cost
from dubio.report.shipping import shipping
from dubio.report.summary import console_lines, facts, fit_lines, lead


@pytest.fixture(scope="module")
def fitted():
    return artifact()


@pytest.fixture(scope="module")
def full(fitted):
    return content(fitted, risk=0.1)


def told(of, about):
    return next((fact.text for fact in facts(of) if fact.about == about), "")


def with_accuracy(full, systems, own=(0.80, 0.79, 0.81)):
    """The report with these accuracies (value, low, high) of systems, and of the adapter."""
    kept = [m for m in full.metrics if not m.metric.startswith("system_") and m.metric != "accuracy"]
    found = [Metric("adapter", "accuracy", "test", *own)]
    found += [Metric(name, "system_accuracy", "test", *value) for name, value in systems.items()]
    costs = [*full.costs, Cost("ensemble", 60.0, 1200.0, 4096, samples=5)]
    return replace(full, metrics=[*kept, *found], costs=costs)


def test_budgets_are_counted_by_a_loop_and_promised_by_certification_rows(fitted, full):
    wanted = dial(0.07, 0.26)
    assert {*BUDGETS, 0.07} <= set(wanted)
    assert list(wanted) == sorted(set(wanted))
    assert wanted[-1] >= 0.26
    uncertainty = full.scores[full.chosen].uncertainty
    for promised in promises(fitted, 0.1, (0.05, 0.2, 0.0001)):
        assert promised == risk_threshold(fitted.chosen.certified, fitted.errors, promised.risk, 0.1)
        found = Answered.on(promised, uncertainty, full.errors)
        under = [i for i, u in enumerate(uncertainty) if promised.threshold is not None and u <= promised.threshold]
        assert (found.answered, found.wrong) == (len(under), sum(bool(full.errors[i]) for i in under))
        assert found.promised == (promised.risk > 0.001)
        assert (found.risk is None) == (found.answered == 0)


def test_answers_at_the_asked_budget_are_what_was_realised(full):
    assert (full.answer.coverage, full.answer.risk) == full.realised
    assert [a.budget for a in full.answers] == sorted({t.risk for t in full.budgets})


def test_lead_and_facts_say_the_figures(fitted, full):
    wrong = int(full.errors.sum())
    assert lead(full).startswith(f"{100 * (1 - wrong / 1500):.1f} % of the predictions are right. Answer the surest ")
    assert f"right on {1500 - wrong:,} of 1,500 test rows" in told(full, "Right")
    assert f"On test {full.answer.wrong} of {full.answer.answered} are" in told(full, "Promise")
    assert "Anchored probe on both, guarded (probe_guarded)" in told(full, "Decided by")
    poor = content(fitted, risk=0.001)
    assert "cannot be promised" in lead(poor)
    assert "0.1 % wrong cannot be promised: about" in told(poor, "Promise")
    looser = next(a for a in poor.answers if a.promised)
    assert f"is {100 * looser.budget:.4g} %; it answers {100 * looser.coverage:.1f} % of" in told(poor, "Promise")
    assert "0 of 400 rows of another source (0.0 %)" in told(poor, "Out of domain")
    assert told(replace(full, ood={}), "Out of domain") == ""


def test_a_kept_and_an_exceeded_budget(full):
    assert "kept" in told(replace(full, errors=np.zeros_like(full.errors)), "Promise")
    spoiled = told(replace(full, errors=np.ones_like(full.errors)), "Promise")
    assert "more than the budget" in spoiled
    assert "kept" not in spoiled


def test_a_head_that_is_clearly_better_is_said_with_a_way_to_ship_it(full):
    better = shipping(with_accuracy(full, {"refitted_both": (0.901, 0.89, 0.911)}))
    assert "refitted_both" in better
    assert "takes the classifier from 80.0 to 90.1 % right" in better
    assert "`dubio posterior ADAPTER heads --rows HELD_OUT.csv`" in better
    again = replace(full, model={**full.model, "mean_of": "heads"})
    words = shipping(with_accuracy(again, {"refitted_both": (0.901, 0.89, 0.911)}))
    assert "train the adapter longer." in words  # they are in use, and are not advised
    for near in ((0.805, 0.795, 0.815), (0.9, None, None)):
        words = shipping(with_accuracy(full, {"refitted_both": near}))
        assert words.startswith("Ship the adapter as it is")
        assert "not clearly more" in words


def test_whether_a_posterior_is_worth_its_cost_is_measured_against_the_best_cheap_classifier(full):
    worth = shipping(with_accuracy(full, {"ensemble": (0.85, 0.84, 0.86)}))
    assert "clearly more than the adapter with 80.0 %: worth its cost" in worth
    assert "5 samples, 1,200 ms more per 1,000 rows" in worth
    assert "`--predictions ensemble`" in worth
    beside = shipping(with_accuracy(full, {"ensemble": (0.85, 0.84, 0.86), "refitted_both": (0.9, 0.89, 0.91)}))
    assert "not clearly more than the refitted head with 90.0 %, and its surest rows are no better" in beside
    assert beside.endswith("not worth its cost.")
    assert shipping(with_accuracy(full, {})) == ""


def test_a_posterior_may_pay_by_the_order_of_its_errors(full):
    near = with_accuracy(full, {"ensemble": (0.805, 0.795, 0.815)})
    own = full.find("softmax_response", "aurc")
    for aurc, pays in ((0.5 * own.low, True), (own.number, False)):
        system = Metric("ensemble", "system_aurc", "test", aurc, 0.95 * aurc, 1.05 * aurc)
        words = shipping(replace(near, metrics=[*near.metrics, system]))
        assert (f"AURC {aurc:.4f}, not {own.number:.4f}): worth its cost" in words) == pays
        assert ("not worth its cost" in words) == (not pays)


@pytest.mark.parametrize(("low", "high", "words"), [
    (0.01, 0.03, "finds the wrong rows better"), (-0.01, 0.03, "not clearly better"), (-0.03, -0.01, "it is worse"),
])  # fmt: skip
def test_the_method_is_praised_no_more_than_its_interval(full, low, high, words):
    kept = [m for m in full.metrics if (m.method, m.metric) != (full.chosen, "error_roc_auc_gain")]
    changed = replace(full, metrics=[*kept, Metric(full.chosen, "error_roc_auc_gain", "test", 0.0, low, high)])
    assert words in told(changed, "Decided by")


def test_the_terminal_says_each_budget_and_the_method_by_name(full):
    lines = console_lines(full)
    listed = [answer for answer in full.answers if answer.budget in BUDGETS]
    for answer, line in zip(listed, lines[1:5], strict=True):
        share = f"{100 * answer.coverage:.1f} %" if answer.promised else "no promise"
        wrong = "–" if answer.risk is None else f"{100 * answer.risk:.1f} %"
        assert [part.strip() for part in line.split("   ") if part.strip()] == [
            f"{100 * answer.budget:.0f} %",
            share,
            wrong,
        ]
    assert len({len(line) for line in lines[:5]}) == 1
    assert any(line.startswith("Decided by: Anchored probe on both, guarded (probe_guarded)") for line in lines)
    assert any(line.startswith("To ship: ") for line in lines)
    assert console_lines(replace(full, errors=np.zeros(0, dtype=bool))) == []


def test_a_fit_says_accuracy_method_promises_and_a_better_head(fitted):
    lines = " ".join(fit_lines(fitted))
    figure = {(f.method, f.metric): f for f in fitted.calibration}
    assert f"right on {100 * figure['adapter', 'accuracy'].value:.1f} %" in lines
    assert "The deciding method is Anchored probe on both, guarded (probe_guarded)." in lines
    for risk in BUDGETS:
        found = risk_threshold(fitted.chosen.certified, fitted.errors, risk, 0.1)
        share = "none" if found.threshold is None else f"{100 * found.coverage:.1f} % answered"
        assert f"{100 * risk:.0f} % wrong: {share}" in lines

    def with_gain(low):
        gain = CalibrationFigure(method="refitted_both", metric="error_roc_auc_gain", value=0.05, low=low, high=0.09)
        kept = [f for f in fitted.calibration if f.metric != "error_roc_auc_gain"]
        return " ".join(fit_lines(replace(fitted, calibration=(*kept, gain))))

    assert "A refitted head (refitted_both)" in with_gain(0.01)
    assert "A refitted head" not in with_gain(-0.01)
