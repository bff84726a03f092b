"""Writing files so that a reader never sees half of one, and hashing them."""

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dubio.errors import DubioError
from dubio.owners import is_gone, read_mark, write_mark
from dubio.safe_reading import open_file

_ROOM = re.compile(r"\.dubio-write-[0-9a-f]{16}")  # a temporary folder beside an output
_OWNER = ".owner"  # the mark in it
_FORGOTTEN = 7 * 24 * 3600.0  # seconds after which a room whose writer cannot be asked after counts as left behind
_SWEEP_EVERY = 600.0  # seconds; listing a folder of 100,000 shards takes a tenth of one
_swept: dict[str, float] = {}  # folder -> when


@contextmanager
def atomic_path(target: Path) -> Generator[Path]:
    """Yields a temporary path near `target`; on success it is synced and renamed onto it, on failure removed.

    The file keeps the mode of the one that it replaces; a new one has the mode that the user's umask says. What killed
    writers have left in the folder is removed on the way. Raises DubioError where it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        room, usual = _claim(target.parent)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or half of a surrogate pair
        raise _unwritable(target, error) from error
    temporary = room / target.name
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(_mode_of(target, usual))
        temporary.replace(target)
    except (OSError, SafetensorError) as error:  # a full disk, mostly
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def open_to_all(folder: Path) -> None:
    """Gives every file below `folder` the mode of a new file: some libraries write for the owner's eyes alone."""
    room, usual = _claim(folder)
    shutil.rmtree(room, ignore_errors=True)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(usual)


def check_folder(folder: Path) -> None:
    """Raises DubioError where no file could be written in `folder`, which need not exist; creates nothing."""
    place = folder
    try:
        os.fsencode(folder)
        while not (place.exists() or place.is_symlink()):
            place = place.parent
        there = place.is_dir()
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from error
    if not there:
        raise DubioError(f"cannot write in {folder}: {place} is not a folder; choose another")
    if not os.access(place, os.W_OK | os.X_OK):
        raise DubioError(f"cannot write in {folder}: {place} is read-only; choose another or change its permissions")


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; raises DubioError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from error


def write_text(target: Path, text: str) -> None:
    """Writes UTF-8 text by atomic rename."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Writes indented JSON by atomic rename; NaN and infinity are refused."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes; raises UnreadableError where there is no file that can be read."""
    with open_file(path) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON: the key of a content-addressed file."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_FULL = ("PytorchStreamWriter", "file write", "(os error ")


@contextmanager
def written_by_others(folder: Path) -> Generator[None]:
    """Around what libraries write below a folder; raises DubioError where that fails: a full disk, mostly."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _unwritable(folder, error) from error
    except Exception as error:  # the writers of torch and of tokenizers have kinds of their own
        told = str(error)
        if isinstance(error, DubioError) or not any(words in told for words in _FULL):
            raise
        raise _unwritable(folder, OSError("the disk is full, or a file would be too large")) from error


def _unwritable(target: Path, error: Exception) -> DubioError:
    reason = getattr(error, "strerror", None) or str(error)
    return DubioError(f"cannot write {target}: {reason}; choose another place or make room")


def _mode_of(target: Path, usual: int) -> int:
    """The mode of the file that is to be replaced, or the usual one; raises OSError where it is no file."""
    try:
        found = target.stat()
    except OSError:
        return usual
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):  # of a folder, the system complains
        raise OSError("it is a device or a pipe, not a file")
    return stat.S_IMODE(found.st_mode) if stat.S_ISREG(found.st_mode) else usual


def _claim(folder: Path) -> tuple[Path, int]:
    """(a new folder inside `folder`, marked as ours; the mode of new files): some writers replace a file they find."""
    room = folder / f".dubio-write-{secrets.token_hex(8)}"
    room.mkdir(mode=0o700)
    try:
        return room, write_mark(room / _OWNER, room.name)
    except OSError:
        shutil.rmtree(room, ignore_errors=True)
        raise


def _sweep(folder: Path) -> None:
    """Removes what writers that are gone have left. Whatever is not certainly theirs stays, and is not opened."""
    key, now = os.path.abspath(folder), time.monotonic()  # noqa: PTH100 - links stay as they are
    if now - _swept.get(key, -_SWEEP_EVERY) < _SWEEP_EVERY:
        return
    _swept[key] = now
    with os.scandir(folder) as entries:
        rooms = [Path(e.path) for e in entries if _ROOM.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    for room in rooms:
        with suppress(OSError):  # another sweeper was faster, or it is another user's
            mark = read_mark(room / _OWNER, room.name)
            if mark is not None and (is_gone(mark) or _age(room) > _FORGOTTEN):
                shutil.rmtree(room, ignore_errors=True)
            elif mark is None and _age(room) > _FORGOTTEN:
                room.rmdir()  # killed before it was marked, and so it is empty; else it stays


def _age(room: Path) -> float:
    """Seconds since anything in it was written."""
    return time.time() - max(path.lstat().st_mtime for path in (room, *room.iterdir()))
