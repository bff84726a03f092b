"""The outcomes that are committed: of the configs as they are, and enough to rebuild every table without a model."""

import json
from pathlib import Path

import pytest

from dubio_bench.commands import read_results
from dubio_bench.grid.config import read_config
from tiny_classifier import dubio

ROOT = Path(__file__).parents[2]
GRIDS = sorted(path.parent for path in (ROOT / "results").glob("*/config.yaml"))
of_every_grid = pytest.mark.parametrize("folder", GRIDS, ids=lambda folder: folder.name)


def test_there_are_some():
    assert {folder.name for folder in GRIDS} >= {"adue-minilm", "one-pass-minilm"}


@of_every_grid
def test_outcomes_are_of_the_config_as_it_is(folder, capsys):
    own = ROOT / "configs" / f"{folder.name}.yaml"
    assert read_config(folder / "config.yaml") == read_config(own)
    _, outcomes = read_results(folder)
    assert outcomes
    assert "passed over" not in capsys.readouterr().err
    known = json.loads((folder / "cells.json").read_text())
    files = {path.stem for path in folder.glob("*.json")} - {"cells"}
    assert files <= known.keys()


@of_every_grid
def test_its_tables_are_rebuilt(folder, tmp_path):
    shown = dubio(
        "bench", "show", folder, "--draws", 0, "--out", tmp_path, "--published", ROOT / "configs/published.csv"
    )
    assert shown.code == 0, shown
    assert {"index.html", "tables.md", "tables.tex", "methods.parquet"} <= {path.name for path in tmp_path.iterdir()}


def test_no_outcome_names_a_place_of_the_machine_that_made_it():
    for path in (ROOT / "results").rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert not any(f'"{place}' in text for place in ("/tmp/", "/home/", "/root/")), path
