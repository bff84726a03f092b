"""Python objects -> Arrow columns; where Arrow refuses, the first row at fault is named."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from dubio.data.arrow import ArrowColumn, ArrowTable
from dubio.errors import DubioError
from dubio.safe_reading import short


def columns_of(name: str, rows: Sequence[Mapping[str, Any]], place: Callable[[int], str]) -> ArrowTable:
    """A table of rows as mappings; a key that a row lacks is null there. place: row (0-based) -> where it lies.

    Raises DubioError naming the row where a column changes its type, or holds half a surrogate pair.
    """
    columns: dict[str, ArrowColumn] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        if not is_name(key):
            row = next(row for row, own in enumerate(rows) if key in own)
            raise DubioError(f"{name}: {place(row)}: {ascii(key)[:60]} is no name of a column; use text")
        columns[key] = column_of(name, key, [row.get(key) for row in rows], place)
    return pa.table(columns) if columns else pa.table({"": pa.nulls(len(rows))})


def column_of(name: str, column: str, values: Sequence[Any], place: Callable[[int], str]) -> ArrowColumn:
    """One column `[N]` of plain Python values; raises DubioError as `columns_of` does."""
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError) as error:
        raise DubioError(f"{name}: {_culprit(column, values, place)}") from error


def is_name(key: Any) -> bool:
    """Whether it can be a column's name: text that UTF-8 can write."""
    try:
        return isinstance(key, str) and bool(key.encode() or True)
    except UnicodeEncodeError:
        return False


def _culprit(column: str, values: Sequence[Any], place: Callable[[int], str]) -> str:
    """Says on which row a column stops being of one type."""
    first: type | None = None
    for row, value in enumerate(values):
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return f"{place(row)}: column {short(column)} holds half a surrogate pair; mend the text"
        kind = float if type(value) is int else type(value)
        if value is None or kind is first:
            continue
        if first is not None:
            return f"{place(row)}: column {short(column)} turns from {first.__name__} to {kind.__name__}; use one type"
        first = kind
    kind = "values" if first is None else f"values of {first.__name__}"
    return f"column {short(column)} holds {kind} too large or of several types from {place(0)}; use one type"
