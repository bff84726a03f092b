"""The page as a machine reads it: structure, numbers that are the metrics, many classes, no scripts, contrast."""

import base64
import hashlib
import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_samples import artifact, content

from dubio.metrics import Metric
from dubio.report.html import render
from dubio.report.html.page import OPEN
from dubio.report.html.tables import DETECTION, FURTHER

VOID = {"meta", "input", "line", "path", "br", "wbr"}


class Node:
    def __init__(self, tag, attrs):
        self.tag, self.attrs, self.inside = tag, {k: v or "" for k, v in attrs}, []

    @property
    def text(self):
        words = "".join(part if isinstance(part, str) else part.text for part in self.inside)
        return words.replace("\N{NO-BREAK SPACE}", " ")

    def all(self, tag=None, **wanted):
        for part in self.inside:
            if isinstance(part, Node):
                if part.tag in (tag, part.tag if tag is None else tag) and all(
                    part.attrs.get(k.rstrip("_")) == v for k, v in wanted.items()
                ):
                    yield part
                yield from part.all(tag, **wanted)

    def one(self, tag=None, **wanted):
        found = list(self.all(tag, **wanted))
        assert len(found) == 1, (tag, wanted, len(found))
        return found[0]


class Tree(HTMLParser):
    """A tree; every tag that is opened must be closed, in order."""

    def __init__(self, page):
        super().__init__()
        self.root = Node("", [])
        self.open = [self.root]
        self.feed(page)
        assert self.open == [self.root]

    def handle_starttag(self, tag, attrs):
        node = Node(tag, attrs)
        self.open[-1].inside.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].inside.append(Node(tag, attrs))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].inside.append(data)


def tree(of):
    return Tree(render(of)).root


@pytest.fixture(scope="module")
def full():
    return content(artifact(), risk=0.1)


@pytest.fixture(scope="module")
def page(full):
    return tree(full)


def many(full, classes):
    """The same rows with so many classes of long names; right stays right."""
    names = np.array([f"intent_{i:03d}_about_{'very_' * (i % 4)}long_matters" for i in range(classes)])
    true = np.random.default_rng(0).integers(0, classes, len(full.errors))
    said = np.where(full.errors, (true + 1 + true % 3) % classes, true)
    return replace(full, predicted=list(names[said]), labels=list(names[true]))


def cells(row):
    return [" ".join(cell.text.split()) for cell in row.inside if isinstance(cell, Node)]


def body(table):
    return [cells(row) for row in table.one("tbody").all("tr")]


def test_order_headings_and_anchors(page):
    sections = [s.attrs.get("id") for s in page.one("main").all("section")]
    assert sections == [None, "rows", "classes", "calibration", "methods", "origin", "words"]
    assert len(list(page.all("h1"))) == 1
    ids = [node.attrs["id"] for node in page.all() if "id" in node.attrs]
    assert len(ids) == len(set(ids))
    links = [a.attrs["href"] for a in page.all("a")]
    assert links
    assert {link[1:] for link in links} <= set(ids)
    assert page.one("html").attrs["lang"] == "en"
    for table in page.all("table"):
        assert table.one("caption").text.strip()
        assert all(th.attrs.get("scope") in ("row", "col") for th in table.all("th"))


def test_first_screen_says_what_each_budget_answers(full, page):
    first = next(page.all("section"))
    assert first.one("p", class_="lead").text.startswith(f"{100 * (1 - full.errors.mean()):.1f} % of the predictions")
    uncertainty = full.scores[full.chosen].uncertainty
    rows = body(first.one("table"))
    assert [row[0].split(" %")[0] for row in rows] == ["1", "2", "5", "10"]
    for row, risk in zip(rows, (0.01, 0.02, 0.05, 0.1), strict=True):
        promised = next(t for t in (*full.budgets, full.threshold) if t.risk == risk)
        if promised.threshold is None:
            assert row[1:3] == ["none", "–"]
            assert row[3].startswith("none: ")
            continue
        under = [u <= promised.threshold for u in uncertainty]
        wrong = sum(bool(e) for e, a in zip(full.errors, under, strict=True) if a)
        assert row[1] == f"{100 * sum(under) / len(under):.1f} %"
        assert row[2] == f"{100 * wrong / sum(under):.1f} %"
        assert row[3] == f"at most {100 * risk:.0f} %, with confidence 90 %"
    assert "your budget" in rows[-1][0]
    assert full.chosen in first.text
    ood = full.threshold.answers(full.ood[full.chosen].uncertainty)
    assert f"{ood.sum()} of {len(ood)} rows of another source" in first.text


