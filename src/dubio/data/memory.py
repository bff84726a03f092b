"""What people hold in memory -> Arrow: data frames and data sets as tables, lists and arrays as columns.

Nothing is imported for it: pandas, datasets and torch are known by what they offer. What could be read in more than one
way is refused: a string is a path and no list of letters, a frame is a table and no list of its column names.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from dubio.arrays import as_numpy
from dubio.data.arrow import ArrowColumn, ArrowTable, computable
from dubio.data.objects import column_of, columns_of, is_name
from dubio.errors import DubioError


def row_place(row: int) -> str:
    """`row R`, counted from 1: for tables that have no lines."""
    return f"row {row + 1}"


def holds_table(rows: Any) -> bool:
    """Whether these rows have named columns: a data frame, a data set, an Arrow table, a mapping of columns."""
    return isinstance(rows, Mapping) or hasattr(rows, "column_names") or hasattr(rows, "columns")


def table_in_memory(rows: Any, name: str) -> ArrowTable:
    """The columns of a pandas or polars frame, a datasets.Dataset, an Arrow table, or a mapping name -> values `[N]`.

    Raises DubioError where columns are of several lengths or types, where splits are given for one table, or a name is
    no text.
    """
    try:
        if isinstance(rows, pa.RecordBatch):
            return computable(pa.Table.from_batches([rows]))
        if isinstance(rows, pa.Table):
            return computable(rows)
        if isinstance(rows, Mapping):
            return _of_mapping(rows, name)
        if hasattr(rows, "with_format") and hasattr(rows, "num_rows"):  # datasets.Dataset, with its selection of rows
            return computable(rows.with_format("arrow")[:])
        if hasattr(rows, "with_format"):  # datasets.IterableDataset
            return rows_in_memory(rows, name)
        if hasattr(rows, "to_arrow"):  # polars, duckdb
            return computable(rows.to_arrow())
        return computable(pa.Table.from_pandas(rows, preserve_index=False))
    except DubioError:
        raise
    except Exception as error:  # pandas, polars and datasets each have errors of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise DubioError(
            f"{name}: {type(rows).__name__} cannot be read as a table ({reason}); mend that column"
        ) from error


def rows_in_memory(rows: Iterable[Any], name: str) -> ArrowTable:
    """A list (or another iterable) of mappings, one a row; raises DubioError naming the row that is none."""
    held = list(rows)
    for at, row in enumerate(held):
        if not isinstance(row, Mapping):
            raise DubioError(f"{name}: {row_place(at)} is {_kind(row)}, and others are mappings; give all rows alike")
    return columns_of(name, held, row_place)


def holds_rows(rows: Any) -> tuple[bool, Any]:
    """(whether the first row is a mapping, the rows again, with the first: an iterator cannot be asked twice)."""
    if (
        not isinstance(rows, Iterable)
        or isinstance(rows, str | bytes | bytearray | set | frozenset)
        or hasattr(rows, "read")
    ):
        return False, rows  # not rows at all, which is said where they are read
    try:
        iterator = iter(rows)
    except TypeError:  # an array without dimensions
        return False, rows
    first = list(itertools.islice(iterator, 1))
    again = itertools.chain(first, iterator) if isinstance(rows, Iterator) else rows
    return bool(first) and isinstance(first[0], Mapping), again


def values_in_memory(values: Any, name: str, column: str, place: Callable[[int], str] = row_place) -> ArrowColumn:
    """One column `[N]` of texts or labels: from a list or another iterable, an array, a tensor, a series, Arrow.

    NaN becomes null, NumPy's and torch's scalars become plain values. Raises DubioError on what is no list, on several
    dimensions, and on values of several types, naming the row.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, str | bytes | bytearray):
        raise DubioError(
            f"{name}: one {type(values).__name__} was given for the {column}s; give a list, [{column}, ...]"
        )
    if (
        isinstance(values, set | frozenset)
        or hasattr(values, "read")
        or not isinstance(values, Iterable)
        or holds_table(values)
    ):
        raise DubioError(f"{name}: {_kind(values)} was given for the {column}s; give a list, one {column} a row")
    if hasattr(values, "detach") or isinstance(values, np.ndarray):
        array = as_numpy(values)
        if array.ndim != 1:
            raise DubioError(f"{name}: the {column}s have shape {array.shape}; give a list, one {column} a row")
        values = array.tolist()
    series: Any = values
    if hasattr(series, "iloc") and hasattr(series, "isna"):  # pandas: its missing values are many
        missing = np.asarray(series.isna(), dtype=np.bool_)
        values = [None if gone else value for value, gone in zip(series.to_list(), missing, strict=True)]
    return column_of(name, column, [_plain(value) for value in values], place)


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, int, bool):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a scalar of NumPy or torch
        value = value.item()
    elif isinstance(value, pa.Scalar):
        value = value.as_py()
    return None if isinstance(value, float) and value != value else value


def _of_mapping(rows: Mapping[Any, Any], name: str) -> ArrowTable:
    if any(hasattr(value, "with_format") for value in rows.values()):  # a datasets.DatasetDict
        raise DubioError(f"{name}: several splits were given ({', '.join(map(str, rows))}); give one of them")
    columns: dict[str, ArrowColumn] = {}
    for key, values in rows.items():
        if not is_name(key):
            raise DubioError(f"{name}: {ascii(key)[:60]} is no name of a column; use text")
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise DubioError(f"{name}: column {key!r} is {_kind(values)}; give a list of rows, or columns as lists")
        columns[key] = values_in_memory(values, name, key)
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} {count}" for key, count in list(lengths.items())[:8])
        raise DubioError(f"{name}: the columns are of several lengths ({told}); every row needs one of each")
    return computable(pa.table(columns))


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
