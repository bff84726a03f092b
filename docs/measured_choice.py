"""Writes docs/which-method.md: docs/which-method.md.in with each `{{figure GRID METHOD}}` read from results/.

Other pages may have such figures, too: `filled` puts them in place.

In: the namespace of docs/measured_grids.py, whose comparisons are kept and shared. Out: the page.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

DOCS = Path(__file__).resolve().parent
FIGURE = re.compile(r"\{\{(\w+) (\S+) (\S+)\}\}")


def which_method(grids: Mapping[str, Any]) -> str:
    """The page. Raises an error on a figure that the results do not hold."""
    return filled((DOCS / "which-method.md.in").read_text(encoding="utf-8"), grids)


def filled(text: str, grids: Mapping[str, Any]) -> str:
    """A text with its figures in place."""
    made = figures(grids)
    return FIGURE.sub(lambda found: made[found[1]](found[2], found[3]), text)


def figures(grids: Mapping[str, Any]) -> dict[str, Callable[[str, str], str]]:
    """Name of a figure -> what makes it of (grid, method); of a system where it is about a classifier."""

    def gain(grid: str, method: str) -> str:
        found = grids["compared"](grid)
        return grids["tables"].interval(found.difference(method, grids["BASE"]), found.metric)

    def mean(metric: str, scale: float, digits: int, prefix: str = "") -> Callable[[str, str], str]:
        def figure(grid: str, method: str) -> str:
            cells = grids["outcomes_of"](grid)[1]
            values = [value for cell in cells if (value := cell.figure(prefix + method, metric)) is not None]
            return f"{scale * fmean(values):.{digits}f}"

        return figure

    return {
        "gain": gain,
        "ece": mean("error_probability_ece", 100, 1),
        "class_ece": mean("ece_equal_width_15", 100, 1, "system:"),
        "accuracy": mean("accuracy", 100, 1, "system:"),
        "aurc": mean("aurc", 1, 3),
        "system_aurc": mean("aurc", 1, 3, "system:"),
    }
