"""Several processes that write one set of files into one folder: one after another, and nothing is lost between them.

In: a folder that a description (a manifest) closes: it names the files that belong together and is renamed into place
last. Out: a turn to write, and a tidying that removes what no description names any more. Where locks hold on one
machine only, another's writers are not waited for; then only what has been left alone for a day is removed.
"""

import os
import re
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from dubio.files import make_folder

# File systems of this machine alone, on which a lock holds for everybody who can see the file.
_LOCAL = frozenset({"apfs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "overlay", "tmpfs", "xfs", "zfs"})
_PATIENCE = 60.0  # seconds that a turn is waited for: who holds it longer hangs, and files that appear whole do no harm
_QUIET = 24 * 3600.0  # seconds
_NAMED = re.compile(r"[\w.]+-[0-9a-f]{12}\.safetensors")  # our files end in a piece of their hash


@contextmanager
def turn(folder: Path) -> Generator[bool]:
    """Waits until no other process or thread writes into the folder; yields whether that is certain.

    Raises DubioError where the folder cannot be made.
    """
    make_folder(folder)
    handle = None
    with suppress(OSError):  # Windows opens no folders, and some may be written but not read
        handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle is not None and _locked(handle) and is_local(folder)
    finally:
        if handle is not None:
            os.close(handle)


def stamp(path: Path) -> tuple[int, int] | None:
    """Which writing of the file stands there: the same bytes may have come and gone in between."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def tidy(folder: Path, named: Iterable[str], written: Path, *, certain: bool) -> None:
    """Removes files of earlier writings, by their names; all others stay. named: what the description names.

    written: the description. certain: whether nobody else is writing; else what is a day older than it alone goes.
    """
    kept, now = {*named}, written.stat().st_mtime  # by the clock of the file system
    for path in folder.glob("*.safetensors"):
        if path.name in kept or not _NAMED.fullmatch(path.name):
            continue
        with suppress(OSError):
            if certain or now - path.lstat().st_mtime > _QUIET:
                path.unlink(missing_ok=True)


def _locked(handle: int) -> bool:
    """Whether the folder is ours now; False where the system knows no locks, or another has it for too long."""
    try:
        import fcntl
    except ImportError:
        return False
    start = time.monotonic()
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - start > _PATIENCE:
                return False
            time.sleep(0.01)
        except OSError:
            return False
        else:
            return True


def is_local(folder: Path) -> bool:
    """Whether the folder lies on a disk of this machine, as far as the system tells."""
    try:
        table = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return os.name == "posix" and not Path("/proc").exists()  # a Mac, where a share is seldom the place of a model
    whole = str(folder.resolve())
    best, kind = "", ""
    for line in table.splitlines():
        _, place, found, *_ = line.split(" ")
        place = place.replace("\\040", " ").rstrip("/")
        if (whole == place or whole.startswith(f"{place}/")) and len(place) >= len(best):
            best, kind = place, found
    return kind in _LOCAL
