"""CSV as RFC 4180 has it, by Python's strict parser: a file that it refuses is refused here, with the line.

TSV (`.tsv`) is the same with tabs for commas, as spreadsheets and pandas write it: a text that holds a tab, a quote or
a line end is quoted.

A lenient parser goes on where a quote is astray, and swallows the rows up to the next one. Every column is read as
text, so that an identifier such as 007 is written back as it came.
"""

import codecs
import csv
import io
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa

from dubio.data.arrow import ArrowTable
from dubio.data.formats import SEPARATORS, format_of, open_bytes
from dubio.errors import DubioError
from dubio.safe_reading import short

_BATCH = 65536  # rows held as Python objects at a time
_BLOCK = 1 << 24  # bytes looked through at a time
_SIGNS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_PACKED = b"\x1f\x8b"  # how a gzip file begins
_Row = tuple[int, list[str]]


def read_csv(path: Path) -> ArrowTable:
    """All columns as large_string; blank lines are no rows, but in a file of one column.

    Raises DubioError naming the line: a quote that is astray or never closed, a row of too few or too many fields, NUL,
    bytes that are no UTF-8, a header that is missing, doubled, or of another separator than the extension says.
    """
    try:
        with _rows(path) as rows:
            header = _header(path, rows)
            parts: list[ArrowTable] = []
            while batch := list(islice(rows, _BATCH)):
                parts.append(_columns(header, batch))
    except UnicodeDecodeError as error:
        with open_bytes(path) as opened:
            packed = opened.read(len(_PACKED)) == _PACKED
        if packed:
            raise DubioError(f"{path} is packed by gzip; name it {path.name}.gz") from error
        line, byte = bad_byte(path) or (1, error.start)
        raise DubioError(f"{path}: line {line}: byte {byte} is not UTF-8; save the file as UTF-8") from error
    return pa.concat_tables(parts) if parts else _columns(header, [])


def csv_place(path: Path, row: int) -> str:
    """`line L` (1-based) where data row `row` (0-based) begins; quoted fields may span lines."""
    with _rows(path) as rows:
        for line, _ in islice(rows, row + 1, None):  # row 0 of the file is the header
            return f"line {line}"
    return f"row {row + 1}"


@contextmanager
def _rows(path: Path) -> Generator[Iterator[_Row]]:
    """(first line, fields) of header and rows; blank lines are rows of one-column files alone."""
    with _any_length(), io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as opened:
        yield _parsed(path, opened)


def _parsed(path: Path, opened: io.TextIOWrapper) -> Iterator[_Row]:
    separator = SEPARATORS[format_of(path)]
    reader = csv.reader(_without_nul(path, opened), strict=True, delimiter=separator)
    columns, before = 0, 0
    try:
        for fields in reader:
            if columns and fields and len(fields) != columns:
                astray = "; a quote may be opened there and never closed" if _lines(fields) else ""
                raise DubioError(
                    f"{path}: line {before + 1} has {len(fields)} fields, the header has {columns}; quote texts that "
                    f"hold {_SIGNS[separator]}{astray}"
                )
            if fields or columns == 1:
                yield before + 1, fields or [""]
            columns, before = columns or len(fields), reader.line_num
    except csv.Error as error:
        start, line = before + 1, reader.line_num
        if "unexpected end of data" in str(error):
            raise DubioError(f"{path}: line {start}: a quote is opened and never closed; close it") from error
        if "expected after" in str(error):
            where = "" if line == start else f" (opened on line {start})"
            raise DubioError(
                f"{path}: line {line}: text follows a closing quote{where}; in a quoted text write each quote twice, "
                'as in "He said ""hi"""'
            ) from error
        kind = format_of(path)[1:].upper()
        raise DubioError(f"{path}: line {line}: not readable as {kind} ({error}); check its quotes") from error


def _lines(fields: Sequence[str]) -> bool:
    return any("\n" in field for field in fields)


def _without_nul(path: Path, lines: io.TextIOWrapper) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise DubioError(f"{path}: line {number} holds a NUL character; save the file as UTF-8 text")
        yield line


def _header(path: Path, rows: Iterator[_Row]) -> list[str]:
    line, header = next(rows, (0, []))
    if not header:
        raise DubioError(f"{path}: zero rows: the file is empty; give a header line and rows")
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise DubioError(f"{path}: line {line}: column name {short(doubled[0])} appears twice; rename one")
    own = SEPARATORS[format_of(path)]
    other = next((sign for sign in _SIGNS if sign != own and sign in header[0]), None)
    if len(header) == 1 and other is not None:
        named = next((f", or name the file {kind}" for kind, sign in SEPARATORS.items() if sign == other), "")
        raise DubioError(
            f"{path}: line {line}: the columns are separated by {_SIGNS[other]}; separate them by {_SIGNS[own]}{named}"
        )
    return header


def _columns(header: Sequence[str], rows: Sequence[_Row]) -> ArrowTable:
    columns: Sequence[Sequence[str]] = [*zip(*(fields for _, fields in rows), strict=True)] or [()] * len(header)
    return pa.table([pa.array(column, pa.large_string()) for column in columns], names=list(header))


_readers, _limit, _lock = 0, 0, threading.Lock()


@contextmanager
def _any_length() -> Generator[None]:
    """No limit to a field while anyone reads: the module's own, 131,072 characters, is one for all threads."""
    global _readers, _limit
    with _lock:
        if _readers == 0:
            _limit = csv.field_size_limit(sys.maxsize)
        _readers += 1
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0:
                csv.field_size_limit(_limit)


def bad_byte(path: Path) -> tuple[int, int] | None:
    """(line, byte offset) of the first byte that is not UTF-8: line from 1, offset from 0; None where all are."""
    decoder, offset, lines = codecs.getincrementaldecoder("utf-8")(), 0, 1
    with open_bytes(path) as opened:
        while True:
            block = opened.read(_BLOCK)
            held = len(decoder.getstate()[0])  # bytes of a character that the last block cut in two
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return lines + block[: max(error.start - held, 0)].count(b"\n"), offset - held + error.start
            if not block:
                return None
            offset, lines = offset + len(block), lines + block.count(b"\n")
