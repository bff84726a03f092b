import json
import re

import numpy as np
import pytest
from pyarrow import parquet

from dubio.artifacts.store import load_artifact
from dubio.cli import fit
from dubio.cli.common import Session
from dubio.scores.registry import METHODS
from dubio.workflow.evaluation import score_all
from tiny_classifier import LABELS, dubio, one_thread, read_rows, sentences, write_table

UNCERTAINTIES = [f"uncertainty_{name}" for name in METHODS]
ADDED = ("predicted_label", "probability", *UNCERTAINTIES, "error_probability", "decision")


def score(tiny, output, *options, source=None):
    done = dubio("score", tiny.adapter, source or tiny.test, "--output", output, *options)
    assert (done.code, done.err) == (0, ""), done
    return done.out


def test_train_writes_a_plain_adapter(cached, tmp_path):
    train = write_table(tmp_path / "train.csv", *sentences(120, seed=7)[0])
    settings = [part for setting in ("epochs=2", "max_length=32", "show=no", "seed=3") for part in ("--set", setting)]
    done = dubio("train", "--train", train, "--model", cached.base, "--out", tmp_path / "adapter", *settings)
    assert done.code == 0, done
    assert re.search(r"train: 1\d\d rows; validation: 1\d rows\n", done.out)
    assert re.search(r"best epoch [12] of 2, validation accuracy 0\.\d", done.out)
    written = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "dubio_training.json", "tokenizer.json"} <= written
    assert not [name for name in written if name.startswith(".")]
    record = json.loads((tmp_path / "adapter" / "dubio_training.json").read_text())
    assert record["labels"] == list(LABELS)
    assert record["train"]["rows"] + record["validation"]["rows"] == 120
    again = dubio("fit", tmp_path / "adapter", "--calibration", cached.calibration, "--methods", "softmax_response")
    assert again.code == 0, again
    assert again.out.endswith(f"wrote {tmp_path / 'adapter' / 'dubio' / 'manifest.json'}\n")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_score_keeps_the_rows_and_adds_the_verdict(cached, tmp_path, kind):
    output = tmp_path / f"out.{kind}"
    out = score(cached, output, "--risk", "0.1")
    score(cached, tmp_path / f"again.{kind}", "--risk", "0.1")
    assert (tmp_path / f"again.{kind}").read_bytes() == output.read_bytes()
    if kind == "csv":
        rows = read_rows(output)
    elif kind == "jsonl":
        rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    else:
        rows = parquet.read_table(output).to_pylist()
    given = read_rows(cached.test)
    assert list(rows[0]) == ["id", "text", "label", *ADDED, "truncated"]
    assert [{key: row[key] for key in given[0]} for row in rows] == given
    numbers = {name: np.array([float(row[name]) for row in rows]) for name in ADDED[1:-1]}
    assert all(np.isfinite(values).all() for values in numbers.values())
    assert {row["predicted_label"] for row in rows} == set(LABELS)
    assert 1 / 3 <= numbers["probability"].min() <= numbers["probability"].max() <= 1
    wrong = np.array([row["predicted_label"] != row["label"] for row in rows])
    assert 0.05 < wrong.mean() < 0.35
    assert abs(numbers["error_probability"].mean() - wrong.mean()) < 0.1
    answered = np.array([row["decision"] == "answer" for row in rows])
    assert {row["decision"] for row in rows} == {"answer", "abstain"}
    chosen = numbers[f"uncertainty_{load_artifact(cached.adapter)[0].choice.method}"]
    assert chosen[answered].max() < chosen[~answered].min()
    assert out.startswith("At most 10% of the answered rows are wrong, with confidence 90%: ")
    assert out.endswith(f"answered {answered.sum()} of 300 rows; wrote {output}\n")


def test_score_adds_the_named_methods_and_the_deciding_one(cached, tmp_path):
    deciding = load_artifact(cached.adapter)[0].choice.method
    score(cached, tmp_path / "all.csv")
    score(cached, tmp_path / "some.csv", "--methods", "md, entropy")
    whole, some = read_rows(tmp_path / "all.csv"), read_rows(tmp_path / "some.csv")
    kept = {"id", "text", "label", "predicted_label", "probability", "error_probability", "decision", "truncated"}
    assert set(some[0]) == kept | {f"uncertainty_{name}" for name in ("md", "entropy", deciding)}
    assert some == [{key: row[key] for key in some[0]} for row in whole]
    refused = dubio("score", cached.adapter, cached.test, "--output", tmp_path / "no.csv", "--methods", "nonsense")
    assert (refused.code, refused.err.count("\n"), (tmp_path / "no.csv").exists()) == (2, 1, False)
    assert "method 'nonsense' was not fitted; there are: softmax_response" in refused.err


