"""The papers' own numbers, by source, model, set and method, to be shown beside ours."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dubio.errors import DubioError
from dubio.safe_reading import open_file

TABLE = "published.csv"
REFERENCE = "SR"
_TABLE = " Table "  # between a paper and the number of its table


@dataclass(frozen=True)
class Number:
    """One published value. spread: its standard deviation, None where none is given. unit: as in the source."""

    source: str
    model: str
    data: str
    method: str
    config: str
    metric: str
    value: float
    spread: float | None
    unit: str


def read_published(path: Path) -> list[Number]:
    """All of a table; raises DubioError where it is not one."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8", newline="") as opened:
            return [
                Number(row["source"], row["model"], row["dataset"], row["method"], row["config"], row["metric"],
                       float(row["value"]), float(row["std"]) if row["std"] else None, row["unit"])
                for row in csv.DictReader(opened)
            ]  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DubioError(f"{path} is not a table of published numbers ({error})") from error


def chosen(numbers: list[Number], source: str, metric: str) -> list[Number]:
    """Those whose source starts so, by one metric; raises DubioError where there are none."""
    found = [n for n in numbers if n.source.startswith(source) and n.metric == metric]
    if not found:
        raise DubioError(f"no published number of {metric!r} has a source that starts with {source!r}")
    return found


def of_source(numbers: list[Number], source: str) -> list[Number]:
    """Those whose source starts so, by every metric; raises DubioError where there are none."""
    found = [n for n in numbers if n.source.startswith(source)]
    if not found:
        raise DubioError(f"no published number has a source that starts with {source!r}")
    return found


def sources(numbers: Iterable[Number]) -> str:
    """Where rows are from, in full, each source once: `Paper Table 1, 2; Notebook`."""
    tables: dict[str, list[str]] = {}
    for paper, _, table in (source.partition(_TABLE) for source in dict.fromkeys(n.source for n in numbers)):
        tables.setdefault(paper, []).extend([table] if table else [])
    ordered = {paper: sorted(own, key=lambda table: (len(table), table)) for paper, own in tables.items()}
    return "; ".join(f"{paper}{_TABLE}{', '.join(own)}" if own else paper for paper, own in ordered.items())


def no_row_of(source: str, names: Sequence[str]) -> str:
    """A sentence that names what a config names and a source does not have; blank where it has all."""
    return f"No published row of {source}: {', '.join(names)}." if names else ""


def unknown_to(numbers: Sequence[Number], methods: Iterable[str], sets: Iterable[str | None]) -> list[str]:
    """Methods and sets, by the source's names, of which there is no row at all."""
    have, on = {n.method for n in numbers}, {n.data for n in numbers}
    lacking = [*(m for m in methods if m not in have), *(d for d in sets if d is not None and d not in on)]
    return list(dict.fromkeys(lacking))


def gain(numbers: list[Number], method: str, reference: str = REFERENCE) -> tuple[float, int] | None:
    """(mean difference to the reference, over how many pairs of model and set), None where none has both."""
    cells = {(n.model, n.data, n.method): n.value for n in numbers}
    pairs = [(value, cells.get((model, data, reference))) for (model, data, m), value in cells.items() if m == method]
    known = [value - base for value, base in pairs if base is not None]
    return (float(np.mean(known)), len(known)) if known else None
