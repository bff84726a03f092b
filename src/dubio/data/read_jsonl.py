"""JSON lines, one object a line, by Python's parser: it names the line of every fault and leaves dates as text."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dubio.data.arrow import ArrowTable
from dubio.data.formats import open_bytes
from dubio.data.objects import columns_of
from dubio.errors import DubioError
from dubio.safe_reading import check_value, short

_BATCH = 65536  # lines held as Python objects at a time


class _DoubledKeyError(ValueError):
    """A key appears twice in one object."""


def read_jsonl(path: Path) -> ArrowTable:
    """One row a non-blank line; a key that a line lacks is null there.

    Raises DubioError naming the line that is not UTF-8, not an object, doubles a key, or changes a column's type.
    """
    parts: list[ArrowTable] = []
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    with open_bytes(path) as opened:
        for number, raw in enumerate(opened, start=1):
            if raw.strip() == b"":
                continue
            rows.append(_parse(path, number, raw))
            lines.append(number)
            if len(rows) == _BATCH:
                parts.append(columns_of(str(path), rows, _placed(lines)))
                rows, lines = [], []
    if rows:
        parts.append(columns_of(str(path), rows, _placed(lines)))
    return _join(path, parts)


def jsonl_place(path: Path, row: int) -> str:
    """`line L` (1-based) of data row `row` (0-based); blank lines are not rows."""
    with open_bytes(path) as opened:
        filled = (number for number, raw in enumerate(opened, start=1) if raw.strip() != b"")
        for index, number in enumerate(filled):
            if index == row:
                return f"line {number}"
    return f"row {row + 1}"


def _placed(lines: Sequence[int]) -> Callable[[int], str]:
    return lambda row: f"line {lines[row]}"


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(items)
    if len(made) != len(items):
        names = [name for name, _ in items]
        raise _DoubledKeyError(next(name for name in names if names.count(name) > 1))
    return made


def _parse(path: Path, number: int, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"), object_pairs_hook=_unique)
        if isinstance(value, dict) and any(isinstance(part, list | dict) for part in value.values()):
            check_value(value, finite=False)
    except UnicodeDecodeError as error:
        raise DubioError(f"{path}: line {number}: its byte {error.start} is not UTF-8; save as UTF-8") from error
    except _DoubledKeyError as error:
        raise DubioError(f"{path}: line {number}: key {short(str(error))} appears twice; rename one") from error
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else getattr(error, "msg", str(error)[:80])
        raise DubioError(f"{path}: line {number} is not JSON ({reason}); give one object a line") from error
    if not isinstance(value, dict):
        raise DubioError(f"{path}: line {number} is not a JSON object; give one object a line")
    return value  # pyright: ignore[reportUnknownVariableType]


def _join(path: Path, parts: list[ArrowTable]) -> ArrowTable:
    if not parts:
        return pa.table({})
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0][:200]
        raise DubioError(f"{path}: a column changes its type between lines ({reason}); use one type") from error
