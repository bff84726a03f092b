"""Where no interval holds, and where nothing is wrong, the report, the terminal, the card and the JSON say so."""

import io
from dataclasses import asdict, replace

import numpy as np
import pytest
from report_samples import METHODS, artifact, content
from rich.console import Console

from dubio.artifacts.manifest import CalibrationFigure
from dubio.metrics import Bootstrap, evaluate_scores
from dubio.report.card import render_card
from dubio.report.html import render
from dubio.report.terminal import metrics_table
from dubio.report.verdict import verdict

THREE = "no interval holds with fewer than 5 wrong rows; there are 3"


@pytest.fixture(scope="module")
def fitted():
    return artifact()


@pytest.fixture(scope="module")
def full(fitted):
    return content(fitted)


def with_wrong(full, wrong):
    """The same report, of rows of which so many are wrong."""
    logits = np.tile([0.0, 3.0], (len(full.errors), 1))
    errors = np.arange(len(full.errors)) < wrong
    found = evaluate_scores(
        "test", list(full.scores.values()), logits, (~errors).astype(int), bootstrap=Bootstrap(draws=60)
    )
    return replace(full, metrics=found, errors=errors)


def printed(metrics):
    page = Console(width=120, record=True, file=io.StringIO())
    page.print(metrics_table(metrics, "test"))
    return page.export_text()


def test_three_wrong_rows_have_no_interval_and_every_place_says_why(full):
    few = with_wrong(full, 3)
    table = printed(few.metrics)
    assert table.count("(no interval)") == 2 * len(METHODS) - 1  # error ROC-AUC and gain; the reference has no gain
    assert f"error ROC-AUC, gain: {THREE}." in table
    page = render(few)
    columns = "error ROC-AUC, %, difference to softmax response, percentage points, error PR-AUC, %, AURC"
    assert f"{columns}: {THREE}." in page
    assert "FPR at 95 % TPR, %: no interval holds with fewer than 100 wrong rows; there are 3." in page
    assert THREE in " ".join(verdict(few))
    assert {asdict(m)["why"] for m in few.metrics if m.metric == "aurc"} == {THREE}


def test_no_wrong_row_leaves_a_table_that_says_why(full):
    right = with_wrong(full, 0)
    table = printed(right.metrics)
    for name in METHODS:
        assert f"│{name} " in table
    assert "error ROC-AUC, gain: no row is wrong." in table
    assert "no row is wrong." in render(right)


def test_many_wrong_rows_have_intervals_and_no_excuse(full):
    table = printed(with_wrong(full, 150).metrics)
    assert "no interval" not in table
    assert "(no interval)" not in render(with_wrong(full, 150))


def test_the_card_says_why(fitted, full):
    figures = tuple(
        CalibrationFigure(method=m.method, metric=m.metric, value=m.value, low=m.low, high=m.high, why=m.why)
        for m in with_wrong(full, 3).metrics
    )
    card = render_card(replace(fitted, calibration=figures))
    assert "(no interval)" in card
    assert f"Where figures are missing: {THREE}." in card
    assert "Where figures are missing" not in render_card(fitted)


def test_calibration_is_said_in_words(full):
    """Labels drawn from the stated error probability, and from another one."""
    chosen, logits = full.scores[full.chosen], np.tile([0.0, 3.0], (len(full.errors), 1))
    uniform = np.random.default_rng(0).random(len(full.errors))
    for shift, said, shown in (
        (0.0, "nothing speaks against it (test", "no objection"),
        (0.3, "off by 0.", "off by 0."),
    ):
        errors = uniform < np.minimum(chosen.error_probability + shift, 1)
        found = evaluate_scores(
            "test", [chosen], logits, (~errors).astype(int), reference=None, bootstrap=Bootstrap(200)
        )
        about = replace(full, metrics=found, errors=errors)
        assert f"Its error probability: {said}" in " ".join(verdict(about))
        assert shown in printed(found)
        tested = next(m for m in found if m.metric == "error_probability_calibration_p")
        assert (tested.value > 0.05) == (shift == 0)
        assert tested.why.startswith("nothing speaks against" if shift == 0 else "these probabilities are off by 0.")
