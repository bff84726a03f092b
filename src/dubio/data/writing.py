"""Writing a table back out, in the format that its extension names, by atomic rename."""

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from dubio.data.arrow import ArrowTable, compute
from dubio.data.formats import SEPARATORS, WRITABLE
from dubio.errors import DubioError
from dubio.files import atomic_path, check_folder
from dubio.showing import FORMULA, NUMBER

_BATCH = 8192


def check_writable(target: Path) -> None:
    """Raises DubioError where `write_frame` could not write, before any work is done; creates nothing."""
    if target.suffix.lower() not in WRITABLE:
        raise DubioError(f"{target}: unknown extension {target.suffix!r}; give one of {', '.join(WRITABLE)}")
    if target.is_dir():
        raise DubioError(f"{target} is a folder; name a file")
    check_folder(target.parent)


def check_fits(frame: ArrowTable, target: Path) -> None:
    """Raises DubioError naming a column that the format of `target` cannot hold; nothing is written."""
    kind = target.suffix.lower()
    for field in frame.schema if kind != ".parquet" else ():
        fits = not _is_bytes(field.type)
        if fits and kind in SEPARATORS:
            try:
                arrow_csv.write_csv(frame.select([field.name]).slice(0, 1), pa.BufferOutputStream())
            except pa.ArrowException:
                fits = False
        if not fits:
            raise DubioError(f"{target}: column {field.name!r} ({field.type}) does not fit a {kind[1:].upper()}; "
                             "write .parquet instead")  # fmt: skip


def without_formulas(frame: ArrowTable) -> ArrowTable:
    """The same rows, with a ' before every text, and name of a column, that a spreadsheet would take for a formula.

    Numbers stay as they are.
    """
    for at, name in enumerate(frame.column_names):
        column = frame.column(at)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            formula = compute.match_substring_regex(column, FORMULA)
            number = compute.match_substring_regex(column, NUMBER)
            escaped = compute.binary_replace_slice(column, 0, 0, "'")
            kept = compute.if_else(compute.and_not(formula, number), escaped, column)
            frame = frame.set_column(at, name, kept)
    return frame.rename_columns([f"'{name}" if re.match(FORMULA, name) else name for name in frame.column_names])


def write_frame(frame: ArrowTable, target: Path) -> None:
    """Writes N rows; raises DubioError on an unknown extension, an unwritable folder, columns that do not fit."""
    write_frames({target: frame})


def write_frames(frames: Mapping[Path, ArrowTable]) -> None:
    """Writes several tables, which appear once all are written; raises DubioError as `write_frame` does."""
    for target, frame in frames.items():
        check_writable(target)
        check_fits(frame, target)
    with ExitStack() as stack:
        for target, frame in frames.items():
            _write(frame, stack.enter_context(atomic_path(target)), target.suffix.lower())


def _write(frame: ArrowTable, path: Path, kind: str) -> None:
    if kind in SEPARATORS:
        arrow_csv.write_csv(frame, path, arrow_csv.WriteOptions(delimiter=SEPARATORS[kind]))
    elif kind == ".parquet":
        parquet.write_table(frame, path, compression="zstd")
    else:
        with path.open("w", encoding="utf-8") as opened:
            for batch in frame.to_batches(max_chunksize=_BATCH):
                opened.writelines(json.dumps(r, ensure_ascii=False, default=str) + "\n" for r in batch.to_pylist())


def _is_bytes(kind: Any) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