def test_nothing_is_answered_when_nothing_can_be_promised(cached, tmp_path):
    out = score(cached, tmp_path / "out.csv", "--risk", "0.001")
    assert out.startswith("No threshold can be promised: 200 calibration rows do not show")
    assert "answered 0 of 300 rows" in out
    assert {row["decision"] for row in read_rows(tmp_path / "out.csv")} == {"abstain"}


def test_scoring_a_scored_table_replaces_what_was_added(cached, tmp_path):
    score(cached, tmp_path / "one.csv")
    score(cached, tmp_path / "two.csv", source=tmp_path / "one.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


@pytest.fixture(scope="module")
def refitted(tiny, tmp_path_factory):
    """(folder, artefact in memory, its scores of the test rows) of a second fit, like the first."""
    folder = tmp_path_factory.mktemp("refitted")
    session = Session(str(tiny.adapter), quiet=True, artifact=folder, cache=folder / "cache")
    with one_thread():
        artifact = fit.run(session, str(tiny.train), str(tiny.calibration), None)
        rows = session.prepare({"test": session.read(str(tiny.test))})["test"].load()
        return folder, artifact, score_all(artifact, rows)[0]


def test_fitting_twice_gives_the_same_bytes(tiny, refitted):
    folders = tiny.adapter / "dubio", refitted[0] / "dubio"
    names, others = ([path.name for path in sorted(folder.iterdir())] for folder in folders)
    assert names == others
    assert {name.rpartition("-")[0] for name in names if name.endswith(".safetensors")} == {*METHODS, "rows"}
    for name in names:
        one, two = ((folder / name).read_bytes() for folder in folders)
        if name == "manifest.json":
            one, two = (json.loads(text) | {"costs": None, "digest": None} for text in (one, two))
        assert one == two, name


def test_a_new_process_gives_the_same_scores_to_the_bit(cached, refitted, forks, tmp_path):
    folder, artifact, scores = refitted
    output, log = tmp_path / "out.parquet", tmp_path / "log"
    ask = ["score", cached.adapter, cached.test, "--artifact", folder, "--output", output, "--cache", tmp_path / "c"]
    code, _ = forks.run(ask, log)
    assert code == 0, log.read_text()
    written = parquet.read_table(output)
    assert set(scores) == set(METHODS)
    for name, expected in scores.items():
        np.testing.assert_array_equal(written.column(f"uncertainty_{name}").to_numpy(), expected.uncertainty, name)
    chosen = scores[artifact.choice.method].error_probability
    np.testing.assert_array_equal(written.column("error_probability").to_numpy(), chosen)


def test_evaluate_prints_and_reports(cached, tmp_path):
    report = ("--report", tmp_path / "report", "--risk", "0.1")
    done = dubio("evaluate", cached.adapter, "--test", cached.test, "--ood", cached.ood, *report)
    assert done.code == 0, done
    assert "At most 10% of the answered rows are wrong, with confidence 90%: of 200 calibration rows" in done.out
    assert done.out.endswith(f"report: {tmp_path / 'report' / 'index.html'}\n")
    metrics = {(m["method"], m["metric"]): m for m in json.loads((tmp_path / "report" / "metrics.json").read_text())}
    assert set(metrics[("md", "error_roc_auc")]) >= {"method", "metric", "split", "value", "low", "high"}
    rows = read_rows(cached.root / "scored.csv")
    right = np.mean([row["predicted_label"] == row["label"] for row in rows])
    assert metrics[("adapter", "accuracy")]["value"] == pytest.approx(right, abs=0.1)
    for name in METHODS:
        assert 0.3 < metrics[(name, "error_roc_auc")]["value"] < 1
        assert 0 <= metrics[(name, "ood_roc_auc")]["value"] <= 1
    assert metrics[("md", "ood_roc_auc")]["value"] > 0.7


def test_evaluating_one_right_row_leaves_out_what_is_undefined(cached, tmp_path):
    table = write_table(tmp_path / "one.csv", ["again a match"], ["sport"])
    done = dubio("evaluate", cached.adapter, "--test", table, "--report", tmp_path / "report")
    assert (done.code, done.err) == (0, ""), done
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    found = {metric["metric"] for metric in metrics if metric["value"] is not None}
    assert all(metric["why"] for metric in metrics if metric["value"] is None)
    assert "accuracy" in found
    assert not {"error_roc_auc", "error_pr_auc"} & found


def test_methods_lists_all(capsys):
    done = dubio("methods")
    assert done.code == 0
    assert [name for name in METHODS if not re.search(rf"\b{name}\b", done.out)] == []


@pytest.mark.parametrize("command", ["", "train", "fit", "evaluate", "score", "methods", "demo"])
def test_help(command):
    done = dubio(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: dubio {command}".rstrip())


def test_no_command_at_all_shows_the_help():
    done = dubio()
    assert done.code == 2
    assert "Usage: dubio [OPTIONS] COMMAND" in done.out + done.err
