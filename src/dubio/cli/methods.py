"""`dubio methods`: the registry as a table."""

from rich.table import Table

from dubio.console import wide_console
from dubio.scores.registry import METHODS


def run() -> None:
    """Prints every registered method with its needs, cost and paper."""
    table = Table(title="Post-hoc scores (one forward pass)", show_lines=False)
    for column in ("name", "method", "needs", "cost", "paper"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for method in METHODS.values():
        table.add_row(method.name, method.title, ", ".join(method.needs), method.cost, method.paper)
    wide_console().print(table)
