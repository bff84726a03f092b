"""Running a grid: the steps that are not done, in an order that they allow, by an executor; outcomes as they come.

A failed step is recorded and what needs it is left out; the grid goes on. Progress is a line a step, with the time
left, from what steps of the kind have taken.
"""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dubio.errors import DubioError
from dubio.files import atomic_path, make_folder, write_json, write_text
from dubio.safe_reading import FACTS, read_object
from dubio_bench.grid.config import Grid, Resources, read_config
from dubio_bench.grid.steps import OWN, Cell, Step, cells_of, steps_of
from dubio_bench.results.cell_result import CELL, ROWS, is_whole, keys_in
from dubio_bench.results.seals import sealed, unsealed
from dubio_bench.run.run_step import run_step
from dubio_bench.run.store import StepStore

CONFIG, CELLS = "config.yaml", "cells.json"
_UNITS = ((7200, 3600, ".1f", "h"), (90, 60, ".0f", "min"), (0, 1, ".0f", "s"))  # from so many seconds on
Finished = tuple[Step, dict[str, Any] | None, str]  # step, its record or None, its error


@runtime_checkable
class Executor(Protocol):
    """Does steps somewhere; yields each as it ends, in any order that needs allow."""

    def run(self, steps: Sequence[Step], root: Path, resources: Mapping[str, Resources]) -> Iterator[Finished]:
        """steps: in an order that needs allow. A step whose need failed is yielded with that error, not tried."""
        ...


@dataclass(frozen=True)
class LocalExecutor:
    """One step after another, in this process. together: adapters that differ in the seed alone train as one stack."""

    together: bool = False
    say: Callable[[str], None] = print

    def run(self, steps: Sequence[Step], root: Path, resources: Mapping[str, Resources]) -> Iterator[Finished]:
        """In the order given."""
        if self.together:
            self._train_together(steps, root)
        failed: dict[str, str] = {}
        for step in steps:
            error = next((failed[need.key] for need in step.needs.values() if need.key in failed), "")
            record = None
            if not error:
                try:
                    record = run_step(step, root)
                except Exception as problem:  # recorded in the store; the grid goes on
                    error = " ".join(f"{type(problem).__name__}: {problem}".split())
            if error:
                failed[step.key] = error
            yield step, record, error

    def _train_together(self, steps: Sequence[Step], root: Path) -> None:
        """A group that fails is left to its steps, one by one, which record why."""
        from dubio_bench.run.seed_groups import alike, train_alike  # the model's side, when it is needed

        for group in alike(steps):
            start, names = time.perf_counter(), ", ".join(str(step.cell) for step in group)
            try:
                train_alike(group, root)
                self.say(f"trained together: {names}: {time.perf_counter() - start:.0f} s")
            except Exception as problem:
                self.say(f"not trained together: {names}: {type(problem).__name__}: {problem}")


