"""The options of `dubio bench`; what its commands do is in `bench`, which is imported only when one runs."""

from pathlib import Path
from typing import Annotated

import typer

bench = typer.Typer(help="Run grids of models, sets, seeds and methods; tabulate them.", no_args_is_help=True)
Config = Annotated[Path, typer.Argument(help="The grid's YAML file.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the tables (default: DUBIO_DATA, or here).")]
Store = Annotated[Path, typer.Option(help="Where finished steps are kept.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Cells: data=sst2,cola, model=..., seed=0,1.")]
Results = Annotated[Path, typer.Argument(help="The grid's folder under results/.")]
OfMetric = Annotated[str, typer.Option("--metric", help="error_roc_auc, aurc, nll, accuracy, ood_roc_auc, ...")]
Draws = Annotated[int, typer.Option(min=0, help="Of the bootstrap over rows and seeds.")]
Whose = Annotated[str, typer.Option("--predictions", help="Judged: own, or a posterior of the grid's `predictions`.")]
InResults = Annotated[Path, typer.Option(help="Where outcomes go, in a folder of the grid's name.")]


@bench.command("run")
def bench_run(
    config: Config,
    data: Data = None,
    store: Store = Path("runs/bench"),
    results: InResults = Path("results"),
    only: Only = None,
    executor: Annotated[str, typer.Option(help="local: one step after another; ray: tasks of a cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster (default: one on this machine).")] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Only try it out: tiny random models, made-up rows.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:N, for every model (default: as configured; cpu in a dry run).")
    ] = None,
    together: Annotated[bool, typer.Option("--together", help="Train the adapters of all seeds as one stack.")] = False,
) -> None:
    """Do every step of a grid that is not done yet; a killed grid goes on."""
    from dubio_bench.commands import dry as dry_run
    from dubio_bench.commands import run

    if dry:
        dry_run(config, device, only or ())
    else:
        run(config, data, store, results, only or [], (executor, address), device, together)


@bench.command("status")
def bench_status(
    config: Config, data: Data = None, store: Store = Path("runs/bench"), results: InResults = Path("results"),
    only: Only = None,
) -> None:  # fmt: skip
    """What is done, what failed, and the time left."""
    from dubio_bench.commands import status

    status(config, data, store, results, only or [])


@bench.command("show")
def bench_show(
    folder: Results,
    metric: OfMetric = "error_roc_auc",
    methods: Annotated[str | None, typer.Option(help="Comma-separated names (default: all).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for Markdown, LaTeX, Parquet and HTML.")] = None,
    draws: Draws = 500,
    published: Annotated[Path | None, typer.Option(help="Table of published numbers.")] = None,
    predictions: Whose = "own",
) -> None:
    """A grid's tables, rebuilt from its outcomes without any model."""
    from dubio_bench.commands import show

    show(folder, metric, methods, out, draws, published, predictions)


@bench.command("compare")
def bench_compare(
    folder: Results,
    first: Annotated[str, typer.Argument(help="A method; system:NAME for a system.")],
    second: Annotated[
        str | None, typer.Argument(help="What it is compared with; left out: softmax response, or the adapter itself.")
    ] = None,
    metric: OfMetric = "error_roc_auc",
    draws: Draws = 2000,
    predictions: Whose = "own",
) -> None:
    """The paired difference of two methods, set by set and over all, with intervals over rows and seeds."""
    from dubio_bench.commands import compare_two

    compare_two(folder, first, second, metric, draws, predictions)
