"""What a grid makes of files that were damaged, lost, or are of another config: it says so, and makes them good."""

import json
import re

import pytest
from tiny_grid import config, made, run, write

from dubio.errors import DubioError
from dubio.files import make_folder
from dubio_bench.commands import read_results
from dubio_bench.results.cell_result import read_outcome
from dubio_bench.run.runner import Run
from dubio_bench.run.store import StepStore
from tiny_classifier import dubio


@pytest.fixture
def grid(small, tmp_path):
    """(folder, values, results) of a grid of one cell that has run."""
    values = config(small, seeds=[0], methods=["softmax_response", "md"])
    assert run(tmp_path, values)[1].complete
    return tmp_path, values, tmp_path / "results" / "small"


def again(folder, values):
    """(Status, lines) of another run."""
    _, status, lines = run(folder, values)
    return status, lines


def seeds(results):
    return [outcome.place[2] for outcome in read_results(results)[1]]


def step_folder(folder, values, kind):
    whole, _ = made(folder, values)
    step = next(step for step in whole.steps(finished=True) if step.kind == kind)
    return StepStore(whole.store).folder(step.kind, step.key)


def test_cells_of_another_config_are_not_taken_for_this_ones(small, tmp_path, capsys):
    """Of a run with --only, too, which does not look at the other cells."""
    values, results = config(small, methods=["softmax_response"]), tmp_path / "results" / "small"
    run(tmp_path, values)
    run(tmp_path, values, only=lambda cell: cell.seed == 0)
    run(tmp_path, {**values, "about": "other words"}, only=lambda cell: cell.seed == 0)
    assert seeds(results) == [0, 1]
    changed = {**values, "certification": 0.2}
    run(tmp_path, changed, only=lambda cell: cell.seed == 0)
    assert seeds(results) == [0]
    assert "passed over: tiny-topics-1" in capsys.readouterr().err
    run(tmp_path, changed)
    assert seeds(results) == [0, 1]


def test_the_device_changes_no_expectation(small, tmp_path):
    values, results = config(small, methods=["softmax_response"]), tmp_path / "results" / "small"
    run(tmp_path, values)
    models = {"tiny": {**values["models"]["tiny"], "device": "cuda:0"}}
    whole, _ = made(tmp_path, {**values, "models": models}, only=lambda cell: cell.seed == 0)
    whole._expect()
    assert seeds(results) == [0, 1]


