"""A progress line with rate and time left on standard error, silent where nobody watches."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else f"{task.speed:,.0f} {self.unit}/s")


@contextmanager
def progress(title: str, total: int, unit: str = "rows", show: bool = True) -> Generator[Callable[[int], None]]:
    """Yields a function that advances the line by so many units of `total`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    bar = Progress(*columns, console=console, disable=not (show and console.is_terminal))
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)
