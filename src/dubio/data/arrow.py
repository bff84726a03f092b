"""Arrow without its missing types: pyarrow is compiled and ships none, so these names stand for its classes."""

from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute

ArrowTable: TypeAlias = Any  # pyarrow.Table
ArrowColumn: TypeAlias = Any  # pyarrow.Array or pyarrow.ChunkedArray
compute: Any = pyarrow.compute


def one_array(column: ArrowColumn) -> ArrowColumn:
    """The column as a single array: chunks joined, dictionaries decoded."""
    if isinstance(column.type, pa.DictionaryType):
        column = column.cast(column.type.value_type)
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