@dataclass(frozen=True)
class Run:
    """A grid on this machine. root: of the tables. store: of the steps. results: where outcomes go, by grid's name.

    only: cells to run, None for all. say: where progress lines go.
    """

    grid: Grid
    config: Path
    root: Path
    store: Path
    results: Path
    only: Callable[[Cell], bool] | None = None
    say: Callable[[str], None] = print

    @property
    def folder(self) -> Path:
        """Of this grid's results."""
        return self.results / self.grid.name

    def last_steps(self, finished: bool = False) -> list[Step]:
        """The score steps of every chosen cell. finished: also of cells whose outcome is among the results already.

        Nothing is left to do for those, whatever has become of the store.
        """
        cells = [cell for cell in cells_of(self.grid) if self.only is None or self.only(cell)]
        found = [last for cell in cells for last in steps_of(self.grid, cell, self.root)]
        return [last for last in found if finished or not self._published(last)]

    def steps(self, finished: bool = False) -> list[Step]:
        """Those and all that they need, each once, needs first, in the cells' order."""
        return [*{step.key: step for last in self.last_steps(finished) for step in last.all()}.values()]

    def _expect(self) -> None:
        """Writes the config, and which outcomes are of it, by name and key; tables are made of those alone.

        Of cells that are not chosen now what was known stays, unless the config has changed: their tables, or another
        model's base, need not be here.
        """
        with StepStore(self.store).alone(f"cells-{self.grid.name}"):  # runs of other cells may write it too
            known = keys_in(self.folder / CELLS) or {}
            names = {f"{cell}{'' if whose == OWN else f'-{whose}'}" for cell in cells_of(self.grid)
                     for whose in (OWN, *self.grid.predictions)}  # fmt: skip
            kept = {name: key for name, key in known.items() if name in names} if self._unchanged() else {}
            now = {name_of(s): s.key for s in self.last_steps(finished=True)}
            with atomic_path(self.folder / CONFIG) as copy:
                shutil.copyfile(self.config, copy)
            write_json(self.folder / CELLS, sealed({**kept, **now}, config=self.folder / CONFIG))

    def _unchanged(self) -> bool:
        """Whether the config says of every step what that of the last run said."""
        try:
            before, now = (_of_steps(read_config(path)) for path in (self.folder / CONFIG, self.config))
        except DubioError:
            return False
        return before == now

    def _published(self, step: Step) -> bool:
        path = self.folder / f"{name_of(step)}.json"
        return is_whole(path, path.with_suffix(".parquet"), step.key)

    def run(self, executor: Executor) -> "Status":
        """Everything that is not done; returns how it stands at the end."""
        store, steps = StepStore(self.store), self.steps()
        cells = defaultdict[str, list[Step]](list)  # cells may share all their steps
        for last in self.last_steps():
            cells[last.key].append(last)
        make_folder(self.folder)
        self._expect()
        for last in self.last_steps():
            here = store.folder(last.kind, last.key)
            if store.record(last.kind, last.key) and not is_whole(here / CELL, here / ROWS, last.key):
                store.reopen(last.kind, last.key)
        clock = _Clock(steps, store)
        todo = [step for step in steps if store.record(step.kind, step.key) is None]
        for key in cells.keys() - {step.key for step in todo}:
            self.publish(cells[key], store)
        shared = self.grid.shared_members()
        warned = "" if shared is None else f"; seeds share members of {shared[0]}: name them {shared[1]} apart"
        whole = len(self.steps(finished=True))
        self.say(f"{self.grid.name}: {whole} steps, {whole - len(todo)} done before{warned}")
        for step, record, error in executor.run(todo, self.store, {**self.grid.resources}):
            clock.ended(step, record)
            what = f"{record['seconds']:.0f} s{_cut(record)}" if record else f"failed: {error}"
            self.say(f"[{whole - len(steps) + clock.done}/{whole}] {step}: {what}; {clock.left()}")
            if record:
                self.publish(cells[step.key], store)
        return self.status()

    def publish(self, cells: Sequence[Step], store: StepStore) -> None:
        """Copies the outcome of score steps to the results, with what all their steps took, the JSON last."""
        for step in cells:
            here, target = store.folder(step.kind, step.key), self.folder / f"{name_of(step)}.parquet"
            facts = unsealed(read_object(here / CELL, limit=FACTS))
            facts["cell"] |= {"model": step.cell.model, "data": step.cell.data, "seed": step.cell.seed}
            records = {s.key: store.record(s.kind, s.key) for s in step.all()}
            facts["took"] = {_role(s): _cost(records[s.key]) for s in step.all() if s.cell == step.cell}
            facts["machine"] = (records[step.key] or {}).get("machine")
            with atomic_path(target) as copy:
                shutil.copyfile(here / ROWS, copy)
            told = json.dumps(sealed(facts, rows=target), separators=(",", ":"))
            write_text(target.with_suffix(".json"), told + "\n")

    def status(self) -> "Status":
        """How the grid stands, from the store."""
        store, counts = StepStore(self.store), defaultdict[str, list[int]](lambda: [0, 0, 0])
        failed: dict[str, str] = {}
        steps = self.steps()
        left = {step.key for step in steps}
        for step in self.steps(finished=True):
            done = step.key not in left or store.record(step.kind, step.key) is not None
            wrong = None if done else store.failure(step.kind, step.key)
            counts[step.kind][0] += done
            counts[step.kind][1] += wrong is not None
            counts[step.kind][2] += 1
            if wrong is not None:
                failed[str(step)] = wrong["error"]
        return Status({kind: (a, b, c) for kind, (a, b, c) in counts.items()}, failed, _Clock(steps, store).left())


