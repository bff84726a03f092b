"""The folder of a grid's steps: one folder a step, named by its key, finished when `step.json` lies in it.

A step writes what it likes into its own folder, resumably; `step.json` comes last, by atomic rename. So a killed step
is unfinished and goes on from what lies there, and a finished one is never done again, by whichever grid needs it, as
long as its files are there. A failed step leaves `failed.json` with its error, and is tried again by the next run. A
lock keeps two runs apart.
"""

import os
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dubio.files import make_folder, sha256_file, write_json
from dubio.safe_reading import FACTS, MissingFileError, read_object

DONE, FAILED, COUNT, _LOCK = "step.json", "failed.json", "times", ".lock"


@dataclass(frozen=True)
class StepStore:
    """Steps under `root`."""

    root: Path

    def folder(self, kind: str, key: str) -> Path:
        """Where a step's files lie."""
        return self.root / kind / key[:20]

    def record(self, kind: str, key: str) -> dict[str, Any] | None:
        """What a finished step has told, or None."""
        return _read(self.folder(kind, key) / DONE, ("seconds", "told"))

    def failure(self, kind: str, key: str) -> dict[str, Any] | None:
        """The error of a step that failed when it was last tried, or None."""
        return _read(self.folder(kind, key) / FAILED, ("error",))

    def finish(self, kind: str, key: str, record: Mapping[str, Any]) -> None:
        """Marks a step as finished, with the SHA-256 of each of its files."""
        folder = self.folder(kind, key)
        (folder / FAILED).unlink(missing_ok=True)
        write_json(
            folder / DONE, {**record, "files": {name: sha256_file(path) for name, path in _files(folder).items()}}
        )

    def lost(self, kind: str, key: str) -> bool:
        """Whether a file of a finished step is gone or was changed since; it then begins from nothing again."""
        folder, record = self.folder(kind, key), self.record(kind, key)
        now = _files(folder)
        known: dict[str, int | str] = {} if record is None else record.get("files", {})
        if all(name in now and _is_as(now[name], was) for name, was in known.items()):
            return False
        self.reopen(kind, key)
        for path in folder.iterdir():  # a step goes on from what lies there, damaged or not
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (COUNT, _LOCK):
                path.unlink(missing_ok=True)
        return True

    def reopen(self, kind: str, key: str) -> None:
        """A finished step is unfinished from now on."""
        _put_aside(self.folder(kind, key) / DONE)

    def fail(self, kind: str, key: str, record: Mapping[str, Any]) -> None:
        """Records an error."""
        write_json(self.folder(kind, key) / FAILED, dict(record))

    @contextmanager
    def claim(self, kind: str, key: str) -> Generator[Path]:
        """The step's folder, ours alone until the end, however this process ends; waits for another that has it."""
        folder = self.folder(kind, key)
        make_folder(folder)
        with _locked(folder / _LOCK):
            yield folder

    @contextmanager
    def alone(self, name: str) -> Generator[None]:
        """A lock by this name, ours alone until the end."""
        make_folder(self.root)
        with _locked(self.root / f".{name}.lock"):
            yield

    def tried(self, kind: str, key: str) -> None:
        """Counts a try, so that it can be shown that no finished step is done again."""
        with (self.folder(kind, key) / COUNT).open("a", encoding="utf-8") as file:
            file.write(f"{time.time():.0f}\n")

    def tries(self, kind: str, key: str) -> int:
        """How often a step was begun."""
        path = self.folder(kind, key) / COUNT
        return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """An exclusive lock on a file, where the system knows locks."""
    with path.open("a") as file:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path, fields: Sequence[str]) -> dict[str, Any] | None:
    try:
        found = read_object(path, limit=FACTS)
        _ = [found[name] for name in fields]
    except MissingFileError:
        return None
    except (ValueError, KeyError, TypeError):  # half of a file cannot be: it was damaged
        _put_aside(path)
        return None
    return found


def _put_aside(path: Path) -> None:
    """So that the step is done again."""
    with suppress(OSError):
        os.replace(path, f"{path}.damaged")  # noqa: PTH105


def _files(folder: Path) -> dict[str, Path]:
    """Each file that a step has left, by its name in the folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    ours = {folder / name for name in (DONE, FAILED, COUNT, f"{DONE}.damaged", f"{FAILED}.damaged")}
    return {path.relative_to(folder).as_posix(): path for path in paths if path not in ours}


def _is_as(path: Path, was: int | str) -> bool:
    """Whether a file has the SHA-256, or (in records of before) the size, that it had."""
    return path.stat().st_size == was if isinstance(was, int) else sha256_file(path) == was
