"""The configs that ship: each says how it is run and what it costs, is valid, and works in a dry cell, offline."""

from pathlib import Path

import pytest
from tiny_grid import config, write

from dubio_bench.grid.config import read_config
from dubio_bench.grid.published import chosen, of_source, read_published
from dubio_bench.grid.steps import cells_of
from dubio_bench.run.dry_run import _tiny_sets
from tiny_classifier import dubio

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
WANTED = {
    "adue-table1", "adue-ablation", "adue-density", "b-lora-xs", "lora-ensembles", "bayeslora",
    "bayesian-lora-benchmark", "adue-minilm", "adue-smollm2", "posteriors-minilm",
}  # fmt: skip


def test_every_paper_has_its_config():
    assert {path.stem for path in CONFIGS} >= WANTED


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_opens_with_its_command_and_cost(path):
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith(f"# dubio bench run configs/{path.name}")
    assert second.startswith("# Cost: ")
    assert read_config(path).name == path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_works_in_a_dry_cell(path):
    done = dubio("bench", "run", path, "--dry")
    assert done.code == 0, done
    assert "works together" in done.out


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_is_published_is_there(path):
    grid = read_config(path)
    names = {spec.published for spec in grid.data.values()} - {None}
    numbers = read_published(path.parent / "published.csv")
    if grid.published is not None:
        numbers = of_source(numbers, grid.published.source)
        for spec in grid.published.systems:
            sets = {spec.data} if spec.data else names
            shown = {n.data for n in numbers if n.method == spec.theirs and spec.config in (None, n.config)}
            assert shown & sets, spec
        if grid.published.methods:
            numbers = chosen(numbers, grid.published.source, grid.published.metric)
            assert {n.method for n in numbers} >= set(grid.published.methods)
    assert names <= {n.data for n in numbers}


def test_adue_table_1_is_a_hundred_cells():
    grid = read_config(next(path for path in CONFIGS if path.stem == "adue-table1"))
    assert len(cells_of(grid)) == 4 * 5 * 5


@pytest.mark.parametrize("whose", ["grid", "second set"])
def test_a_dry_run_finds_what_does_not_work_together(small, tmp_path, whose):
    values, wrong = config(small), {"targets": "no_such_layer"}
    if whose == "grid":
        values["training"] = wrong
    else:
        values["data"]["other"] = {**values["data"]["topics"], "training": wrong}
    done = dubio("bench", "run", write(tmp_path, values), "--dry")
    assert done.code == 1
    assert "no_such_layer" in done.err


def test_a_dry_run_has_a_cell_for_each_training_that_differs(small, tmp_path):
    grid = read_config(write(tmp_path, config(small)))
    own = {"a": {}, "b": {"max_length": 512}, "c": {"epochs": 7}, "d": {"dropout": 0.3}, "e": {"rank": 9}}
    sets = {name: grid.data["topics"].model_copy(update={"training": training}) for name, training in own.items()}
    grid = grid.model_copy(update={"data": sets, "training": {"max_length": 64, "rank": 8}})
    model = grid.models["tiny"]
    assert [*_tiny_sets(grid, model, sets["a"])] == ["a", "d"]
    assert _tiny_sets(grid, model, sets["a"])["d"].training == {"dropout": 0.3, "epochs": 1}
