"""`dubio methods`: the registry as a table."""

from rich.table import Table

from dubio.console import wide_console
from dubio.posteriors.registry import POSTERIORS
from dubio.scores.registry import METHODS


def run() -> None:
    """Prints every registered method with its needs, cost and paper."""
    table = Table(title="Post-hoc scores (one forward pass)", show_lines=False)
    for column in ("name", "method", "needs", "cost", "paper"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for method in METHODS.values():
        table.add_row(method.name, method.title, ", ".join(method.needs), method.cost, method.paper)
    wide_console().print(table)
    over = Table(
        title="Posteriors over adapters: each adds the measures NAME.response, .entropy, .mutual_information, ..."
    )
    for column in ("name", "posterior", "made by", "cost", "paper"):
        over.add_column(column, overflow="fold", no_wrap=column == "name")
    for entry in POSTERIORS.values():
        made = "dubio train --posterior" if entry.trained else "dubio posterior ADAPTER"
        over.add_row(entry.name, entry.title, f"{made} {entry.name}", entry.cost, entry.paper)
    wide_console().print(over)