@pytest.mark.parametrize("damage", ["cut", "another's", "gone", "json"])
def test_a_damaged_outcome_is_published_again(grid, damage):
    folder, values, results = grid
    rows, facts = results / "tiny-topics-0.parquet", results / "tiny-topics-0.json"
    before = rows.read_bytes(), facts.read_text()
    if damage == "cut":
        rows.write_bytes(before[0][: len(before[0]) // 2])
    elif damage == "another's":
        run(folder, {**values, "name": "other", "certification": 0.2})
        rows.write_bytes((folder / "results" / "other" / rows.name).read_bytes())
    elif damage == "gone":
        rows.unlink()
    else:
        facts.write_text(before[1][:50])
    status, lines = again(folder, values)
    assert status.complete
    assert (rows.read_bytes(), facts.read_text()) == before
    assert len(lines) == 1  # nothing was computed


def test_a_step_that_lost_its_outcome_is_judged_again(grid):
    folder, values, results = grid
    rows = step_folder(folder, values, "score") / "rows.parquet"
    rows.write_bytes(rows.read_bytes()[:200])
    (results / "tiny-topics-0.json").unlink()
    status, lines = again(folder, values)
    assert status.complete
    assert [line.split()[1] for line in lines[1:]] == ["score"]
    assert seeds(results) == [0]


@pytest.mark.parametrize("loss", ["cut", "gone"])
@pytest.mark.parametrize("name", ["test.safetensors", "head.json"])
def test_a_need_that_lost_a_file_is_made_again(grid, name, loss):
    """The step that finds out fails; the run after it makes both."""
    folder, values, _ = grid
    changed, lost = {**values, "certification": 0.2}, step_folder(folder, values, "represent") / name
    lost.write_bytes(lost.read_bytes()[:40]) if loss == "cut" else lost.unlink()
    status, _ = again(folder, changed)
    assert not status.complete
    (error,) = status.failed.values()
    assert "represent tiny-topics-0 had lost files, and is done again by the next run" in error
    status, lines = again(folder, changed)
    assert status.complete
    assert [line.split()[1] for line in lines[1:]] == ["represent", "score"]


def test_a_whole_step_is_not_done_again_because_another_failed(grid):
    folder, values, _ = grid
    whole, _ = made(folder, values)
    store = StepStore(whole.store)
    for step in whole.steps(finished=True):
        assert not store.lost(step.kind, step.key)
        assert store.record(step.kind, step.key) is not None


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"seconds": 1}'])
def test_a_record_without_its_fields_is_damaged(grid, text):
    folder, values, _ = grid
    record = step_folder(folder, values, "score") / "step.json"
    record.write_text(text)
    (folder / "results" / "small" / "tiny-topics-0.json").unlink()
    status, lines = again(folder, values)
    assert status.complete
    assert len(lines) == 2


@pytest.mark.parametrize("text", ['{"tiny', "[]"])
def test_a_damaged_list_of_cells_is_written_anew(grid, text):
    folder, values, results = grid
    (results / "cells.json").write_text(text)
    shown = dubio("bench", "show", results)
    assert (shown.code, shown.err.count("\n")) == (2, 1)
    assert "cells.json is damaged; run the grid again" in shown.err
    again(folder, values)
    assert seeds(results) == [0]


@pytest.mark.parametrize(("path", "left"), [
    ("cell.seed", None), ("cell.predictions", None), ("methods", None), ("methods", "words"), ("metrics", None),
    ("metrics", "words"), ("metrics.md", None), ("metrics.md", "words"),
])  # fmt: skip
def test_an_outcome_without_a_field_is_refused(grid, path, left):
    cell = grid[2] / "tiny-topics-0.json"
    facts = json.loads(cell.read_text())
    *above, last = path.split(".")
    part = facts[above[0]] if above else facts
    part[last] = left
    if left is None and path != "metrics.md":  # a method may be absent, not empty
        del part[last]
    cell.write_text(json.dumps(facts))
    with pytest.raises(DubioError, match="run the grid again"):
        read_outcome(cell, cell.with_suffix(".parquet"))


def test_a_file_that_is_no_outcome_does_not_stop_the_tables(grid):
    (grid[2] / "notes.json").write_text("mine")
    shown = dubio("bench", "show", grid[2], "--draws", 0)
    assert shown.code == 0, shown
    assert "passed over: notes" in shown.err


@pytest.mark.parametrize(("base", "words"), [
    ("/nowhere/base", "there is no base model folder /nowhere/base"), ("nobody/has-this", "no base model nobody/has"),
    ("package:tiny", "no base model package:tiny comes with a package; there are package:minilm, package:smollm2"),
])  # fmt: skip
def test_a_base_that_is_not_there_is_one_line(small, tmp_path, base, words):
    path = write(tmp_path, config(small, models={"tiny": {"base": base, "family": "bert"}}))
    for command in ("status", "run"):
        refused = dubio("bench", command, path, "--store", tmp_path / "store", "--results", tmp_path / "results")
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused
        assert words in refused.err


def test_an_interrupted_run_says_how_to_go_on(small, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "run", interrupted)
    path = write(tmp_path, config(small))
    found = dubio("bench", "run", path, "--store", tmp_path / "store", "--results", tmp_path / "results")
    assert (found.code, found.err.strip().count("\n")) == (130, 0)
    assert "run the same command again: finished steps are kept" in found.err


def test_a_dry_run_chooses_no_cells(small, tmp_path):
    refused = dubio("bench", "run", write(tmp_path, config(small)), "--dry", "--only", "seed=0")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--dry makes up its own" in refused.err


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DubioError, match=r"cannot write .*file/here: "):
        make_folder(tmp_path / "file" / "here")


def test_the_time_left_is_that_of_the_steps_that_are_known(small, tmp_path):
    values = config(small, methods=["softmax_response"])
    _, _, lines = run(tmp_path, values)
    assert lines[0] == "small: 6 steps, 0 done before"
    assert re.fullmatch(
        r"\[1/6\] adapter tiny-topics-0: \d+ s; about \d+ s and 4 steps of unknown length left", lines[1]
    )
    assert lines[-1].endswith("; about 0 s left")
    assert again(tmp_path, values)[1] == ["small: 6 steps, 6 done before"]
