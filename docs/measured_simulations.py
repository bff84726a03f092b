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
    return {"choice": choice, "choice_better": choice_better, "promise_repeats": promise_repeats}


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
