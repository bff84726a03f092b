"""The folder of a grid's steps: one folder a step, named by its key, finished when `step.json` lies in it.

A step writes what it likes into its own folder, resumably; `step.json` comes last, by atomic rename. So a killed step
is unfinished and goes on from what lies there, and a finished one is never done again, by whichever grid needs it. A
failed step leaves `failed.json` with its error, and is tried again by the next run. A lock keeps two runs apart.
"""

import json
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dubio.files import write_json

DONE, FAILED, COUNT = "step.json", "failed.json", "times"


@dataclass(frozen=True)
class StepStore:
    """Steps under `root`."""

    root: Path

    def folder(self, kind: str, key: str) -> Path:
        """Where a step's files lie."""
        return self.root / kind / key[:20]

    def record(self, kind: str, key: str) -> dict[str, Any] | None:
        """What a finished step has told, or None."""
        return _read(self.folder(kind, key) / DONE)

    def failure(self, kind: str, key: str) -> dict[str, Any] | None:
        """The error of a step that failed when it was last tried, or None."""
        return _read(self.folder(kind, key) / FAILED)

    def finish(self, kind: str, key: str, record: Mapping[str, Any]) -> None:
        """Marks a step as finished."""
        folder = self.folder(kind, key)
        (folder / FAILED).unlink(missing_ok=True)
        write_json(folder / DONE, dict(record))

    def fail(self, kind: str, key: str, record: Mapping[str, Any]) -> None:
        """Records an error."""
        write_json(self.folder(kind, key) / FAILED, dict(record))

    @contextmanager
    def claim(self, kind: str, key: str) -> Generator[Path]:
        """The step's folder, ours alone until the end, however this process ends; waits for another that has it."""
        folder = self.folder(kind, key)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock"):
            yield folder

    @contextmanager
    def alone(self, name: str) -> Generator[None]:
        """A lock by this name, ours alone until the end."""
        self.root.mkdir(parents=True, exist_ok=True)
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


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # half of a file cannot be: it was damaged, and the step is done again
        with suppress(OSError):
            os.replace(path, f"{path}.damaged")  # noqa: PTH105
        return None
