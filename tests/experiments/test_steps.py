"""Keys of steps: what changes them, and what does not."""

from pathlib import Path

import pytest
from tiny_grid import config, write

from dubio.errors import DubioError
from dubio.models.bases import base as bases
from dubio_bench.grid.config import read_config
from dubio_bench.grid.steps import cells_of, steps_of


def keys(folder, values, cell=0):
    grid = read_config(write(folder, values))
    last = steps_of(grid, cells_of(grid)[cell], Path("/"))
    return {f"{s.kind} {s.name}".strip(): s.key for step in last for s in step.all()}


@pytest.fixture
def values(small):
    return config(small, posteriors={"laplace": {}, "ensemble": {"plan": {"members": 2}}})


def changed(folder, values, **changes):
    """Steps whose key differs."""
    before, after = keys(folder, values), keys(folder, {**values, **changes})
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_the_same_config_gives_the_same_keys(values, tmp_path):
    assert changed(tmp_path, values, about="other words") == set()


def test_a_method_concerns_the_scores_only(values, tmp_path):
    assert changed(tmp_path, values, methods=["softmax_response"]) == {"score"}
    assert changed(tmp_path, values, certification=0.2) == {"score"}


def test_training_concerns_everything(values, tmp_path):
    assert changed(tmp_path, values, training={**values["training"], "rank": 4}) == set(keys(tmp_path, values))


def test_a_posterior_concerns_its_samples_and_the_scores(values, tmp_path):
    other = {"laplace": {}, "ensemble": {"plan": {"members": 3}}}
    found = changed(tmp_path, values, posteriors=other)
    assert found == {"posterior ensemble", "samples ensemble", "score"}
    other = {"laplace": {"samples": 3}, "ensemble": {"plan": {"members": 2}}}
    assert changed(tmp_path, values, posteriors=other) == {"samples laplace", "score"}


def test_stages_concern_the_run_that_keeps_them(values, tmp_path):
    plain, staged = values["posteriors"], {**values["posteriors"]["ensemble"], "stages": {"late": 2, "early": 1}}
    before, after = keys(tmp_path, values), keys(tmp_path, {**values, "posteriors": {**plain, "ensemble": staged}})
    assert after.keys() - before.keys() == {"samples early", "samples late"}
    assert after["samples early"] != after["samples late"]
    assert {name for name in before if before[name] != after[name]} == {
        "posterior ensemble",
        "samples ensemble",
        "score",
    }
    rate = {**plain, "ensemble": {"plan": {"members": 2, "constant": True}}}
    assert "posterior ensemble" in changed(tmp_path, values, posteriors=rate)
    rate["ensemble"]["plan"]["constant"] = False
    assert changed(tmp_path, values, posteriors=rate) == set()


def test_less_memory_concerns_no_key_but_reaches_the_run(values, tmp_path):
    other = {"laplace": {}, "ensemble": {"plan": {"members": 2, "recompute": True}}}
    assert changed(tmp_path, values, posteriors=other) == set()
    grid = read_config(write(tmp_path, {**values, "posteriors": other}))
    made = [s for last in steps_of(grid, cells_of(grid)[0], Path("/")) for s in last.all() if s.name == "ensemble"]
    assert {s.where["recompute"] for s in made if s.kind == "posterior"} == {True}


def test_the_trainer_concerns_the_adapter_but_no_run_of_a_posterior(values, tmp_path):
    found = changed(tmp_path, values, trainer="transformers")
    assert "posterior ensemble" not in found
    assert {"adapter", "represent", "posterior laplace", "samples laplace", "score"} <= found


def test_the_bytes_of_a_table_count_and_not_its_place(values, small, tmp_path):
    copy = tmp_path / "elsewhere.csv"
    copy.write_bytes(small.test.read_bytes())
    moved = {"topics": {**values["data"]["topics"], "test": str(copy)}}
    assert changed(tmp_path, values, data=moved) == set()
    edited = tmp_path / "edited.csv"
    edited.write_bytes(small.test.read_bytes() + b"9999,one more row,food\n")
    assert changed(tmp_path, values, data={"topics": {**values["data"]["topics"], "test": str(edited)}})


def test_an_out_of_domain_table_concerns_no_training(values, small, tmp_path):
    found = changed(tmp_path, values, data={"topics": {**values["data"]["topics"], "ood": str(small.ood)}})
    assert found == {"represent", "samples laplace", "samples ensemble", "score"}


def test_two_bases_on_the_hub_never_share_a_key(monkeypatch, tmp_path):
    """Even where only their configs have come so far: the weights are fetched before anything is keyed."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")

    def fetch(base, allow_patterns):
        folder = tmp_path / Path(base).name
        (folder / "model.safetensors").write_bytes(base.encode())
        return str(folder)

    monkeypatch.setattr(bases, "cached_file", lambda base, file: str(tmp_path / Path(base).name / file))
    monkeypatch.setattr(bases, "snapshot_download", fetch)
    assert bases.base_hash("org/a") != bases.base_hash("org/b")
    monkeypatch.setattr(bases, "snapshot_download", lambda base, allow_patterns: str(tmp_path / Path(base).name))
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(DubioError, match="no safetensors"):
        bases.base_hash("org/a")


def test_seeds_are_cells_of_their_own(values, tmp_path):
    first, second = keys(tmp_path, values), keys(tmp_path, values, cell=1)
    assert not set(first.values()) & set(second.values())


def test_an_absent_table_is_named(values, tmp_path):
    values["data"]["topics"]["test"] = "/nowhere.csv"
    with pytest.raises(DubioError, match=r"/nowhere\.csv.*--data"):
        keys(tmp_path, values)
