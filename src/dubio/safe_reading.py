"""The one door by which dubio reads files that others wrote: adapters, artifacts, records, prompts, tables.

A path is looked at before it is opened (a named pipe would hold the program for ever), its size before it is read, and
what was read before it is used: UTF-8, JSON of bounded depth, finite numbers, no half of a surrogate pair. Whatever
fails is one line: the path, what is wrong, what to do.
"""

import json
import math
import os
import reprlib
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from dubio.errors import DubioError

# The most bytes of a file of settings (adapter_config.json, a record, a prompt), of a manifest or outcome with long
# lists, and of one that fills memory at most (weights, tables): what a person or a program may well have written.
SETTINGS, FACTS = 1 << 24, 1 << 28
MEMORY = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if hasattr(os, "sysconf") else 1 << 40
DEEPEST = 100  # lists and objects inside one another
_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip
_PIECE = 1 << 20  # bytes at a time of a file that does not tell its length
_REMEDY = "restore the file or make it again"


class UnreadableError(DubioError):
    """A file that must not be read, or that holds something else than it should. reason: without path and remedy."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class MissingFileError(UnreadableError):
    """There is no such file."""


def unreadable(path: str | Path, reason: str, remedy: str = _REMEDY) -> UnreadableError:
    """The error that says in one line which file is not read, why, and what to do."""
    return UnreadableError(f"{path} {reason}; {remedy}", reason)


def check_file(path: str | Path, *, limit: int = MEMORY, remedy: str = _REMEDY) -> int:
    """Bytes of a regular file, which is not opened, so that this never waits.

    Raises MissingFileError where there is nothing, UnreadableError where there is a folder, pipe, device, socket, a
    link to nothing, a name that no file can have, or more than `limit` bytes.
    """
    try:
        found = Path(path).stat()
    except FileNotFoundError as error:
        if Path(path).is_symlink():
            raise unreadable(path, "is a link to nothing", remedy) from error
        raise MissingFileError(f"there is no file {path}; {remedy}", "is missing") from error
    except OSError as error:
        raise unreadable(path, f"cannot be read ({error.strerror})", remedy) from error
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise unreadable(repr(str(path)), "is no name of a file", remedy) from error
    _check(path, found, limit, remedy)
    return found.st_size


def open_file(path: str | Path, *, limit: int = MEMORY, remedy: str = _REMEDY) -> BufferedReader:
    """A regular file, opened for reading bytes; raises as `check_file`, or UnreadableError where it may not be read."""
    check_file(path, limit=limit, remedy=remedy)
    try:
        # It may have been replaced since it was looked at: do not wait for whoever writes into a pipe.
        opened = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as error:
        raise unreadable(path, f"cannot be read ({error.strerror})", remedy) from error
    try:
        _check(path, os.fstat(opened.fileno()), limit, remedy)
    except UnreadableError:
        opened.close()
        raise
    return opened


def read_bytes(path: str | Path, *, limit: int = SETTINGS, remedy: str = _REMEDY) -> bytes:
    """The whole file, at most `limit` bytes; raises UnreadableError as `open_file`."""
    with open_file(path, limit=limit, remedy=remedy) as opened:
        try:
            data = opened.read(os.fstat(opened.fileno()).st_size + 1)  # not limit + 1: so much would be reserved
            while len(data) <= limit and (more := opened.read(min(_PIECE, limit + 1 - len(data)))):
                data += more
        except (OSError, MemoryError) as error:
            raise unreadable(path, f"cannot be read ({type(error).__name__})", remedy) from error
    if len(data) > limit:  # files of /proc say that they are empty
        raise unreadable(path, f"is longer than {_size(limit)}", remedy)
    return data


def read_text(path: str | Path, *, limit: int = SETTINGS, remedy: str = _REMEDY) -> str:
    """The whole file as UTF-8; raises UnreadableError where it is something else, or too long."""
    data = read_bytes(path, limit=limit, remedy=remedy)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise unreadable(path, f"is not UTF-8 text (at byte {error.start})", remedy) from error


def read_json(path: str | Path, *, limit: int = SETTINGS, finite: bool = True, remedy: str = _REMEDY) -> Any:
    """What a JSON file holds; raises UnreadableError as `read_text`, or as `parse_json` refuses the text."""
    return parse_json(read_text(path, limit=limit, remedy=remedy), path, finite=finite, remedy=remedy)


def read_object(
    path: str | Path, *, limit: int = SETTINGS, finite: bool = True, remedy: str = _REMEDY
) -> dict[str, Any]:  # fmt: skip
    """As `read_json`, of a file that must hold a JSON object."""
    value = read_json(path, limit=limit, finite=finite, remedy=remedy)
    if not isinstance(value, dict):
        raise unreadable(path, "is not a JSON object", remedy)
    return value  # pyright: ignore[reportUnknownVariableType]


def parse_json(text: str, path: str | Path, *, finite: bool = True, remedy: str = _REMEDY) -> Any:
    """JSON without halves of surrogate pairs, at most `DEEPEST` deep, and without NaN or infinity where `finite`.

    path: for the message. Raises UnreadableError otherwise.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite) if finite else json.loads(text)
        check_value(value, finite=finite)
    except RecursionError as error:
        raise unreadable(path, f"is nested more than {DEEPEST} deep", remedy) from error
    except ValueError as error:
        told = str(error) if isinstance(error, _OddError) else f"is not readable JSON ({short(str(error))})"
        raise unreadable(path, told, remedy) from error
    return value


def check_value(value: Any, *, finite: bool = True) -> None:
    """Raises ValueError, what is wrong, on values nested too deep, not to be written, or not finite if `finite`."""
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo:
        found, depth = todo.pop()
        if isinstance(found, dict | list):
            if depth > DEEPEST:
                raise _OddError(f"is nested more than {DEEPEST} deep")
            todo += [(part, depth + 1) for part in _parts(found)]
        elif isinstance(found, str) and not found.isascii():
            try:
                found.encode()
            except UnicodeEncodeError as error:
                raise _OddError(f"holds half of a surrogate pair, in {short(found)}") from error
        elif finite and isinstance(found, float) and not math.isfinite(found):
            raise _OddError("holds a number that is not finite")
        elif isinstance(found, int) and found.bit_length() > 1000:  # which no float can hold
            raise _OddError("holds a number that is too large to reckon with")


def short(value: Any, width: int = 60) -> str:
    """A value's repr for a message: one line, cut to about `width` characters, however large the value is."""
    if isinstance(value, str):
        return repr(value if len(value) <= width else value[:width] + "…")
    teller = reprlib.Repr()
    teller.maxlevel, teller.maxother, teller.maxstring, teller.maxlong = 3, width, width, width
    try:
        told = " ".join(teller.repr(value[:width] if isinstance(value, bytes) else value).split())
    except ValueError:  # a whole number of more digits than Python prints
        return "a very large number"
    return told if len(told) <= width else told[:width] + "…"


class _OddError(ValueError):
    """Says what is wrong with a value, as the rest of a line that begins with a path."""


def _parts(found: Any) -> Iterator[Any]:
    yield from found
    if isinstance(found, dict):
        yield from found.values()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _check(path: str | Path, found: os.stat_result, limit: int, remedy: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "something else")
        raise unreadable(path, f"is {kind}, not a file", remedy)
    if found.st_size > limit:
        raise unreadable(path, f"has {_size(found.st_size)}, and at most {_size(limit)} are read", remedy)


def _size(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


def _refuse(number: str) -> NoReturn:
    raise _OddError(f"holds {short(number)}, which is no number to reckon with")
