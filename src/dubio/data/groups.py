"""Which rows of a table belong together, and so on one side of every split: near repeats, or a column's values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from dubio.arrays import Int64
from dubio.data.arrow import one_array
from dubio.data.near import near_duplicate_groups
from dubio.data.tables import TextTable
from dubio.errors import DubioError

REPEATS, NONE = "repeats", "none"


def groups_of(table: TextTable, by: str = REPEATS) -> Int64 | None:
    """`[N]` numbers that rows which belong together share: by near repeats, by a column's values, or by "none" at all.

    Raises DubioError where there is no such column, a row has no value in it, it is that of the labels, or "none" names
    a column too.
    """
    if by in (REPEATS, NONE):
        check_groups(table, by)
        return repeats(table) if by == REPEATS else None
    return _numbered(group_values(table, by))


def check_groups(table: TextTable, by: str) -> None:
    """Raises DubioError where "repeats" or "none" names a column of the table too."""
    if by in (REPEATS, NONE) and by in table.frame.column_names:
        raise DubioError(f"{table.source}: groups {by!r} could also mean the column of this name; rename the column")


def group_values(table: TextTable, by: str) -> list[Any]:
    """`[N]` values of the column that names each row's group; raises DubioError as `groups_of` does."""
    column = one_array(table.extra(by))
    if table.columns is not None and by == table.columns.label:
        raise DubioError(
            f"{table.source}: column {by!r} holds the labels, so all rows of a class would be one group; name another"
        )
    if pa.types.is_nested(column.type):
        raise DubioError(f"{table.source}: column {by!r} holds {column.type}; a group is one name or number a row")
    values = column.to_pylist()
    for row, value in enumerate(values):
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            raise DubioError(f"{table.source}: {table.place(row)}: column {by!r} is missing; give every row its group")
    return values


def repeats(table: TextTable) -> Int64:
    """`[N]` group numbers of the rows: texts (and pairs) that repeat or nearly repeat one another share one.

    Prompts are compared by question and choices: what their template puts into every one would make them all alike.
    """
    return near_duplicate_groups(compared(table))


def compared(table: TextTable) -> Sequence[str]:
    """`[N]` what is compared of each row to find near repeats: the text, with its pair, or question and choices."""
    if table.cores is not None:
        return table.cores
    return table.texts if table.pairs is None else [f"{a} {b}" for a, b in zip(table.texts, table.pairs, strict=True)]


def _numbered(values: Sequence[Any]) -> Int64:
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)
