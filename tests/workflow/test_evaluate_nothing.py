"""Evaluation where little can be measured: no test row wrong, no rows at all, agreement that is no numbers."""

import io

import numpy as np
import pytest
from scipy.stats import spearmanr

from dubio.errors import DubioError
from dubio.workflow.evaluation import evaluate, promise
from workflow.workflow_cases import FAST, fitted, one_thread, parts, small_grids  # noqa: F401


def test_no_wrong_row_has_an_accuracy_a_coverage_and_a_reason():
    test = parts()[2]
    right = test.take(~test.errors)
    found = evaluate(fitted(), right, draws=20, budget=(0.12, 0.1))
    rows = {(m.method, m.metric): m for m in found.metrics}
    assert rows["adapter", "accuracy"].value == 1.0
    for name in FAST:
        assert rows[name, "error_roc_auc"].value is None
        assert "no row is wrong" in rows[name, "error_roc_auc"].why
    answered = found.scores[fitted().choice.method].uncertainty <= found.threshold.threshold
    assert found.realised == (answered.mean(), 0.0)
    assert f"Of {len(right)} test rows 0 are wrong (accuracy 100.0%); {answered.sum()} are answered" in found.summary
    assert "how well errors are found is undefined" in found.summary
    assert found.summary in str(found)
    assert found.threshold.promise in str(found)


def test_every_row_wrong():
    test = parts()[2]
    found = evaluate(fitted(), test.take(test.errors), draws=20)
    assert "(accuracy 0.0%)" in found.summary
    assert "every one is wrong, how well errors are found is undefined" in found.summary


def test_no_rows_leave_the_promise():
    test, away = parts()[2:]
    found = evaluate(fitted(), test.take(slice(0, 0)), ood=away, draws=20, budget=(0.12, 0.1))
    assert found.threshold == promise(fitted(), 0.12, 0.1)
    assert found.realised == (0.0, None)
    assert found.summary.startswith("There are no test rows")
    assert {m.why for m in found.metrics} == {"there are no rows"}
    assert not [m for m in found.metrics if m.value is not None]
    assert {m.metric for m in found.metrics} == {"accuracy", "error_roc_auc", "ood_roc_auc"}
    assert all(name in str(found) for name in FAST)
    assert all(len(scores) == 0 for scores in found.scores.values())


def test_no_out_of_domain_rows_leave_the_rest():
    test, away = parts()[2:]
    found = evaluate(fitted(), test, ood=away.take(slice(0, 0)), draws=20)
    there = [m for m in found.metrics if m.metric == "ood_roc_auc"]
    assert {m.method for m in there} == set(FAST)
    assert {(m.value, m.why) for m in there} == {(None, "there are no rows")}
    plain = evaluate(fitted(), test, draws=20)
    assert [m for m in found.metrics if m.metric != "ood_roc_auc"] == list(plain.metrics)


def test_the_summary_counts_answered_rows():
    test = parts()[2]
    found = evaluate(fitted(), test, draws=20, budget=(0.12, 0.1))
    answered = found.scores[fitted().choice.method].uncertainty <= found.threshold.threshold
    wrong = int(test.errors.sum())
    assert found.summary == (
        f"Of {len(test)} test rows {wrong} are wrong (accuracy {1 - wrong / len(test):.1%}); {answered.sum()} are "
        f"answered ({answered.mean():.1%}), and {test.errors[answered].mean():.1%} of those are wrong."
    )


def test_agreement_may_be_a_list_with_gaps():
    test = parts()[2]
    known = np.random.default_rng(0).random(len(test))
    values = [None if i % 3 == 0 else float(value) for i, value in enumerate(known)]
    found = evaluate(fitted(), test, agreement=values, draws=20)
    at = np.arange(len(test)) % 3 > 0
    for m in found.metrics:
        if m.metric == "spearman_disagreement":
            u = found.scores[m.method].uncertainty
            assert m.value == pytest.approx(spearmanr(u[at], 1 - known[at]).statistic)


@pytest.mark.parametrize(
    ("agreement", "message"),
    [
        (np.full(400, np.nan), "agreement: it is known of no row"),
        ([None] * 400, "agreement: it is known of no row"),
        (np.ones(10), "agreement: expected one number for each of 400 rows, got shape"),
        (np.ones((400, 1)), "agreement: expected one number for each of 400 rows, got shape"),
        (["high"] * 400, "agreement: expected a number for each row"),
        (0.5, "agreement: expected one number for each of 400 rows"),
        (io.StringIO(), "agreement: expected a number for each row"),
    ],
)
def test_agreement_that_is_none_is_refused_in_one_line(agreement, message):
    test = parts()[2]
    assert len(test) == 400
    with pytest.raises(DubioError, match=message) as refusal:
        evaluate(fitted(), test, agreement=agreement, draws=20)
    assert "\n" not in str(refusal.value)
