"""The demo's stages, on the tiny classifier's base and tables instead of MiniLM and tweets."""

import json

import pytest

from dubio.adapters.plan import TrainingPlan
from dubio.cli.evaluate import shares
from dubio.data.tables import table_of
from dubio.scores.registry import METHODS
from tiny_classifier import LABELS, dubio, snapshot


@pytest.fixture
def small(cached, monkeypatch):
    def write(folder):
        folder.mkdir(parents=True)
        for name in ("train", "validation", "calibration", "test", "ood"):
            lines = getattr(cached, name).read_text(encoding="utf-8").splitlines()
            numbers = [f"{0.3 + 0.1 * (row % 8):.1f}" for row in range(len(lines) - 1)]
            rows = [",".join(pair) for pair in zip(lines, ["agreement", *numbers], strict=True)]
            (folder / f"{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    monkeypatch.setattr("dubio.cli.demo.write_demo_tables", write)
    monkeypatch.setattr("dubio.cli.demo.minilm_path", lambda: cached.base)
    monkeypatch.setattr("dubio.cli.demo.LABELS", LABELS)
    plan = TrainingPlan(learning_rate=3e-2, epochs=4, batch_size=32, max_length=32, precision="float32", show=False)
    monkeypatch.setattr("dubio.cli.demo.PLAN", plan)
    few = {name: METHODS[name] for name in ("softmax_response", "md", "probe", "refitted_calibration")}
    monkeypatch.setattr("dubio.workflow.fitting.METHODS", few)
    return cached


def test_demo_leaves_all_it_promises_and_goes_on_from_what_is_there(small, tmp_path):
    out = tmp_path / "demo"
    done = dubio("demo", "--out", out)
    assert done.code == 0, done
    for stage in ("tables: ", "training: ", "fitting every method", "evaluating on test rows", "done"):
        assert stage in done.out
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics[0]) == {"method", "metric", "split", "value", "low", "high", "why"}
    names = {metric["metric"] for metric in metrics}
    assert {"error_roc_auc", "accuracy", "ood_roc_auc", "spearman_disagreement", "error_probability_ece"} <= names
    assert (out / "report" / "index.html").stat().st_size > 50_000
    before = snapshot(out / "adapter", out / "data", out / "cache")
    made = {
        path: path.stat().st_mtime_ns for path in before if path.suffix == ".safetensors" and "dubio" not in path.parts
    }
    again = dubio("demo", "--out", out)
    assert again.code == 0, again
    assert "training: " not in again.out
    after = snapshot(out / "adapter", out / "data", out / "cache")
    changed = {path.name for path, digest in after.items() if before.get(path) != digest}
    assert changed <= {"manifest.json"}  # what fitting has cost
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert json.loads((out / "metrics.json").read_text()) == metrics


def test_demo_with_nowhere_to_write(small, tmp_path):
    (tmp_path / "file").write_text("x")
    done = dubio("demo", "--out", tmp_path / "file" / "demo")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("values", "known"),
    [(["0.5", "1", ""], 2), (["0", "", "0.25"], 2), (["yes", "no", "yes"], None), (["3", "0.5", "1"], None),
     (["-0.1", "0.5", "1"], None), (["", "", ""], None)],
)  # fmt: skip
def test_only_shares_count_as_agreement(values, known):
    table = table_of(["a", "b", "c"])
    assert shares(table, "agreement") is None
    object.__setattr__(table, "frame", table.frame.append_column("agreement", [values]))
    found = shares(table, "agreement")
    assert (found is None) == (known is None)
    if found is not None:
        assert (found >= 0).sum() == known
