"""`index.html`: the whole evaluation as one page that needs nothing else: screen or paper, scripts or none.

A content security policy allows the page's own small script, by its hash, and nothing from outside.
"""

import base64
import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dubio.files import write_text
from dubio.report import by_class
from dubio.report.answering import BUDGETS
from dubio.report.content import ReportContent
from dubio.report.html import figures, rows, tables
from dubio.report.html.plot import Plot
from dubio.report.summary import facts, lead
from dubio.report.verdict import probability, verdict
from dubio.report.words import budget, named, percent, printable, title_of

BREAKS = ("_", "-", "/", ".")
OPEN, ROWS = 12, 8  # classes, and rows of each kind, that are shown unfolded


def write_report(folder: Path, content: ReportContent) -> Path:
    """Writes `folder/index.html` by atomic rename and returns its path; the same content gives the same bytes.

    Raises DubioError where the folder cannot be written.
    """
    target = folder / "index.html"
    write_text(target, render(content))
    return target


def render(content: ReportContent) -> str:
    """The page's HTML; everything from outside (texts, labels, file names) is escaped."""
    environment = Environment(
        loader=PackageLoader("dubio.report.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {  # pyright: ignore[reportAttributeAccessIssue]
        "percent": percent,
        "budget": budget,
        "keep": keep,
        "prose": prose,
        "breakable": breakable,
    }
    script = environment.get_template("dial.js").render()
    return environment.get_template("report.html.j2").render(
        content=content,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        chosen=title_of(content.chosen),
        chosen_named=named(content.chosen),
        lead=lead(content),
        facts=facts(content),
        open_rows=ROWS,
        verdict=[words for words in verdict(content) if words != probability(content)],
        probability=probability(content),
        version=version("dubio"),
        **_first(content),
        **_rows(content),
        **_classes(content),
        **_methods(content),
    )


def keep(words: str) -> str:
    """The words with a space before `%` at which no line breaks."""
    return words.replace(" %", "\N{NO-BREAK SPACE}%")


def prose(words: str) -> Markup:
    """The words, escaped and kept together, with what stands in backticks as code."""
    parts = keep(words).split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if at % 2 else p for at, p in enumerate(parts))


def breakable(name: str) -> Markup:
    """The name, escaped, with places where a line may break: behind `_`, `-`, `/` and `.`."""
    return Markup("").join(part + (Markup("<wbr>") if part in BREAKS else "") for part in re.split(r"([_\-/.])", name))


def _first(content: ReportContent) -> dict[str, object]:
    plot = figures.answering(content)
    listed = {*BUDGETS, content.threshold.risk}
    return {
        "picture": plot,
        "answers": [answer for answer in content.answers if answer.budget in listed],
        "dial": json.dumps(_dial(content, plot)),
        "dial_at": [answer.budget for answer in content.answers].index(content.threshold.risk),
        "dial_end": len(content.answers) - 1,
    }


def _dial(content: ReportContent, plot: Plot) -> list[dict[str, object]]:
    """For each budget: its height in the picture, the place of the point, or null, in percent, and the sentence."""
    out = list[dict[str, object]]()
    for answer in content.answers:
        point = None if answer.risk is None else [plot.left(100 * answer.coverage), plot.height(100 * answer.risk)]
        name, words = keep(budget(answer.budget)), keep(answer.outcome)
        out.append({"budget": name, "height": plot.height(100 * answer.budget), "point": point, "words": words})
    return out


def _rows(content: ReportContent) -> dict[str, object]:
    return {
        "suspicious": rows.suspicious(content),
        "answered_wrong": rows.answered_wrong(content),
        "kept_right": rows.kept_right(content),
        "foreign": rows.foreign(content),
    }


def _classes(content: ReportContent) -> dict[str, object]:
    said, true = [[printable(str(name)) for name in names] for names in (content.predicted, content.labels)]
    answered, risk = content.answered, content.threshold.risk
    found = by_class.class_rows(said, true, answered, risk)
    return {
        "classes": found[:OPEN] if len(found) > OPEN + 3 else found,
        "more_classes": found[OPEN:] if len(found) > OPEN + 3 else [],
        "pairs": by_class.confused(said, true, answered),
        "classes_words": by_class.in_words(found, risk),
    }


def _methods(content: ReportContent) -> dict[str, object]:
    columns, key_rows, zero = tables.key_methods(content)
    full = [
        (title, *tables.comparison(content, wanted), note, tables.reasons(content, wanted))
        for title, wanted, note in (
            ("Finding the wrong rows", tables.DETECTION, "Sorted by error ROC-AUC."),
            ("Calibration, ties and other truths", tables.FURTHER, "Same order. ECE and Brier are of the recalibrated "
             "error probability; above p 0.05 nothing speaks against it."),
        )
    ]  # fmt: skip
    return {
        "key_columns": columns, "key_rows": key_rows, "key_zero": zero, "full": full,
        "systems": tables.systems(content), "costs": tables.costs(content), "curves": figures.methods(content),
        "roc": figures.roc(content), "reliability": figures.reliability(content),
        "histograms": figures.histograms(content),
    }  # fmt: skip
