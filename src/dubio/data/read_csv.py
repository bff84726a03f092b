"""CSV through Arrow, and, where Arrow refuses, a second look that names the line.

Every column is read as text, so that an identifier such as 007 is written back as it came.
"""

import codecs
import csv
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import csv as arrow_csv

from dubio.data.arrow import ArrowTable
from dubio.errors import DubioError

_BLOCK = 1 << 24  # bytes read at a time: also the longest row that Arrow accepts


def read_csv(path: Path) -> ArrowTable:
    """All columns as large_string. Raises DubioError on bad bytes, ragged rows, open quotes, no or doubled header."""
    header = _header(path)
    options = arrow_csv.ConvertOptions(
        column_types={name: pa.large_string() for name in header}, strings_can_be_null=False
    )
    parsing = arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(header) > 1)
    try:
        frame = arrow_csv.read_csv(path, arrow_csv.ReadOptions(block_size=_BLOCK), parsing, options)
    except (pa.ArrowException, OSError) as error:
        raise _diagnose(path, header, error) from error
    if frame.num_rows and _open_quote(path, frame.column(frame.num_columns - 1)[frame.num_rows - 1].as_py()):
        raise DubioError(f"{path}: {csv_place(path, frame.num_rows - 1)}: a quote is opened and never closed; close it")
    return frame


def csv_place(path: Path, row: int) -> str:
    """`line L` (1-based) where data row `row` (0-based) begins; quoted fields may span lines."""
    with _rows(path) as rows:
        for number, (line, _) in enumerate(rows):
            if number == row + 1:  # row 0 of the file is the header
                return f"line {line}"
    return f"row {row + 1}"


@contextmanager
def _rows(path: Path) -> Generator[Generator[tuple[int, Sequence[str]]]]:
    """Yields (first line, fields) of header and rows as Arrow counts them: blank lines are rows in one-column files."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened)

            def numbered() -> Generator[tuple[int, Sequence[str]]]:
                columns, before = 0, 0
                for fields in reader:
                    if fields or columns == 1:
                        yield before + 1, fields or [""]
                    columns, before = columns or len(fields), reader.line_num

            yield numbered()
    finally:
        csv.field_size_limit(limit)


def _header(path: Path) -> list[str]:
    try:
        with _rows(path) as rows:
            _, header = next(rows, (0, []))
    except UnicodeDecodeError as error:  # the reader decodes ahead: the bad byte may lie well below the header
        raise _diagnose(path, [], error) from error
    if not header:
        raise DubioError(f"{path}: zero rows: the file is empty; give a header line and rows")
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise DubioError(f"{path}: line 1: column name {doubled[0]!r} appears twice; rename one")
    return list(header)


def _diagnose(path: Path, header: Sequence[str], error: Exception) -> DubioError:
    """The most exact account of why the file cannot be read."""
    bad = bad_byte(path)
    if bad is not None:
        return DubioError(f"{path}: line {bad[0]}: byte {bad[1]} is not UTF-8; save the file as UTF-8")
    with _rows(path) as rows:
        start = next(rows, (1, header))[0]
        for line, fields in rows:
            if len(fields) != len(header):
                opened = "; a quote may be opened there and never closed" if any("\n" in f for f in fields) else ""
                return DubioError(
                    f"{path}: line {line} has {len(fields)} fields, the header has {len(header)}; "
                    f"quote texts that hold commas{opened}"
                )
            start = line
    reason = str(error).splitlines()[0][:200]
    return DubioError(f"{path}: near line {start}: not readable as CSV ({reason}); check its quotes")


def bad_byte(path: Path) -> tuple[int, int] | None:
    """(line, byte offset) of the first byte that is not UTF-8: line from 1, offset from 0; None where all are."""
    decoder, offset, lines = codecs.getincrementaldecoder("utf-8")(), 0, 1
    with path.open("rb") as opened:
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


def _open_quote(path: Path, last: str) -> bool:
    """True where the file ends inside the quotes of its last field, which Arrow accepts in silence."""
    escaped = ('"' + last.replace('"', '""')).encode()
    with path.open("rb") as opened:
        opened.seek(max(0, path.stat().st_size - len(escaped) - 1))
        tail = opened.read()
    return tail.endswith(escaped) and not tail.endswith(escaped + b'"')
