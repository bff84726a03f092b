"""How large a cache of shards may grow: what was not used for longest goes first, and nothing that is still read.

A process that uses a cache holds a shared lock on its folder until it ends, and sets the access time of each shard that
it uses. What it used itself stays. By itself it removes nothing that anybody used within a day; where another process
holds the cache, or locks are not certain (another machine), nothing that was used within a week.
"""

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dubio.errors import DubioError
from dubio.writers import is_local

VARIABLE, DEFAULT = "DUBIO_CACHE_LIMIT", "20GB"
_DAY, _WEEK = 24 * 3600.0, 7 * 24 * 3600.0
_SHARD = re.compile(r"[0-9a-f]{64}\.safetensors")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_MOST_HELD = 64  # folders; a lock costs an open file


@dataclass(frozen=True)
class Shard:
    """A file of the cache: bytes, and when it was last used, in seconds since 1970."""

    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Pruned:
    """What was removed, in shards and bytes; left: bytes that are there still; others: whether some stay for others."""

    shards: int
    size: int
    left: int
    others: bool


class _Held:
    """The folders that this process uses. used: its shards; room: bytes until the limit, when it was last looked at."""

    def __init__(self) -> None:
        self.locks: dict[str, int] = {}
        self.used: dict[str, set[str]] = {}
        self.room: dict[str, int] = {}


_held = _Held()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.locks.clear)  # a child takes locks of its own


def size_of(text: str) -> int | None:
    """Bytes of `5GB`, `500 MB`, `1.5TiB` or a plain number; None for `none`. Raises DubioError on anything else."""
    if text.strip().lower() == "none":
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise DubioError(f"{text!r} is no size; give one such as 5GB, 500MB or 0, or none for no limit")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " "))


def limit() -> int | None:
    """Bytes that a cache may take, by DUBIO_CACHE_LIMIT; None for no limit. Raises DubioError where that is no size."""
    try:
        return size_of(os.environ.get(VARIABLE) or DEFAULT)
    except DubioError as error:
        raise DubioError(f"{VARIABLE}: {error}") from error


def shards_in(folder: Path) -> list[Shard]:
    """The shards of a cache, those that were not used for longest first; nothing else in the folder is looked at."""
    found: list[Shard] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _SHARD.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # another process was faster
                    facts = entry.stat(follow_symlinks=False)
                    found.append(Shard(Path(entry.path), facts.st_size, max(facts.st_atime, facts.st_mtime)))
    return sorted(found, key=lambda shard: (shard.used, shard.path))


def use(shards: Iterable[Path], written: int = 0) -> None:
    """Tells that this process uses the shards, and removes others where `written` bytes more are too many."""
    paths = [*shards]
    for path in paths:
        folder = str(path.parent)
        _hold(folder)
        _held.used.setdefault(folder, set()).add(path.name)
        with suppress(OSError):  # another user's
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    if paths and written:
        folder, most = str(paths[0].parent), limit()
        _held.room[folder] = _held.room.get(folder, 0) - written
        if most is not None and _held.room[folder] < 0:
            _held.room[folder] = most - prune(paths[0].parent, most, at_once=False).left


def prune(folder: Path, most: int, *, at_once: bool = True) -> Pruned:
    """Removes shards until `most` bytes are left, or only such as must stay.

    at_once: also of the last day, where nobody else uses the cache.
    """
    sure = _alone(folder)
    try:
        youngest = time.time() - ((0.0 if at_once else _DAY) if sure else _WEEK)
        own, found = _held.used.get(str(folder), set[str]()), shards_in(folder)
        left, removed, others = sum(shard.size for shard in found), list[Shard](), False
        for shard in found:
            if left <= most:
                break
            if shard.path.name in own or shard.used > youngest:
                others = True
                continue
            with suppress(OSError):
                shard.path.unlink(missing_ok=True)
                removed.append(shard)
                left -= shard.size
        return Pruned(len(removed), sum(shard.size for shard in removed), left, others)
    finally:
        _share(folder)


def _hold(folder: str) -> None:
    if folder in _held.locks:
        return
    while len(_held.locks) >= _MOST_HELD:
        os.close(_held.locks.pop(next(iter(_held.locks))))
    with suppress(ImportError, OSError):
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        _held.locks[folder] = handle
        for _ in range(500):  # while another process makes the cache smaller
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            time.sleep(0.01)


def _alone(folder: Path) -> bool:
    """Whether it is certain that no other process uses the cache; it then waits until `_share`."""
    with suppress(ImportError, OSError):
        import fcntl

        _hold(str(folder))
        fcntl.flock(_held.locks[str(folder)], fcntl.LOCK_EX | fcntl.LOCK_NB)
        return is_local(folder)
    return False


def _share(folder: Path) -> None:
    with suppress(ImportError, OSError, KeyError):
        import fcntl

        fcntl.flock(_held.locks[str(folder)], fcntl.LOCK_SH)
