"""Writing files so that a reader never sees half of one, and hashing them."""

import hashlib
import json
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dubio.errors import DubioError

_MARK, _TAIL = ".dubio-", ".part"


@contextmanager
def atomic_path(target: Path) -> Generator[Path]:
    """Yields a temporary path beside `target`; on success it is synced and renamed onto it, on failure removed.

    What killed writers have left in the folder is removed on the way. Raises DubioError where it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        handle, temporary = _claim(target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except (OSError, SafetensorError) as error:  # a full disk, mostly
        raise _unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


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


def _claim(folder: Path) -> tuple[int, Path]:
    """An open, locked temporary file: (its handle, its path). The lock ends with the process, however it ends."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_MARK, suffix=_TAIL, dir=folder)
        _lock(handle)
        if os.fstat(handle).st_nlink:  # nobody swept it in the moment before the lock
            return handle, Path(name)
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Removes temporary files whose writers are gone: nobody holds their lock."""
    for path in folder.glob(f"{_MARK}*{_TAIL}"):
        with suppress(OSError), path.open("r+b") as opened:  # an error: another sweeper was faster
            if _lock(opened.fileno()):
                path.unlink(missing_ok=True)


def _lock(handle: int) -> bool:
    """Whether the file is now locked by this handle; False too where the system or file system knows no locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
