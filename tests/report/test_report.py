"""The report: everything of a full content is on the page, nothing from outside breaks out of it, same bytes twice."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_samples import EVIL, METHODS, artifact, content
from rich.console import Console

from dubio.containers import Scores
from dubio.metrics import Metric
from dubio.report.card import render_card
from dubio.report.html import render, write_report
from dubio.report.html.rows import suspicious
from dubio.report.html.tables import DETECTION, comparison, systems
from dubio.report.summary import lead
from dubio.report.terminal import metrics_table
from dubio.report.verdict import verdict
from dubio.report.words import p_value


@pytest.fixture(scope="module")
def fitted():
    return artifact()


@pytest.fixture(scope="module")
def full(fitted):
    return content(fitted)


class Page(HTMLParser):
    """Collects tags, their attributes and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_data(self, data):
        self.text += data


def test_stands_alone_and_escapes(full):
    page = Page(render(full))
    assert page.tags.count("script") == 1
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert [v for _, k, v in page.attributes if k in ("src", "href", "action") and not v.startswith("#")] == []
    assert not any(key.startswith("on") for _, key, _ in page.attributes)
    assert "<script>alert('x')</script>" in page.text  # shown as text
    assert "\x00" not in page.text
    assert "tiny <adapter> on test.csv" in page.text


def test_every_method_metric_and_figure_is_there(full):
    page = Page(render(full))
    for name in METHODS:
        assert name in page.text
    for word in ("AURC", "FPR at 95 % TPR", "ECE", "Brier", "OOD ROC-AUC", "Spearman", "NLL", "tied rows", "fit, s"):
        assert word in page.text, word
    frames = [value for tag, key, value in page.attributes if (tag, key) == ("div", "aria-label") and value]
    for spoken in ("Share of rows answered", "ROC curves", "Reliability. Before", "Reliability. After", "Risk and cov",
                   "Distribution of uncertainty: right", "Distribution of uncertainty: test rows"):  # fmt: skip
        assert sum(value.startswith(spoken) for value in frames) == 1, spoken


def test_same_content_same_bytes(full, tmp_path):
    one, two = write_report(tmp_path / "a", full), write_report(tmp_path / "b", full)
    assert one.read_bytes() == two.read_bytes()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["index.html"]


def test_printed_figures_are_the_metrics(full):
    columns, rows = comparison(full, (next(c for c in DETECTION if c.metric == "error_roc_auc"),))
    assert [c.metric for c in columns] == ["error_roc_auc"]
    for row in rows:
        assert row.cells[0].value == f"{100 * full.find(row.method, 'error_roc_auc').value:.1f}"
    assert [row.method for row in rows] == full.ranked()


def test_what_is_judged_stands_once_among_the_systems(full):
    assert [row.method for row in systems(full)[1]] == ["adapter", "refitted_both"]
    judged = replace(full, model={**full.model, "mean_of": "refitted_both"})
    assert [row.method for row in systems(judged)[1]] == ["refitted_both"]
    other = [replace(m, method="heads") for m in full.metrics if m.metric.startswith("system_")]
    rows = systems(replace(judged, metrics=[*full.metrics, *other]))[1]
    assert [row.method for row in rows] == ["refitted_both", "heads"]
    assert rows[0].title == "Refitted head on both (control), by softmax response"
    assert systems(replace(full, metrics=[m for m in full.metrics if m.method == "adapter"])) == ([], [])


def test_suspects_are_the_most_uncertain_rows(full):
    found = suspicious(full).shown
    u = full.scores[full.chosen].uncertainty
    assert len(found) == 20
    assert [s.row - 1 for s in found] == list(np.argsort(-u, kind="stable")[:20])
    assert all(s.wrong == full.errors[s.row - 1] for s in found)
    assert len(found[0].text) < len(EVIL)


