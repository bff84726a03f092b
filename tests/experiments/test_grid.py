"""A grid from config to outcomes: what it leaves, what it does not do again, and what a failure does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny_grid import config, made, run

from dubio.errors import DubioError
from dubio.metrics import ece
from dubio.models.cache import map_arrays
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.posteriors.base_model import host_under
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior
from dubio.posteriors.training.folds import fold_numbers
from dubio_bench.grid.config import DataSet
from dubio_bench.grid.splits import read_split
from dubio_bench.grid.steps import cells_of
from dubio_bench.results.cell_result import read_outcome
from dubio_bench.run.run_step import run_step
from dubio_bench.run.runner import Run
from dubio_bench.run.store import StepStore
from tiny_classifier import save_base


def outcome(folder, name="tiny-topics-0"):
    path = folder / "results" / "small" / f"{name}.json"
    return read_outcome(path, path.with_suffix(".parquet"))


def test_rows_that_are_not_read_whole_are_told_and_kept(small, tmp_path):
    short = {"epochs": 1, "learning_rate": 0.03, "batch_size": 32, "max_length": 8}
    values = config(small, seeds=[0], training=short, methods=["softmax_response"])
    _, status, lines = run(tmp_path, values)
    assert status.complete, lines
    step = next(line for line in lines if "represent" in line)
    kept = outcome(tmp_path).facts["took"]["represent"]["truncated"]
    tokens = load(next((tmp_path / "store").rglob("adapter_config.json")).parent).tokenizer
    texts = read_split(DataSet.model_validate(values["data"]["topics"]), Path("/"), True).tables["test"].texts
    assert kept["test"] == sum(len(tokens(text)["input_ids"]) > 8 for text in texts)
    assert 0 < kept["test"] < len(texts)
    cut = ", ".join(f"{count} {table}" for table, count in kept.items())
    assert f" s ({cut} rows are longer than the model reads); " in step


def test_every_cell_leaves_an_outcome(finished):
    folder, _, _, status, lines = finished
    assert status.complete
    names = {path.stem for path in (folder / "results" / "small").glob("*.json")} - {"cells"}
    assert names == {f"tiny-topics-{seed}{whose}" for seed in (0, 1) for whose in ("", "-ensemble", "-kfold")}
    assert (folder / "results" / "small" / "config.yaml").read_bytes() == (folder / "grid.yaml").read_bytes()
    assert len(lines) == 1 + 2 * 14
    assert lines[-1].endswith("about 0 s left")


def test_an_outcome_holds_what_was_measured(finished):
    found = outcome(finished[0])
    assert found.place == ("tiny", "topics", 0, "own")
    assert len(found.wrong) == 150
    assert set(found.ranks) == {
        "softmax_response", "md", "probe", "adue_unguarded", "adue_bce", "mc_dropout.mutual_information"
    }  # fmt: skip
    for method, ranks in found.ranks.items():
        assert np.isclose(found.figure(method, "error_roc_auc"), roc_auc_score(found.wrong, ranks), atol=1e-5)
    assert {"adapter", "ensemble", "mc_dropout", "cores", "lora_xs"} <= set(found.systems)
    wrong, loss, _ = found.systems["ensemble"]
    assert np.isclose(found.figure("system:ensemble", "accuracy"), 1 - wrong.mean(), atol=1e-5)
    assert np.isclose(found.figure("system:ensemble", "nll"), loss.mean(), rtol=1e-4)
    assert found.figure("md", "ood_roc_auc") > 0.5
    assert set(found.facts["calibration"]) == set(found.ranks)
    assert all(0 <= value <= 1 for value in found.facts["calibration"].values())
    assert (found.systems["adapter"][0] == found.wrong).all()


def test_an_outcome_says_where_it_comes_from(finished):
    facts = outcome(finished[0]).facts
    assert facts["took"]["adapter"]["rows"]["test"] == 150
    assert facts["took"]["posterior ensemble"]["stored"] > 0
    assert facts["machine"]["versions"]["torch"]
    assert set(facts["steps"]) >= {"represent tiny-topics-0", "samples ensemble tiny-topics-0"}


def test_the_mean_of_a_posterior_is_judged_as_well(finished):
    mean, own = outcome(finished[0], "tiny-topics-0-ensemble"), outcome(finished[0])
    assert mean.place[3] == "ensemble"
    assert (mean.wrong == own.systems["ensemble"][0]).all()
    assert "md" in mean.facts["left_out"]  # it has no train rows


def test_k_fold_adapters_bring_honest_train_rows(finished):
    found = outcome(finished[0], "tiny-topics-0-kfold")
    assert "md" in found.ranks  # which needs train rows
    whole = finished[2]
    step = next(s for s in whole.steps(finished=True) if s.kind == "samples" and s.name == "kfold")
    store = StepStore(finished[0] / "store")
    here, made_by = store.folder(step.kind, step.key), step.needs["posterior"]
    table = read_split(DataSet.model_validate(step.where["data"]), Path("/"), True).tables["train"]
    stored = load_posterior(store.folder("posterior", made_by.key) / "adapter", "kfold")
    model = load(store.folder("adapter", step.needs["adapter"].key) / "adapter")
    every = sample(Sampler(host_under(model), stored), table.texts, None, Extraction(show=False))
    fold, held = fold_numbers(table.texts, None, 2), map_arrays(here / "train.safetensors")["samples"]
    assert held.shape == (1, *every.shape[1:])
    np.testing.assert_allclose(held[0], every[fold, np.arange(len(fold))], atol=1e-5)
    mean = outcome(finished[0], "tiny-topics-0-ensemble")
    assert "needs the training rows" in mean.facts["left_out"]["md"]


def test_a_finished_grid_is_not_done_again(finished, small):
    folder, values, _, _, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (folder / "store").rglob("step.json")}
    _, status, lines = run(folder, values)
    assert status.complete
    assert len(lines) == 1
    assert {path: path.stat().st_mtime_ns for path in (folder / "store").rglob("step.json")} == before
    assert all(len((path.parent / "times").read_text().splitlines()) == 1 for path in before)


def test_a_changed_option_does_what_depends_on_it(finished, tmp_path):
    folder, values, _, _, _ = finished
    _, status, lines = run(folder, {**values, "certification": 0.25}, results=tmp_path)
    assert status.complete
    assert [line.split()[1] for line in lines[1:]] == ["score"] * 6
    # and back: the first outcomes are in the store still
    assert len(run(folder, values, results=tmp_path / "again")[2]) == 1


def test_results_outlive_the_store(finished, tmp_path):
    folder, values, _, _, _ = finished
    whole, _ = made(folder, values, store=tmp_path / "empty")
    assert whole.steps() == []
    assert whole.status().complete
    assert whole.status().counts["adapter"] == (2, 0, 2)
    facts = folder / "results" / "small" / "tiny-topics-1.json"
    kept = facts.read_text()
    try:
        facts.write_text("{}")
        assert {str(step.cell) for step in whole.steps()} == {"tiny-topics-1"}
    finally:
        facts.write_text(kept)


def test_cells_that_are_the_same_share_their_steps(small, tmp_path):
    base = str(small.base)
    values = config(small, seeds=[0], models={name: {"base": base, "family": "bert"} for name in ("one", "two")})
    _, status, lines = run(tmp_path, values)
    assert status.complete
    assert len(lines) == 4
    assert [outcome(tmp_path, f"{name}-topics-0").place[0] for name in ("one", "two")] == ["one", "two"]


def test_cells_can_be_chosen(small, tmp_path):
    whole, _ = made(tmp_path, config(small), only=lambda cell: cell.seed == 1)
    assert {step.cell.seed for step in whole.steps()} == {1}
    assert [step.kind for step in whole.steps()] == ["adapter", "represent", "score"]


def test_a_failed_step_is_recorded_and_the_grid_goes_on(small, tmp_path):
    broken = save_base(tmp_path / "base", seed=1)
    models = {"broken": {"base": str(broken), "family": "bert"}, "tiny": {"base": str(small.base), "family": "bert"}}
    values, weights = config(small, seeds=[0], models=models), broken / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"no weights")
    _, status, lines = run(tmp_path, values)
    assert not status.complete
    assert status.counts["adapter"] == (1, 1, 2)
    assert status.counts["score"] == (1, 0, 2)
    (error,) = status.failed.values()
    assert "\n" not in error
    assert sum("failed" in line for line in lines) == 3  # the step, and the two that need it
    failure = next((tmp_path / "store").rglob("failed.json"))
    assert "Traceback" in json.loads(failure.read_text())["trace"]
    # mended, it is tried again, and nothing else is
    weights.write_bytes(kept)
    _, status, lines = run(tmp_path, values)
    assert status.complete
    assert not status.failed
    assert sum(line.startswith("[") for line in lines) == 3


def test_a_damaged_record_is_done_again(small, tmp_path):
    whole, _ = made(tmp_path, config(small, seeds=[0]))
    step = whole.steps()[0]
    run_step(step, whole.store)
    store = StepStore(whole.store)
    record = store.folder(step.kind, step.key) / "step.json"
    record.write_text("{")
    assert store.record(step.kind, step.key) is None
    assert run_step(step, whole.store)["key"] == step.key
    assert store.tries(step.kind, step.key) == 2


def test_outcomes_of_two_runs_are_not_mixed(finished, tmp_path):
    source = finished[0] / "results" / "small"
    (tmp_path / "cell.json").write_bytes((source / "tiny-topics-0.json").read_bytes())
    (tmp_path / "cell.parquet").write_bytes((source / "tiny-topics-1.parquet").read_bytes())
    with pytest.raises(DubioError, match="different runs"):
        read_outcome(tmp_path / "cell.json", tmp_path / "cell.parquet")


def test_damaged_outcomes_are_refused(finished, tmp_path):
    source = finished[0] / "results" / "small" / "tiny-topics-0.json"
    (tmp_path / "cell.json").write_bytes(source.read_bytes())
    (tmp_path / "cell.parquet").write_bytes(source.with_suffix(".parquet").read_bytes()[:100])
    with pytest.raises(DubioError, match="run the grid again"):
        read_outcome(tmp_path / "cell.json", tmp_path / "cell.parquet")


def test_cells_come_seed_by_seed(finished):
    whole: Run = finished[2]
    assert [cell.seed for cell in cells_of(whole.grid)] == [0, 1]


def test_an_ensemble_is_a_system_at_each_stage(small, tmp_path):
    own = {"plan": {"members": 2, "constant": True}, "training": {"epochs": 3}, "stages": {"last": 3, "first": 1}}
    values = config(small, seeds=[0], methods=["softmax_response", "first.response"], posteriors={"ensemble": own})
    whole, status, _ = run(tmp_path, values)
    assert status.complete
    found, store = outcome(tmp_path), StepStore(tmp_path / "store")
    assert {"ensemble", "first", "last", "adapter"} == set(found.systems)
    assert set(found.ranks) == {"softmax_response", "first.response"}
    steps = {s.name: s for s in whole.steps(finished=True) if s.kind == "samples"}
    assert set(steps) == {"ensemble", "first", "last"}
    home = store.folder("posterior", steps["first"].needs["posterior"].key) / "adapter"
    table = read_split(DataSet.model_validate(steps["first"].where["data"]), Path("/"), True).tables["test"]
    for name, at in (("ensemble", home), ("first", home / "epochs" / "1"), ("last", home / "epochs" / "3")):
        with torch.no_grad():  # the first member is the adapter beside the posterior, for transformers and peft alone
            logits = torch.from_numpy(extract(load(str(at)), table.texts, None).logits).double()
        drawn = map_arrays(store.folder("samples", steps[name].key) / "test.safetensors")["samples"]
        np.testing.assert_allclose(drawn[0], logits.log_softmax(dim=1), atol=1e-4)
        judged = [ece(np.exp(log_p).max(axis=1), log_p.argmax(axis=1) == table.label_ids(load(str(at)).labels))
                  for log_p in drawn.astype(float)]  # fmt: skip
        assert found.facts["members"][name]["ece_equal_width_15"] == pytest.approx(np.mean(judged), rel=1e-4)
    assert (found.systems["first"][1] != found.systems["last"][1]).any()
    same = np.array_equal(found.systems["ensemble"][1], found.systems["last"][1])
    assert same == (load_posterior(home, "ensemble").posterior.facts["best_epoch"] == [3, 3])


def test_the_adapters_of_all_seeds_teach_each_other(small, tmp_path):
    own = [f"all.{measure}" for measure in ("response", "distilled")]
    values = config(small, methods=["softmax_response", *own], pooled="all", seeds=[0, 1, 2])
    _, status, lines = run(tmp_path, values)
    assert status.complete
    assert sum("pooled" in line for line in lines) == 1  # one for the set: every seed reads the same
    found = [outcome(tmp_path, f"tiny-topics-{seed}") for seed in (0, 1, 2)]
    assert all(set(o.ranks) == {"softmax_response", *own} for o in found)
    alone = np.mean([o.figure("system:adapter", "nll") for o in found])
    assert found[0].facts["members"]["all"]["nll"] == pytest.approx(alone, rel=1e-4)
    accuracy = np.mean([o.figure("system:adapter", "accuracy") for o in found])
    assert found[1].facts["members"]["all"]["accuracy"] == pytest.approx(accuracy, rel=1e-4)
    risks = np.mean([o.figure("softmax_response", "aurc") for o in found])
    assert found[2].facts["members"]["all"]["aurc"] == pytest.approx(risks, rel=1e-4)
    records = [json.loads(path.read_text())["told"] for path in (tmp_path / "store" / "adapter").glob("*/step.json")]
    took = [o.facts["took"]["adapter"]["trained_seconds"] for o in found]
    assert sorted(took) == sorted(told["trained_seconds"] for told in records)  # each seed's own
    p = [np.asarray(o.systems["all"][1]) for o in found]
    assert all(np.array_equal(p[0], other) for other in p)
    for name in ("own", "represent", "temperature"):
        with pytest.raises(DubioError, match="choose another name"):
            made(tmp_path / name, {**values, "methods": ["softmax_response"], "pooled": name})
    with pytest.raises(DubioError, match="one seed is no ensemble"):
        made(tmp_path / "one", {**values, "seeds": [0]})
    with pytest.raises(DubioError, match=r"there is no method 'all\.response'"):
        made(tmp_path / "none", {**values, "pooled": None})
