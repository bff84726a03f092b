"""Arrow without its missing types: pyarrow is compiled and ships none, so these names stand for its classes."""

from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute

ArrowTable: TypeAlias = Any  # pyarrow.Table
ArrowColumn: TypeAlias = Any  # pyarrow.Array or pyarrow.ChunkedArray
compute: Any = pyarrow.compute


def one_array(column: ArrowColumn) -> ArrowColumn:
    """The column as a single array: chunks joined, dictionaries decoded, views turned into what Arrow computes with."""
    if isinstance(column.type, pa.DictionaryType):
        column = column.cast(column.type.value_type)
    column = _without_views(column)
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def computable(frame: ArrowTable) -> ArrowTable:
    """The table without the layouts that Arrow reads and cannot take rows of: views of text or bytes, runs."""
    for at, field in enumerate(frame.schema):
        column = _without_views(frame.column(at))
        if column.type != field.type:
            frame = frame.set_column(at, field.name, column)
    return frame


def is_text(kind: Any) -> bool:
    """Whether the type is one of text, whatever its layout."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_bytes(kind: Any) -> bool:
    """Whether the type is one of bytes, whatever its layout."""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _without_views(column: ArrowColumn) -> ArrowColumn:
    kind = column.type
    if isinstance(kind, pa.RunEndEncodedType):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        column = pa.chunked_array([compute.run_end_decode(chunk) for chunk in chunks], kind.value_type)
        return _without_views(column)
    plain = _plain(kind)
    if plain == kind:
        return column
    try:
        return column.cast(plain)
    except pa.ArrowException:  # views inside of lists or structs
        return pa.array(column.to_pylist(), plain)


def _plain(kind: Any) -> Any:
    """The type with views replaced by what they are views of."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return kind if _plain(kind.value_type) == kind.value_type else made(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        inner = [pa.field(field.name, _plain(field.type), field.nullable) for field in kind]
        return kind if all(a.type == b.type for a, b in zip(inner, kind, strict=True)) else pa.struct(inner)
    return kind