@dataclass(frozen=True)
class Status:
    """counts: kind -> (done, failed, all). failed: step -> its error. left: the time left, in words."""

    counts: Mapping[str, tuple[int, int, int]]
    failed: Mapping[str, str]
    left: str

    @property
    def complete(self) -> bool:
        """Whether everything is done."""
        return all(done == whole for done, _, whole in self.counts.values())


@dataclass
class _Clock:
    """The time left, from the mean seconds that steps of each kind have taken."""

    steps: Sequence[Step]
    store: StepStore
    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    waiting: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    done: int = 0
    start: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        for step in self.steps:
            record = self.store.record(step.kind, step.key)
            if record is None:
                self.waiting[_sort(step)] += 1
            else:
                self.taken[_sort(step)].append(float(record["seconds"]))
                self.done += 1

    def ended(self, step: Step, record: Mapping[str, Any] | None) -> None:
        """One step less."""
        self.waiting[_sort(step)] -= 1
        self.done += 1
        if record is not None:
            self.taken[_sort(step)].append(float(record["seconds"]))

    def left(self) -> str:
        """In words, for one step after another."""
        unknown = sum(count for sort, count in self.waiting.items() if not self.taken[sort])
        seconds = sum(count * sum(t) / len(t) for sort, count in self.waiting.items() if (t := self.taken[sort]))
        known = next(f"about {seconds / unit:{digits}} {word}" for least, unit, digits, word in _UNITS
                     if seconds >= least)  # fmt: skip
        parts = [known] if seconds or not unknown else []
        parts += [f"{unknown} step{'s' * (unknown > 1)} of unknown length"] if unknown else []
        return f"{' and '.join(parts)} left"


def _of_steps(grid: Grid) -> dict[str, Any]:
    """What a config says that a step may depend on."""
    said = grid.model_dump(mode="json", exclude={"about", "published", "resources"})
    return {**said, "models": {name: {**spec, "device": ""} for name, spec in said["models"].items()}}


def name_of(step: Step) -> str:
    """Of a score step's outcome."""
    whose = step.facts["predictions"]
    return str(step.cell) if whose == OWN else f"{step.cell}-{whose}"


def _sort(step: Step) -> str:
    """Steps that take alike: of one kind, on one set, of one posterior."""
    return f"{step.kind} {step.cell.model} {step.cell.data} {step.name}"


def _role(step: Step) -> str:
    return f"{step.kind}{' ' + step.name if step.name else ''}"


def _cut(record: Mapping[str, Any]) -> str:
    """What a step that has read tables tells of rows that the model does not read whole."""
    found: Mapping[str, int] = record["told"].get("truncated", {})
    cut = ", ".join(f"{count:,} {table}" for table, count in found.items() if count)
    return f" ({cut} rows are longer than the model reads)" if cut else ""


def _cost(record: Mapping[str, Any] | None) -> dict[str, Any]:
    told = {} if record is None else record["told"]
    kept = ("rows", "dropped", "truncated", "validation_accuracy", "best_epoch", "trained_seconds", "made_seconds",
            "bytes", "stored", "samples")  # fmt: skip
    where: Mapping[str, Any] = {} if record is None else record["machine"]
    machine = {"gpu": where.get("gpu"), "torch": where.get("versions", {}).get("torch")}
    seconds = None if record is None else record["seconds"]
    return {"seconds": seconds, **machine, **{key: told[key] for key in kept if key in told}}
