"""From a path or a hub name to an Arrow table with every column as it came, and a way to say where a row lies."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from dubio.data.arrow import ArrowTable, computable
from dubio.data.formats import READABLE, SEPARATORS, format_of
from dubio.data.memory import holds_rows, holds_table, row_place, rows_in_memory, table_in_memory
from dubio.data.read_csv import csv_place, read_csv
from dubio.data.read_jsonl import jsonl_place, read_jsonl
from dubio.errors import DubioError
from dubio.safe_reading import MEMORY, MissingFileError, UnreadableError, check_file, short

HUB = "hub:"
IN_MEMORY = "the table in memory"


@dataclass(frozen=True)
class Source:
    """frame: N rows as read. place: row (0-based) -> `line 7` or `row 7` (1-based), slow, for messages."""

    name: str
    frame: ArrowTable
    place: Callable[[int], str]


def read_source(where: Any) -> Source:
    """Reads a .csv, .tsv, .jsonl (.ndjson) or .parquet file, `hub:NAME[/CONFIG]:SPLIT`, or a table in memory.

    Files of text may be packed by gzip (.csv.gz).

    Raises DubioError on a missing file, a folder, an unknown extension, a damaged file, doubled columns, zero rows, and
    on what is no table.
    """
    if isinstance(where, Source):
        source = where
    elif isinstance(where, str) and where.startswith(HUB):
        source = Source(where, _read_hub(where), row_place)
    elif isinstance(where, str | PathLike):
        source = _read_file(Path(where))
    else:
        source = Source(IN_MEMORY, _read_memory(where), row_place)
    names = source.frame.column_names
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise DubioError(f"{source.name}: column name {short(doubled)} appears twice; rename one")
    if source.frame.num_rows == 0:
        raise DubioError(f"{source.name}: zero rows; give a file with at least one")
    return source


def _read_memory(rows: Any) -> ArrowTable:
    if holds_table(rows):
        return table_in_memory(rows, IN_MEMORY)
    mappings, again = holds_rows(rows)
    if mappings:
        return rows_in_memory(again, IN_MEMORY)
    raise DubioError(
        f"a table is a file, a hub data set, a data frame or a list of mappings, not a {type(rows).__name__}; "
        "for a list of texts use table_of(texts, labels)"
    )


def _read_file(path: Path) -> Source:
    name = f"name a file ({READABLE})"
    if os.path.isdir(path):  # noqa: PTH112 (the path's own raises on a name too long)
        raise DubioError(f"{path} is a folder; {name}")
    whole = str(path)
    shown = whole if whole.isprintable() and len(whole) <= 200 else short(whole)
    try:
        path = path.expanduser()
        check_file(path, remedy=name)
    except MissingFileError as error:
        raise DubioError(f"{shown}: {_missing(path)}") from error
    except UnreadableError as error:
        raise DubioError(f"{shown} {error.reason}; {name}, or give a list of texts") from error
    except RuntimeError as error:  # a home that is nobody's
        raise DubioError(f"{shown}: no such file; check the path") from error
    kind = format_of(path)
    try:
        if kind in SEPARATORS:
            return Source(str(path), read_csv(path), lambda row: csv_place(path, row))
        if kind in (".jsonl", ".ndjson"):
            return Source(str(path), read_jsonl(path), lambda row: jsonl_place(path, row))
        return Source(str(path), _read_parquet(path), row_place)
    except OSError as error:
        raise DubioError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error


def _missing(path: Path) -> str:
    """What to say of a file that is not there: of its folder, or of what else a name without extension could mean."""
    try:
        format_of(path)
    except DubioError:
        pass
    else:
        there = path.parent.is_dir()
        return "no such file; check the path" if there else f"no such folder {path.parent}; check the path"
    return f"no such file; check the path (hub data sets: {HUB}NAME[/CONFIG]:SPLIT; texts: a list, [text, ...])"


def _read_parquet(path: Path) -> ArrowTable:
    try:
        with parquet.ParquetFile(path) as opened:
            found = opened.metadata  # a run of equal values is a few bytes on disk, however long
            size = max(
                found.num_rows * found.num_columns * 8,
                sum(found.row_group(i).total_byte_size for i in range(found.num_row_groups)),
            )
            if size > MEMORY:
                raise ValueError(f"its {found.num_rows} rows do not fit into memory")
            frame = opened.read()
        frame.validate(full=True)  # a flipped byte may leave a page readable and its text not UTF-8
    except PermissionError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0][:160]
        raise DubioError(f"{path}: damaged or truncated Parquet ({reason}); write or copy it again") from error
    return computable(frame)


def _read_hub(where: str) -> ArrowTable:
    """`hub:NAME[/CONFIG]:SPLIT`; `a/b` is tried as the data set a/b first, then as data set a, config b."""
    name, _, split = where.removeprefix(HUB).partition(":")
    parts = name.split("/")
    if not split or not all(parts) or len(parts) > 3:
        raise DubioError(f"{where}: expected {HUB}NAME[/CONFIG]:SPLIT, such as {HUB}nyu-mll/glue/sst2:validation")
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise DubioError("hub data sets need the datasets package: pip install 'dubio[hub]'") from error
    readings: list[tuple[str, str | None]] = [(name, None)] if len(parts) < 3 else []
    if len(parts) > 1:
        readings.append(("/".join(parts[:-1]), parts[-1]))
    missing: Exception | None = None
    for data_set, config in readings:
        try:
            return datasets.load_dataset(data_set, config, split=split).with_format("arrow")[:]
        except FileNotFoundError as error:  # the data set is not there under this reading
            missing = error
        except Exception as error:  # network, split, config: many types, none of them ours
            raise DubioError(f"{where}: {_first_line(error)}; check name, config, split and network") from error
    raise DubioError(f"{where}: no such data set ({_first_line(missing)}); check the name") from missing


def _first_line(error: Exception | None) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