def test_commands_are_code_and_nothing_else_is_markup(full):
    found = [m for m in full.metrics if m.metric not in ("accuracy", "system_accuracy")]
    found += [Metric("adapter", "accuracy", "test", 0.5, 0.49, 0.51)]
    found += [Metric("refitted_both", "system_accuracy", "test", 0.9, 0.89, 0.91)]
    shown = tree(replace(full, metrics=found, why="a <b>reason</b> `x < 1`"))
    first = next(shown.all("section"))
    assert next(code.text for code in first.all("code")) == "dubio posterior ADAPTER heads --rows HELD_OUT.csv"
    methods = shown.one("section", id="methods")
    assert "x < 1" in [code.text for code in methods.all("code")]
    assert "a <b>reason</b>" in methods.text


def test_picture_works_without_a_script_and_moves_with_one(full, page):
    box = page.one("figure", class_="answering")
    assert "hidden" in box.one("div", class_="dial").attrs  # the script shows it
    assert box.one("output").text == full.answer.outcome
    steps = json.loads(box.attrs["data-steps"])
    dial = box.one("input")
    assert [s["budget"] for s in steps] == sorted((s["budget"] for s in steps), key=lambda b: float(b.split("\xa0")[0]))
    assert int(dial.attrs["max"]) == len(steps) - 1
    here = steps[int(dial.attrs["value"])]
    assert here["words"].replace("\xa0", " ") == full.answer.outcome
    style = box.one("span", class_="dot here").attrs["style"]
    assert style == f"left:{here['point'][0]}%;bottom:{here['point'][1]}%"
    assert box.one("span", class_="budget").attrs["style"] == f"bottom:{here['height']}%"
    assert abs(here["point"][0] - 100 * full.realised[0]) < 0.01
    assert next(box.all("label")).attrs["for"] == dial.attrs["id"]


