"""One set of a grid as disjoint tables: train, validation (picks the epoch), calibration, test, and perhaps ood.

What a config names is read; what it does not name is cut from train by a fixed seed, repeated rows on one side. Rows of
train that are also in a later table are dropped and counted: real sets repeat themselves, and the test set must not
have been seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dubio.data.columns import Columns
from dubio.data.prompts import PromptTemplate
from dubio.data.splits import overlap
from dubio.data.tables import TextTable, read_table
from dubio.errors import DubioError
from dubio.workflow.rows import label_names
from dubio_bench.grid.config import DataSet


@dataclass(frozen=True)
class Split:
    """tables: by name. labels: the classes. dropped: of each table, rows that were also in an earlier one."""

    tables: Mapping[str, TextTable]
    labels: tuple[str, ...]
    dropped: Mapping[str, int]

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table."""
        return {name: len(table) for name, table in self.tables.items()}


def read_split(data: DataSet, root: Path, template: PromptTemplate | bool) -> Split:
    """Reads and cuts; raises DubioError on tables that cannot be read, or shares that leave nothing to train on."""
    columns = Columns(data.text, data.pair, data.label)

    def read(where: str, labels: bool = True) -> TextTable:
        plain = columns if labels else Columns(data.text, data.pair, None)
        return read_table(
            place_of(where, root), columns=plain, need_labels=labels, template=template, drop_empty=data.drop_empty
        )

    dropped: dict[str, int] = {}
    tables = {"test": _some(read(data.test), data.rows.test, data.seed + 1)}
    tables |= {name: read(where) for name in ("calibration", "validation") if (where := getattr(data, name))}
    for later, earlier in (("calibration", "test"), ("validation", "test"), ("validation", "calibration")):
        if later in tables and earlier in tables:
            tables[later] = _without(later, tables[later], tables[earlier], dropped)
            _check_left(data, later, tables[later], earlier)
    pool = read(data.train)
    for earlier, table in tables.items():
        pool = _without("train", pool, table, dropped)
        _check_left(data, "train", pool, earlier)
    labels = label_names(pool)
    whole, order = len(pool), _groups(pool, data.seed)
    for name in ("calibration", "validation"):
        if name not in tables:
            asked = float(getattr(data.rows, name))
            wanted = round(asked * whole) if asked < 1 else int(asked)
            if wanted >= sum(len(group) for group in order):
                raise DubioError(f"{data.train}: {name} of {wanted} rows leaves none of its {whole} rows to train on")
            count = int(np.searchsorted(np.cumsum([len(group) for group in order]), wanted)) + 1
            tables[name] = pool.take(np.sort(np.concatenate(order[:count])))
            order = order[count:]
    if not order:
        raise DubioError(f"{data.train}: validation and calibration leave none of its {whole} rows to train on")
    tables["train"] = _some(pool.take(np.sort(np.concatenate(order))), data.rows.train, data.seed + 2)
    if data.ood is not None:
        tables["ood"] = read(data.ood, labels=False)
    return Split(tables, tuple(labels), dropped)


def place_of(where: str, root: Path) -> str:
    """A table's path under the data root; hub names and absolute paths as they are."""
    return where if where.startswith("hub:") or Path(where).is_absolute() else str(root / where)


def _some(table: TextTable, rows: int | None, seed: int) -> TextTable:
    """At most so many rows, drawn by the seed, in the table's order."""
    if rows is None or rows >= len(table):
        return table
    return table.take(np.sort(np.random.default_rng(seed).permutation(len(table))[:rows]))


def _without(name: str, table: TextTable, other: TextTable, dropped: dict[str, int]) -> TextTable:
    shared = overlap(table.rows_hash, other.rows_hash)
    if shared.any():
        dropped[name] = dropped.get(name, 0) + int(shared.sum())
        table = table.take(~shared)
    return table


def _check_left(data: DataSet, name: str, table: TextTable, earlier: str) -> None:
    """Raises DubioError where the rows of an earlier table were the last of this one."""
    if not len(table):
        raise DubioError(
            f"{getattr(data, name)}: no row is left as {name}, as those that are in {getattr(data, earlier)} "
            f"({earlier}) too are dropped; name tables that share no rows"
        )


def _groups(table: TextTable, seed: int) -> list[Any]:
    """Row numbers of every distinct text, in an order by the seed."""
    _, group = np.unique(table.rows_hash, axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    parts = np.split(order, starts[1:])
    return [parts[i] for i in np.random.default_rng(seed).permutation(len(parts))]
