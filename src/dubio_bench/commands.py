"""`dubio bench run | status | show | compare`: grids of models, sets, seeds and methods, and their tables."""

import os
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from dubio.errors import DubioError
from dubio.files import check_folder
from dubio.safe_reading import FACTS, read_object
from dubio.showing import tell
from dubio_bench.grid.config import Grid, read_config
from dubio_bench.grid.published import Number, chosen, of_source, read_published
from dubio_bench.grid.steps import Cell
from dubio_bench.results.cell_result import Outcome, keys_in, read_outcome
from dubio_bench.results.seals import is_config_of

CONFIG, CELLS = "config.yaml", "cells.json"


def run(
    config: Path, data: Path | None, store: Path, results: Path, only: Sequence[str], executor: tuple[str, str | None],
    device: str | None = None, together: bool = False,
) -> None:  # fmt: skip
    """Everything of a grid that is not done; exit code 1 where a step failed.

    device: of every model, in place of what the config says; it does not change which steps are done already.
    together: adapters that differ in the seed alone are trained as one stack.
    """
    from dubio_bench.run.runner import LocalExecutor, Run

    kind, address = executor
    if kind not in ("local", "ray"):
        raise DubioError(f"no executor {kind!r}; choose local or ray")
    if device is not None and kind == "ray":
        raise DubioError("--device is for --executor local; on a cluster the config's device and resources count")
    grid = _on(read_config(config), device)
    if together and grid.trainer != "stack":
        raise DubioError("--together trains by the stack engine; set `trainer: stack` in the config, or leave it out")
    if together and kind == "ray":
        raise DubioError("--together is for --executor local; on a cluster every adapter is a task of its own")
    if address is not None and kind != "ray":
        raise DubioError("--address is for --executor ray")
    for folder in (store, results):
        check_folder(folder)
    # Whole paths: workers of a cluster have folders of their own to be in.
    places = _root(data).resolve(), store.resolve(), results.resolve()
    whole = Run(grid, config, *places, chooser(grid, only), _say)
    if kind == "ray":
        from dubio_bench.run.ray_executor import RayExecutor

        cluster = RayExecutor(address)
        try:
            found = whole.run(cluster)
        finally:
            cluster.close()
    else:
        found = whole.run(LocalExecutor(together, _say))
    for step, error in found.failed.items():
        tell(f"failed {step}: {error}", file=sys.stderr)
    tell(f"outcomes: {whole.folder}")
    if not found.complete:
        raise SystemExit(1)


def dry(config: Path, device: str | None = None, only: Sequence[str] = ()) -> None:
    """A cell of each model and training on a tiny base and made-up rows, on the processor unless told otherwise.

    Exit code 1 where a step failed.
    """
    from dubio_bench.run.dry_run import dry_run

    if only:
        raise DubioError("--only chooses among real cells, and --dry makes up its own; leave one of them out")
    found = dry_run(_on(read_config(config), device or "cpu"), _say)
    for step, error in found.failed.items():
        tell(f"failed {step}: {error}", file=sys.stderr)
    if not found.complete:
        raise SystemExit(1)
    tell("everything in this config works together")


def status(config: Path, data: Path | None, store: Path, results: Path, only: Sequence[str]) -> None:
    """How many steps of each kind are done, which failed, and the time left."""
    from dubio_bench.run.runner import Run

    grid = read_config(config)
    found = Run(grid, config, _root(data), store, results, chooser(grid, only)).status()
    for kind, (done, failed, whole) in found.counts.items():
        tell(f"{kind:10} {done} of {whole}{f', {failed} failed' if failed else ''}")
    for step, error in found.failed.items():
        tell(f"failed {step}: {error}")
    tell(found.left)


def show(
    folder: Path, metric: str, methods: str | None, out: Path | None, draws: int, published: Path | None, whose: str
) -> None:  # fmt: skip
    """A grid's tables from its outcomes, on the terminal as Markdown, and under `out` in every format."""
    from dubio_bench.results import export as rendering
    from dubio_bench.results import published_tables as beside
    from dubio_bench.results import tables
    from dubio_bench.results.statistics import compare

    grid, outcomes = read_results(folder, whose)
    _check_judged(grid, whose)
    names = None if methods is None else [name.strip() for name in methods.split(",")]
    names = None if names is None else [*dict.fromkeys([*names, tables.reference_of(metric)])]
    found = compare(outcomes, metric, methods=names, draws=draws, predictions=whose)
    theirs = published_of(grid, published)
    if published is not None and grid.published is None:
        tell("note: the grid's config names no published rows, so none are shown", file=sys.stderr)
    made = [tables.methods_table(grid, outcomes, found, by_metric(grid, theirs))]
    if whose == "own":
        set_beside = beside.systems_beside(grid, outcomes, theirs)
        more = (tables.systems_table(grid, outcomes, draws), set_beside,
                beside.gains_beside(grid, found, by_metric(grid, theirs)))  # fmt: skip
        made += [table for table in more if table is not None]
        if set_beside is None and (told := beside.systems_without_row(grid, outcomes, theirs)):
            tell(f"note: {told}", file=sys.stderr)
    if out is not None:
        check_folder(out)
        words = [tables.grid_title(grid, method) for method in found.methods]
        picture = rendering.critical_difference(found, words)
        caption = "Mean ranks; bars join methods that Nemenyi’s test cannot tell apart (5 %)"
        title = grid.name if whose == "own" else f"{grid.name}, judged on the predictions of {whose}"
        rendering.save(out, title, grid.about, made, [(caption, picture)] if picture else [])
    for table in made:
        tell(rendering.markdown(table))
    if out is not None:
        tell(f"tables: {out / 'index.html'}")


