"""Marks of the process that something temporary belongs to, and whether that process is gone for certain.

A mark is a small JSON file: the machine and its process namespace, the process's id, and when it began, because ids are
used again. It is no lock: some file systems (NFS, Lustre) know locks on one machine only. What was marked on another
machine counts as alive.
"""

import json
import os
import platform
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_KIND = "dubio-owner"
_LARGEST = 4096  # bytes of a mark


def write_mark(path: Path, name: str) -> int:
    """Marks something called `name` as this process's, in a new file; returns the mode that a new file has here.

    Raises OSError where the file is there already, or cannot be written.
    """
    mark = {"kind": _KIND, "name": name, "place": _place(), "pid": os.getpid(), "began": _began(os.getpid())}
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.write(handle, json.dumps(mark).encode())
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)


def read_mark(path: Path, name: str) -> dict[str, Any] | None:
    """The mark that was written for `name`; None where it is not certainly one. Links and pipes are not opened."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return None
        mark = json.loads(path.read_bytes())
        ours = mark["kind"] == _KIND and mark["name"] == name
        return mark if ours and isinstance(mark["place"], str) and type(mark["pid"]) is int else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def is_gone(mark: dict[str, Any]) -> bool:
    """Whether the process ran on this machine, as far as this one can see, and has ended."""
    if mark["place"] != _place() or mark["pid"] <= 0:
        return False
    try:
        os.kill(mark["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, or no id at all: asked below
        pass
    began = _began(mark["pid"])
    return began is not None and mark.get("began") is not None and began != mark["began"]


@cache
def _place() -> str:
    """The machine since it was started, and how process ids are counted here: containers have counts of their own."""
    parts = [platform.node()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()]
        parts += [str(Path("/proc/self/ns/pid").readlink())]
    return " ".join(parts)


def _began(pid: int) -> int | None:
    """When a process began, in ticks since the machine was started, -1 once it has ended; None where nobody says."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])  # ended, but not waited for by its parent
    except (OSError, ValueError, IndexError):
        return None
