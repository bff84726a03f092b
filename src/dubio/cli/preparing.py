"""The options of `dubio split` and `dubio check`, which prepare tables; what they do is in files of their own."""

from pathlib import Path
from typing import Annotated

import typer

from dubio.cli.options import Label, Pair, Text

tables = typer.Typer()


@tables.command()
def split(
    table: Annotated[str, typer.Argument(help="Labelled table to cut (CSV, TSV, JSONL, Parquet, or hub:NAME:SPLIT).")],
    train: Annotated[str, typer.Option(help="Size of train: a share (0.6, 60%), rows (6000), rest, or 0.")] = "rest",
    calibration: Annotated[str, typer.Option(help="Size of calibration, likewise.")] = "0.2",
    test: Annotated[str, typer.Option(help="Size of test, likewise.")] = "0.2",
    out: Annotated[
        Path | None, typer.Option(help="Folder for train.csv, ... (default: beside, data_train.csv).")
    ] = None,
    groups: Annotated[
        str, typer.Option(help="Which rows stay together: repeats (near repeats), a column's name, or none.")
    ] = "repeats",
    without: Annotated[
        list[str] | None, typer.Option(help="Table whose rows shall be in no part, such as an adapter's; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw: the same seed gives the same parts.")] = 0,
    drop_empty: Annotated[bool, typer.Option("--drop-empty", help="Leave out rows without text.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    text: Text = None,
    pair: Pair = None,
    label: Label = None,
) -> None:
    """Cut a labelled table into train, calibration and test, with the labels in the same shares.

    Rows of the same text, and near repeats, are never divided between two parts.
    """
    from dubio.cli.split import Cut, run

    sizes = {"train": train, "calibration": calibration, "test": test}
    run(table, Cut(sizes, groups, seed, without or (), drop_empty), (text, pair, label), out, overwrite=overwrite)


@tables.command()
def check(
    table: Annotated[list[str], typer.Argument(help="Tables, the training table first.")],
    model: Annotated[str | None, typer.Option(help="Adapter or base whose tokens are counted too.")] = None,
    text: Text = None,
    pair: Pair = None,
    label: Label = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
) -> None:
    """Look at tables before a training: columns, labels, missing and repeated rows, what the tables share.

    A line a finding; the exit code is 2 where one of them is a problem, and 0 otherwise.
    """
    from dubio.cli.check import run

    if run(table, (text, pair, label), model, as_json=as_json).problems:
        raise typer.Exit(2)