def compare_two(folder: Path, first: str, second: str | None, metric: str, draws: int, whose: str) -> None:
    """The paired difference of two methods, set by set and over all. second: None for the metric's reference."""
    from dubio_bench.results import export as rendering
    from dubio_bench.results import tables
    from dubio_bench.results.statistics import compare

    grid, outcomes = read_results(folder, whose)
    _check_judged(grid, whose)
    second = second or tables.reference_of(metric)
    found = compare(outcomes, metric, methods=[first, second], draws=draws, predictions=whose)
    tell(rendering.markdown(tables.pair_table(found, first, second)))


def read_results(folder: Path, whose: str = "own") -> tuple[Grid, list[Outcome]]:
    """A grid's config, and its finished cells in which these predictions are judged.

    Outcomes of the grid as it was before its config changed are passed over, and named on standard error. Raises
    DubioError where the folder holds none, or what it holds is damaged.
    """
    if not (folder / CONFIG).is_file():
        raise DubioError(f"{folder} holds no results of a grid; run it first, or name its folder under results/")
    known = keys_in(folder / CELLS)
    if known is None and (folder / CELLS).exists():
        raise DubioError(f"{folder / CELLS} is damaged; run the grid again, which does nothing twice")
    if known is not None and not is_config_of(read_object(folder / CELLS, limit=FACTS), folder / CONFIG):
        raise DubioError(f"{folder / CONFIG} is not the one that was run; run the grid again, which does nothing twice")
    cells = sorted(path for path in folder.glob("*.json") if path.name != CELLS)
    outcomes = {path.stem: read_outcome(path, path.with_suffix(".parquet")) for path in cells
                if known is None or path.stem in known}  # fmt: skip
    old = [path.stem for path in cells if known is not None
           and (path.stem not in known or known[path.stem] != outcomes[path.stem].facts["key"])]  # fmt: skip
    if old:
        tell(f"note: not of this config, and passed over: {', '.join(old)}", file=sys.stderr)
    grid = read_config(folder / CONFIG)
    kept = [o for name, o in outcomes.items() if name not in old and o.place[3] == whose]
    order = {(model, data): at for at, (model, data) in enumerate(product(grid.models, grid.data))}
    return grid, sorted(kept, key=lambda o: (order.get(o.place[:2], len(order)), o.place[2]))


def _check_judged(grid: Grid, whose: str) -> None:
    """Raises DubioError where these predictions are not judged in the grid."""
    known = ("own", *grid.predictions)
    if whose not in known:
        raise DubioError(f"the grid does not judge the predictions of {whose!r}; it judges: {', '.join(known)}")


def chooser(grid: Grid, only: Sequence[str]) -> Callable[[Cell], bool] | None:
    """From `data=sst2,cola`, `model=...`, `seed=0`; raises DubioError on what the grid does not have."""
    known = {"model": {*grid.models}, "data": {*grid.data}, "seed": {str(seed) for seed in grid.seeds}}
    wanted: dict[str, set[str]] = {}
    for part in only:
        name, _, values = part.partition("=")
        asked = {value.strip() for value in values.split(",")}
        if name not in known or not asked <= known[name]:
            have = "; ".join(f"{key}={','.join(sorted(values))}" for key, values in known.items())
            raise DubioError(f"--only {part} is not in the grid; it has {have} (repeat --only for another of these)")
        wanted[name] = wanted.get(name, set()) | asked
    if not wanted:
        return None
    return lambda cell: all(str(getattr(cell, name)) in values for name, values in wanted.items())


def published_of(grid: Grid, table: Path | None) -> list[Number]:
    """The grid's published rows, where a table of them is at hand."""
    if grid.published is None or table is None:
        return []
    return of_source(read_published(table), grid.published.source)


def by_metric(grid: Grid, numbers: list[Number]) -> list[Number]:
    """Those of the metric by which the grid's methods are compared; raises DubioError where there are none."""
    if grid.published is None or not grid.published.methods or not numbers:
        return []
    return chosen(numbers, grid.published.source, grid.published.metric)


def _on(grid: Grid, device: str | None) -> Grid:
    """The grid with all its models on a device; raises DubioError where that is not there."""
    if device is None:
        return grid
    from dubio.models.bases.base import check_device

    check_device(device)
    return grid.model_copy(update={
        "models": {name: spec.model_copy(update={"device": device}) for name, spec in grid.models.items()}
    })  # fmt: skip


def _root(data: Path | None) -> Path:
    """Of the tables: the option, or DUBIO_DATA, or here."""
    return data or Path(os.environ.get("DUBIO_DATA", "."))


def _say(line: str) -> None:
    tell(line)