def test_verdict_says_what_was_measured(full):
    text = " ".join(verdict(full))
    own = full.find("probe_guarded", "error_roc_auc")
    assert f"{100 * own.value:.1f} %" in text
    gain = full.find("probe_guarded", "error_roc_auc_gain")
    assert f"{100 * gain.value:+.1f} percentage points against" in text
    assert full.why in text
    assert f"{100 * full.realised[0]:.1f} % of the rows are answered" in text
    best = max((m for m in full.metrics if m.metric == "ood_roc_auc"), key=lambda m: m.value)
    assert f"{100 * full.find('probe_guarded', 'ood_roc_auc').value:.1f} %" in text
    assert best.method == "probe_guarded" or f"{100 * best.value:.1f} %" in text


def test_verdict_when_nothing_can_be_promised(fitted):
    poor = content(fitted, risk=0.001)
    assert poor.threshold.threshold is None
    assert "cannot be promised" in lead(poor)
    assert any("every row is left to a person" in p for p in verdict(poor))
    render(poor)


def with_gain(full, value, low, high):
    kept = [m for m in full.metrics if not (m.method == full.chosen and m.metric == "error_roc_auc_gain")]
    return replace(full, metrics=[*kept, Metric(full.chosen, "error_roc_auc_gain", "test", value, low, high)])


@pytest.mark.parametrize(("value", "low", "high", "words"), [
    (0.02, 0.01, 0.03, "confirmed"), (0.0, -0.01, 0.01, "contains 0"), (-0.02, -0.03, -0.01, "worse than softmax"),
    (0.0, 0.0, 0.0, "fell back"), (0.01, None, None, "too few rows"),
])  # fmt: skip
def test_verdict_follows_the_interval(full, value, low, high, words):
    assert any(words in p for p in verdict(with_gain(full, value, low, high)))


def test_softmax_response_kept(fitted):
    plain = content(replace(fitted, choice=fitted.choice.model_copy(update={"method": "softmax_response"})))
    assert "No other method beat it" in render(plain)
    assert "needs no fitting" in " ".join(verdict(replace(plain, costs=[replace(plain.costs[0], bytes=0)])))
    render(plain)


def test_all_rows_right_leaves_out_what_is_undefined(full):
    kept = [m for m in full.metrics if not m.metric.startswith(("error_roc_auc", "ood"))]
    page = render(replace(full, errors=np.zeros_like(full.errors), metrics=kept, ood={}, realised=(0.0, None)))
    assert "undefined" in page
    assert "ROC curves" not in page
    assert "Share of rows answered" in page


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("constant", [False, True])
def test_few_rows_and_scores_that_say_nothing_make_a_page(full, rows, constant):
    def few(scores):
        found = {name: Scores(name, s.uncertainty[:rows] * (not constant), None) for name, s in scores.items()}
        return {**found, "md": Scores("md", found["md"].uncertainty, np.full(rows, 0.5))}

    short = replace(
        full, errors=full.errors[:rows], scores=few(full.scores), ood=few(full.ood), before=full.before[:rows],
        texts=full.texts[:rows], predicted=full.predicted[:rows], labels=full.labels[:rows], metrics=[], ood_texts=[],
    )  # fmt: skip
    assert f"{rows} test row" in Page(render(short)).text


def test_p_values_are_never_zero():
    assert p_value(0.0004) == "<0.001"
    assert p_value(0.0006) == "0.001"
    assert p_value(0.0123) == "0.012"


def test_card_states_choice_figures_splits_and_limits(fitted):
    card = render_card(fitted)
    assert render_card(fitted) == card
    assert "tiny\\|adapter" in card
    assert "`<b>positive</b>`" in card  # nothing in a code span is interpreted
    for name in METHODS:
        assert f"`{name}`" in card
    figure = next(f for f in fitted.calibration if (f.method, f.metric) == ("md", "error_roc_auc"))
    assert f"{100 * figure.value:.1f}" in card
    assert "a" * 64 in card
    assert "exchangeable" in card
    assert not re.search(r"\d{4}-\d{2}-\d{2}", card)  # no time: its bytes are hashed


def test_terminal_table(full):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(metrics_table(full.metrics, "test"))
    lines = console.export_text().splitlines()
    rows = [line for line in lines if any(f"│{name} " in line for name in METHODS)]
    assert [row.split("│")[1].strip() for row in rows] == full.ranked()
    assert max(map(len, lines)) <= 120
    assert "…" not in "".join(rows)
