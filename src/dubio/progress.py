"""How far long work is, on standard error: a bar on a terminal; elsewhere (a log, a job) a line a minute.

Work of less than a minute writes no line where there is no terminal.
"""

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from dubio.showing import tell

EVERY = 60.0  # seconds between two lines


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else f"{task.speed:,.0f} {self.unit}/s")


@contextmanager
def progress(title: str, total: int, unit: str = "rows", show: bool = True) -> Generator[Callable[[int], None]]:
    """Yields a function that advances the work by so many units of `total`; `show` False: nothing is written."""
    console = Console(file=sys.stderr)
    if show and not console.is_terminal:
        with _lines(title, total, unit) as advance:
            yield advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn())
    bar = Progress(*columns, console=console, disable=not show)
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def _lines(title: str, total: int, unit: str) -> Generator[Callable[[int], None]]:
    """A line every minute, from a thread: one unit of the work may take longer than that."""
    done, start, ended, stream = [0], time.monotonic(), threading.Event(), sys.stderr

    def advance(count: int) -> None:
        done[0] += count

    def watch() -> None:
        while not ended.wait(EVERY):
            with suppress(Exception):  # whoever reads may have gone, or the disk is full: the work goes on
                tell(progress_line(title, done[0], total, unit, time.monotonic() - start), file=stream)

    thread = threading.Thread(target=watch, name="dubio progress", daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        ended.set()
        thread.join()


def progress_line(title: str, done: int, total: int, unit: str, seconds: float) -> str:
    """Such as `extracting: 12,000 of 30,000 rows after 2 min, about 3 min left`. seconds: since the work began.

    The time left supposes that all units take as long as those that are done; before the first, nothing is said of it.
    """
    line = f"{title}: {done:,} of {total:,} {unit} after {_spoken(seconds)}"
    if done == 0:
        return line
    left = _spoken(seconds * max(total - done, 0) / done)
    return f"{line}, {'' if left.startswith('less') else 'about '}{left} left"


def _spoken(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
