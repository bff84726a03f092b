"""Writing files so that a reader never sees half of one, and hashing them."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dubio.errors import DubioError

_MARK = ".dubio-"


@contextmanager
def atomic_path(target: Path) -> Generator[Path]:
    """Yields a temporary path near `target`; on success it is synced and renamed onto it, on failure removed.

    What killed writers have left in the folder is removed on the way. Raises DubioError where it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        room, lock = _claim(target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    temporary = room / target.name
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except (OSError, SafetensorError) as error:  # a full disk, mostly
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def check_folder(folder: Path) -> None:
    """Raises DubioError where no file could be written in `folder`, which need not exist; creates nothing."""
    place = folder
    try:
        while not (place.exists() or place.is_symlink()):
            place = place.parent
        if not place.is_dir():
            raise DubioError(f"cannot write in {folder}: {place} is not a folder; choose another")
    except OSError as error:
        raise _unwritable(folder, error) from error
    if not os.access(place, os.W_OK | os.X_OK):
        raise DubioError(f"cannot write in {folder}: {place} is read-only; choose another or change its permissions")


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; raises DubioError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_text(target: Path, text: str) -> None:
    """Writes UTF-8 text by atomic rename."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Writes indented JSON by atomic rename; NaN and infinity are refused."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON: the key of a content-addressed file."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _unwritable(target: Path, error: Exception) -> DubioError:
    reason = getattr(error, "strerror", None) or str(error)
    return DubioError(f"cannot write {target}: {reason}; choose another place or make room")


def _claim(folder: Path) -> tuple[Path, int | None]:
    """(a new folder inside `folder`, its lock): a folder, because some writers put a new file in place of their own."""
    while True:
        room = Path(tempfile.mkdtemp(prefix=_MARK, dir=folder))
        with suppress(BlockingIOError, FileNotFoundError):  # swept in the moment before the lock: take another
            lock = _lock(room)
            if room.is_dir():
                return room, lock
            if lock is not None:
                os.close(lock)


def _sweep(folder: Path) -> None:
    """Removes what writers that are gone have left: nobody holds its lock."""
    for room in folder.glob(f"{_MARK}*"):
        with suppress(OSError):  # its writer lives, or another sweeper was faster
            lock = _lock(room)
            if lock is not None:
                shutil.rmtree(room, ignore_errors=True)
                os.close(lock)


def _lock(room: Path) -> int | None:
    """A handle that locks the folder until it is closed, at the latest when the process ends, however it ends.

    None where the system or the file system knows no locks; raises BlockingIOError where another holds it.
    """
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(room, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return handle