def test_only_the_page_s_own_script_may_run(page):
    script = page.one("script")
    assert script.attrs == {}
    allowed = next(m.attrs["content"] for m in page.all("meta") if m.attrs.get("http-equiv"))
    digest = hashlib.sha256(script.text.encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in allowed
    assert "default-src 'none'" in allowed
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|fetch|import|https?:", script.text)


def test_rows_to_read(full, page):
    section = page.one("section", id="rows")
    answered = full.threshold.answers(full.scores[full.chosen].uncertainty)
    for words, total in (("Answered, but wrong", answered & full.errors),
                         ("Left to a person, although right", ~answered & ~full.errors)):  # fmt: skip
        assert f"{words}: {total.sum():,}" in section.text
    numbers = [int(n) for n in re.findall(r"row (\d+) ·", section.text)]
    uncertainty = full.scores[full.chosen].uncertainty
    surest = [i for i in np.argsort(uncertainty, kind="stable") if answered[i] and full.errors[i]][:10]
    assert numbers[20:30] == [int(i) + 1 for i in surest]
    assert "strange <script>" in section.text  # an out-of-domain text, as text


@pytest.mark.parametrize("classes", [3, 77, 150])
def test_classes_stay_readable(full, classes):
    wide = many(full, classes)
    section = tree(wide).one("section", id="classes")
    tables = list(section.all("table", class_="classes"))
    unfolded = [t for t in tables if not any(t in d.all("table") for d in section.all("details"))]
    assert len(body(unfolded[0])) == (classes if classes <= OPEN + 3 else OPEN)
    found = {row[0].replace("surely over the budget", "").strip(): row for t in tables for row in body(t)}
    assert sorted(found) == sorted({*wide.predicted, *wide.labels})
    for name, row in found.items():
        rows = [i for i, said in enumerate(wide.predicted) if said == name]
        assert row[2] == f"{sum(wide.labels[i] != name for i in rows)} of {len(rows)}"
        assert row[3] == str(sum(bool(full.answered[i]) for i in rows))
    pairs = body(section.one("table", class_="pairs"))
    assert len(pairs) <= 12
    assert [int(p[2]) for p in pairs] == sorted((int(p[2]) for p in pairs), reverse=True)


def test_only_methods_that_matter_are_unfolded(full, page):
    section = page.one("section", id="methods")
    key = section.one("table", class_="key-methods")
    shown = [th.one("span", class_="key").text for th in key.one("tbody").all("th")]
    assert {full.chosen, "softmax_response", full.control} <= set(shown)
    assert len(shown) <= 7
    for name, row in zip(shown, body(key), strict=True):
        assert row[1].startswith(f"{100 * full.find(name, 'error_roc_auc').number:.1f}")
    folded = " ".join(d.text for d in section.all("details"))
    for name in full.scores:
        assert name in folded
    assert "All 8 methods, every figure" in folded


def test_every_figure_of_the_tables_is_that_of_metrics_json(full, page):
    """As `metrics.json` holds them: value and both ends of the interval, of every method and column."""
    stored = json.loads(json.dumps([asdict(m) for m in full.metrics]))
    found = {(m["method"], m["metric"]): m for m in stored}
    tables = {t.one("caption").text.split(".")[0]: t for t in page.one("section", id="methods").all("table")}
    seen = 0
    for caption, columns in (("Finding the wrong rows", DETECTION), ("Calibration, ties and other truths", FURTHER)):
        headers = [" ".join(th.text.split()) for th in tables[caption].one("thead").all("th")]
        shown = [next(c for c in columns if f"{c.header} {c.better}".strip() == h) for h in headers[1:]]
        for row in tables[caption].one("tbody").all("tr"):
            name = row.one("span", class_="key").text
            for column, cell in zip(shown, row.all("td"), strict=True):
                figure = found.get((name, column.metric))
                if figure is None or column.pattern == "p":
                    continue
                wanted = [figure[k] for k in ("value", "low", "high") if figure[k] is not None]
                printed = re.findall(r"[+-]?\d+\.\d+", cell.text.replace("−", "-"))
                assert printed == [column.pattern.format(column.scale * v) for v in wanted], (name, column.metric)
                seen += 1
    assert seen > 60


def test_dark_narrow_and_paper_are_styled(page):
    style = page.one("style").text
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 560px"):
        assert rule in style
    assert "url(" not in style
    assert "@import" not in style


def contrast(one, two):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        lin = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * lin[0] + 0.7152 * lin[1] + 0.0722 * lin[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_aa_in_light_dark_and_print(page):
    """4.5 for text on both backgrounds, 3 for lines (WCAG 2.2, 1.4.3 and 1.4.11)."""
    style = page.one("style").text
    schemes = re.findall(r":root \{[^}]*--paper[^}]*\}", style)
    assert len(schemes) == 3
    for scheme in schemes:
        colours = {k: v if len(v) == 7 else "#" + "".join(2 * c for c in v[1:])
                   for k, v in re.findall(r"--([a-z]+): (#[0-9a-f]+)", scheme)}  # fmt: skip
        for text in ("ink", "soft", "accent", "bad"):
            for ground in ("paper", "tint"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground, colours)
        for line in ("chosen", "reference", "third", "fourth", "fifth"):
            assert contrast(colours[line], colours["paper"]) >= 3, (line, colours)
