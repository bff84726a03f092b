"""Rows that are longer than the model reads are counted and said by every command, and marked where they are scored."""

import json
import shutil

import pytest

from dubio.artifacts.manifest import _canonical, read_manifest
from dubio.artifacts.store import load_artifact
from dubio.report.card import render_card
from tiny_classifier import dubio, read_rows, sentences, write_table

CUT = 7  # rows
QUICK = ("--methods", "softmax_response,entropy")


def lengthened(path, rows):
    """The rows of a table, the first CUT with more words than the model has positions (64; it was trained on 32)."""
    texts = [row["text"] + (" today we saw it again" * 15 if i < CUT else "") for i, row in enumerate(rows)]
    return write_table(path, texts, [row["label"] for row in rows])


@pytest.fixture(scope="module")
def long_test(tiny, tmp_path_factory):
    return lengthened(tmp_path_factory.mktemp("long") / "test.csv", read_rows(tiny.test))


def test_score_says_and_marks_them(tiny, long_test, tmp_path):
    done = dubio("score", tiny.adapter, long_test, "--output", tmp_path / "out.csv", "--cache", tmp_path / "cache")
    assert done.code == 0, done
    assert done.err == f"note: {CUT} of 300 new rows are longer than 32 tokens, and their end is not read\n"
    marked = [row["truncated"] for row in read_rows(tmp_path / "out.csv")]
    assert marked == ["true"] * CUT + ["false"] * (300 - CUT)


def test_evaluate_says_and_reports_them(tiny, long_test, tmp_path):
    rows = read_rows(tiny.test)
    long_ood = lengthened(tmp_path / "ood.csv", [{**row, "text": f"{row['text']} elsewhere"} for row in rows])
    report, more = tmp_path / "report", ("--cache", tmp_path / "cache")
    done = dubio("evaluate", tiny.adapter, "--test", long_test, "--ood", long_ood, "--report", report, *more)
    assert done.code == 0, done
    for name in ("test", "ood"):
        assert f"note: {CUT} of 300 {name} rows are longer than 32 tokens, and their end is not read\n" in done.err
    page = (report / "index.html").read_text()
    assert f'<th scope="row">test</th><td>300</td><td>0</td><td>{CUT}</td>' in page
    assert '<th scope="row">calibration</th><td>400</td><td>0</td><td>0</td>' in page


def test_fit_says_them_and_keeps_their_number(tiny, tmp_path):
    adapter = shutil.copytree(tiny.adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("dubio"))
    rows = read_rows(tiny.calibration)
    calibration = lengthened(tmp_path / "calibration.csv", rows)
    ask = ("fit", adapter, "--calibration", calibration, "--cache", tmp_path / "cache", *QUICK)
    said = f"note: {CUT} of {len(rows)} calibration rows are longer than "
    done = dubio(*ask, "--max-length", 64)
    assert (done.code, done.err) == (0, f"{said}64 tokens, and their end is not read\n"), done
    assert read_manifest(adapter / "dubio" / "manifest.json").splits["calibration"].truncated == CUT
    assert f"| calibration | {len(rows)} | 0 | {CUT} |" in (adapter / "dubio" / "README.md").read_text()
    more = "their end is not read (the model takes up to 64, by --max-length)"
    assert f"{said}32 tokens, and {more}\n" in dubio(*ask).err


def test_train_says_them_and_keeps_their_number(tiny, tmp_path):
    texts, labels = sentences(120, seed=7)[0]
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    train, validation = (
        lengthened(tmp_path / "train.csv", rows[:80]),
        write_table(tmp_path / "validation.csv", texts[80:], labels[80:]),
    )
    settings = [part for setting in ("epochs=1", "show=no", "rank=2") for part in ("--set", setting)]
    done = dubio("train", "--train", train, "--validation", validation, "--model", tiny.base, "--out",
                 tmp_path / "adapter", *settings)  # fmt: skip
    assert done.code == 0, done
    assert f"note: {CUT} train rows are longer than the 64 tokens that are read" in done.err
    assert "validation rows are longer" not in done.err
    record = json.loads((tmp_path / "adapter" / "dubio_training.json").read_text())
    assert (record["train"]["truncated"], record["validation"]["truncated"], record["max_length"]) == (CUT, 0, 64)


def test_an_artifact_that_does_not_know_their_number_loads(tiny, tmp_path):
    """As dubio wrote them before it counted."""
    adapter = shutil.copytree(tiny.adapter, tmp_path / "adapter")
    path = adapter / "dubio" / "manifest.json"
    body = json.loads(path.read_text())
    del body["digest"]
    for facts in body["splits"].values():
        assert facts.pop("truncated") == 0
    path.write_text(_canonical(body))
    artifact, _ = load_artifact(adapter)
    assert {facts.truncated for facts in artifact.splits.values()} == {None}
    assert "| calibration | 400 | 0 |  | `" in render_card(artifact)
