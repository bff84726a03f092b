"""Tables of docs/gotchas.md from results/simulations/, each written by a script benchmarks/simulations_*.py.

Out: Markdown tables by the names that docs/gotchas.md.in uses. Nothing is simulated here.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "simulations"
NOT_RUN = "(Not simulated yet.)"


def gotchas() -> str:
    """The page."""
    text = (ROOT / "docs" / "gotchas.md.in").read_text(encoding="utf-8")
    made = simulations()
    return re.sub(r"\{\{(\w+)\}\}", lambda found: made[found[1]](), text)


def simulations() -> dict[str, Callable[[], str]]:
    """Name in the text -> what makes its table."""
    return {"choice": choice, "choice_better": choice_better, "promise_repeats": promise_repeats, **_METRICS}


def choice() -> str:
    """How often another method is chosen where none is better."""
    rows = [row for row in read("choice") if row["scenario"] != "better"]
    counts = sorted({row["errors"] for row in rows})
    kinds = list(dict.fromkeys((row["scenario"], row["rate"]) for row in rows))
    names = {
        "chance": "all errors are chance",
        "equal": "equally good, independent",
        "blurred": "equally good, alike",
        "repeats": "the same, texts repeat",
    }
    found = {(row["scenario"], row["rate"], row["errors"]): row for row in rows}
    lines = [
        (f"{names[kind]}, {rate:.0%} wrong", *(_share(found.get((kind, rate, count))) for count in counts))
        for kind, rate in kinds
    ]
    header = ("other methods are", *(f"{count} errors" for count in counts))
    return "\n".join([*table(header, lines), "", said(rows)])


def choice_better() -> str:
    """How often a method that is better by three percentage points is chosen."""
    rows = [row for row in read("choice") if row["scenario"] == "better"]
    lines = [
        (f"{row['errors']} of {round(row['errors'] / row['rate']):,}", f"{row['correlation']:.1f}",
         f"{row['the_better'] / row['draws']:.0%}")
        for row in rows
    ]  # fmt: skip
    header = ("wrong rows", "correlation of scores", "it is chosen")
    return "\n".join([*table(header, lines), "", said(rows)]) if rows else NOT_RUN


def promise_repeats() -> str:
    """How often a promise is broken where calibration rows repeat, and what it answers."""
    rows = read("promise_repeats")
    worlds = {"flat": "any promise is broken", "demo": "like the demo"}
    lines = [
        (row["pattern"], worlds[row["world"]], f"{row['broken']:.1%}", f"{row['broken_by_rows']:.1%}",
         "–" if row["world"] == "flat" else f"{row['coverage']:.0%}")
        for row in rows
    ]  # fmt: skip
    header = ("texts stand in the table", "world", "broken", "if rows counted", "answered")
    draws, texts = (_range({row[key] for row in rows}) for key in ("draws", "texts"))
    return "\n".join([*table(header, lines), "", f"({draws} draws a row, {texts} texts; ε = 15 %, δ = 10 %.)"])


def intervals() -> str:
    """How often 95 % intervals hold the truth."""
    rows = [row for row in read("intervals") if row["scenario"] == "intervals"]
    cells = sorted({(row["errors"], row["rows"]) for row in rows})
    found = {(row["errors"], row["rows"], row["auc"]): row for row in rows}
    aucs = sorted({row["auc"] for row in rows})
    lines: list[tuple[str, ...]] = []
    for errors, count in cells:
        own = [found[errors, count, auc] for auc in aucs]
        lines.append((f"{errors} of {count:,}", *(" / ".join(_held(row, name) for row in own) for name in _SHOWN)))
    header = ("wrong rows", *_SHOWN.values())
    return "\n".join([*table(header, lines), "", _cells(rows, f"error ROC-AUC {' / '.join(map(str, aucs))}")])


def intervals_equal() -> str:
    """How often equally good methods are called different."""
    rows = [row for row in read("intervals") if row["scenario"] == "gains"]
    names = {"independent": "independent", "alike": "alike (correlation .8)", "shapes": "of other shapes"}
    counts = sorted({row["errors"] for row in rows})
    lines: list[tuple[str, ...]] = []
    for kind, name in names.items():
        of = [[r for r in rows if r["kind"] == kind and r["errors"] == count] for count in counts]
        lines.append((name, *(f"{sum(r['called'] for r in some) / len(some):.1%}" for some in of)))
    header = ("two scores", *(f"{count} error{'s' * (count > 1)}" for count in counts))
    return "\n".join([*table(header, lines), "", _cells(rows, "means over 200 and 2,000 rows and ROC-AUC .75 and .9")])


def intervals_repeats() -> str:
    """What repeated rows do to an interval that does not know of them."""
    rows = {row["repeats"]: row for row in read("intervals") if row["scenario"] == "repeats"}
    told, not_told = (" to ".join(_ends(rows[key])) for key in (3, -3))
    return (
        f"Where every row occurs three times the intervals hold in {told} of draws if the groups are known, and in "
        f"{not_told} if not."
    )


def ece() -> str:
    """Plain and debiased ECE, its interval and the test."""
    rows = [row for row in read("ece") if row["scheme"] == "equal_mass"]
    true = {
        "calibrated": "as stated", "shifted": "log-odds .5 higher", "flattened": "log-odds halved",
        "one_bin": "wrong in one bin",
    }  # fmt: skip
    stated = {"errors": "Beta(1, 9)", "even": "Beta(2, 2)", "sure": "1 − .6 Beta(1, 6)", "steps": "five levels"}
    lines = [
        (stated[row["kind"]], true[row["scenario"]], f"{row['rows']:,}",
         *(f"{row[key]:.3f}" for key in ("true", "plain", "debiased")), f"{row['low']:.3f} to {row['high']:.3f}",
         f"{row['held']:.1%}", f"{row['called']:.1%}")
        for row in rows
    ]  # fmt: skip
    header = ("stated", "true", "rows", "true ECE", "plain", "debiased", "interval", "it holds", "p ≤ .05")
    wide = min(row["held"] for row in read("ece") if row["scheme"] == "equal_width")
    draws = _range({row["draws"] for row in rows})
    said = f"(Means of {draws} draws, equal mass. With bins of equal width it holds in {wide:.1%} or more.)"
    return "\n".join([*table(header, lines), "", said])


_SHOWN = {
    "accuracy": "accuracy", "error_roc_auc": "ROC-AUC", "error_pr_auc": "PR-AUC", "aurc": "AURC", "prr": "PRR",
    "risk_at_coverage_80": "risk at 80 %", "risk_at_coverage_90": "risk at 90 %", "fpr_at_95_tpr": "FPR at 95 % TPR",
}  # fmt: skip
_METRICS = {
    "intervals": intervals, "intervals_equal": intervals_equal, "intervals_repeats": intervals_repeats, "ece": ece,
}  # fmt: skip


def _held(row: dict[str, Any], name: str) -> str:
    held = row["intervals"][name]["held"]
    return "withheld" if held is None else f"{held:.1%}"


def _ends(row: dict[str, Any]) -> tuple[str, str]:
    held = [
        row["intervals"][name]["held"] for name in ("accuracy", "error_roc_auc", "aurc", "prr", "risk_at_coverage_80")
    ]
    return f"{min(held):.0%}", f"{max(held):.0%}"


def _cells(rows: Sequence[dict[str, Any]], what: str) -> str:
    return f"({_range({row['draws'] for row in rows})} draws a cell; {what}.)"


def _share(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    return "too few" if row["too_few"] else f"{row['won'] / row['draws']:.1%}"


def said(rows: Sequence[dict[str, Any]]) -> str:
    """How many draws and rivals."""
    draws, rivals = ({row[key] for row in rows} for key in ("draws", "rivals"))
    return f"({_range(draws)} draws a cell, {_range(rivals)} methods beside softmax response.)"


def _range(values: set[int]) -> str:
    return f"{min(values):,}" if len(values) == 1 else f"{min(values):,} to {max(values):,}"


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a results file."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows)]
