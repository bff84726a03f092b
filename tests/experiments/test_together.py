"""Adapters of several seeds trained as one stack: the same as apart, found by their steps, one failure left to them."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_grid import config, made, run

from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.errors import DubioError
from dubio.posteriors import train_seeds as together
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.training import trainer as training
from dubio_bench.run import model_steps as making
from dubio_bench.run.runner import LocalExecutor
from dubio_bench.run.seed_groups import alike


def adapters(folder):
    return {
        path.parent.parent.name: path
        for path in (folder / "store" / "adapter").glob("*/adapter/adapter_model.safetensors")
    }


def test_adapters_trained_together_are_those_trained_apart(small, tmp_path):
    values, said = config(small, methods=["softmax_response"]), []
    _, apart, _ = run(tmp_path / "apart", values)
    whole, at_once, lines = run(tmp_path / "together", values, LocalExecutor(True, said.append))
    assert (apart.complete, at_once.complete) == (True, True)
    assert [line.split(":")[1] for line in said] == [" tiny-topics-0, tiny-topics-1"]
    first, second = adapters(tmp_path / "apart"), adapters(tmp_path / "together")
    assert first.keys() == second.keys()
    assert len(first) == 2
    for key, path in first.items():
        one, other = load_file(path), load_file(second[key])
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, atol=1e-5)
        records = [json.loads((p.parent / "dubio_training.json").read_text()) for p in (path, second[key])]
        assert records[0]["validation_accuracy"] == records[1]["validation_accuracy"]
        assert records[0]["plan"] == records[1]["plan"]
        assert records[0]["best_epoch"] == records[1]["best_epoch"]
        assert records[1]["together"] == [0, 1]
    assert len(lines) == 1 + 6
    assert not list((tmp_path / "together").rglob(together.WORK))
    assert whole.run(LocalExecutor(True, said.append)).complete
    assert len(said) == 1  # nothing was left to train


def test_only_plain_adapters_that_differ_in_the_seed_alone_are_alike(small, tmp_path):
    values = config(small, seeds=[0, 1, 2], posteriors={"ensemble": {"plan": {"members": 2}}})
    values["data"]["others"] = {**values["data"]["topics"], "seed": 7}
    whole, _ = made(tmp_path, values)
    groups = alike(whole.steps())
    assert sorted([str(step.cell) for step in group] for group in groups) == [
        [f"tiny-{data}-{seed}" for seed in (0, 1, 2)] for data in ("others", "topics")
    ]
    assert alike([step for step in whole.steps() if step.cell.seed == 0]) == []
    own, _ = made(tmp_path / "b", {**values, "trainer": "transformers"})
    assert alike(own.steps()) == []


def test_adapters_of_one_set_read_what_lies_below_them_once(small, tmp_path, monkeypatch):
    """Two posteriors of one cell with the last block adapted, and the adapter; those of another set read their own.

    So do their samples, of calibration and test rows.
    """
    making._trunks_of.cache_clear()
    seen, read = [], StackEngine.trunk

    def counted(engine, batch):
        seen.append(len(batch["input_ids"]))
        return read(engine, batch)

    monkeypatch.setattr(StackEngine, "trunk", counted)
    own = {"ensemble": {"plan": {"members": 2}}, "swag_lora": {"plan": {"swag_epochs": 1}}}
    values = config(small, methods=["softmax_response"], posteriors=own, seeds=[0])
    values["training"] = {**values["training"], "top_layers": 1}
    values["data"]["others"] = {**values["data"]["topics"], "seed": 7}
    whole, status, _ = run(tmp_path, values)
    assert status.complete
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("dubio_training.json")]
    assert len(records) == 6
    rows = {record["train"]["sha256"]: record["train"]["rows"] + record["validation"]["rows"] for record in records}
    told = {
        cell.stem: json.loads(cell.read_text())["took"]["adapter"]["rows"] for cell in tmp_path.rglob("tiny-*.json")
    }
    sampled = [own["calibration"] + own["test"] for own in told.values()]
    assert (len(rows), len(sampled), sum(seen)) == (2, 2, sum(rows.values()) + sum(sampled))
    assert whole.folder.exists()


def test_a_group_that_fails_is_left_to_its_steps(small, tmp_path, monkeypatch):
    def fails(*_):
        raise DubioError("no room")

    monkeypatch.setattr("dubio_bench.run.seed_groups.train_seeds", fails)
    said = []
    _, status, _ = run(tmp_path, config(small, methods=["softmax_response"]), LocalExecutor(True, said.append))
    assert status.complete
    assert said == ["not trained together: tiny-topics-0, tiny-topics-1: DubioError: no room"]


def test_a_run_that_is_killed_while_it_exports_goes_on_from_its_last_epoch(small, tmp_path, monkeypatch):
    values, said, epochs = config(small, methods=["softmax_response"], seeds=[0, 1, 2]), [], []

    def dies(host, stack, member, *rest, own=together.export_member, **more):
        if member == 1:
            raise KeyboardInterrupt
        own(host, stack, member, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(together, "export_member", dies)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, values, LocalExecutor(True, said.append))
    assert len(adapters(tmp_path)) == 1
    original = training._Run.epoch
    monkeypatch.setattr(training._Run, "epoch", lambda *a: epochs.append(a[2]) or original(*a))
    _, status, _ = run(tmp_path, values, LocalExecutor(True, said.append))
    assert (status.complete, epochs) == (True, [])  # nothing was trained again
    run(tmp_path / "apart", values)
    first, second = adapters(tmp_path / "apart"), adapters(tmp_path)
    assert first.keys() == second.keys()
    for key, path in first.items():
        one, other = load_file(path), load_file(second[key])
        assert all(np.abs(other[name] - value).max() < 1e-5 for name, value in one.items())


def test_seeds_that_are_there_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(together, "train_stack", lambda *a, **k: pytest.fail("trained again"))
    outs = {seed: tmp_path / str(seed) for seed in (0, 1)}
    for out in outs.values():
        out.mkdir()
        (out / "adapter_config.json").write_text("{}")
    none = LabelledTexts([], None, np.zeros(0, dtype=np.int64), "none")
    together.train_seeds("nowhere", ["a"], (none, none), outs, TrainingPlan())
