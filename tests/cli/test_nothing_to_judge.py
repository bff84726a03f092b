"""`dubio evaluate` on tables that measure little: no row is wrong, or there is no row."""

import json

from tiny_classifier import dubio, one_thread, read_rows, write_table  # noqa: F401


def test_a_table_without_errors_is_evaluated_and_reported(cached, tmp_path):
    done = dubio("score", cached.adapter, cached.test, "--output", tmp_path / "scored.csv")
    assert done.code == 0, done
    rows = read_rows(tmp_path / "scored.csv")
    table = write_table(tmp_path / "right.csv", [r["text"] for r in rows], [r["predicted_label"] for r in rows])
    done = dubio("evaluate", cached.adapter, "--test", table, "--report", tmp_path / "report")
    assert (done.code, done.err) == (0, ""), done
    assert f"Of {len(rows)} test rows 0 are wrong (accuracy 100.0%)" in done.out
    assert "no row is wrong" in done.out
    metrics = {(m["method"], m["metric"]): m for m in json.loads((tmp_path / "report" / "metrics.json").read_text())}
    assert metrics["adapter", "accuracy"]["value"] == 1.0
    assert metrics["softmax_response", "error_roc_auc"]["value"] is None
    assert "no row is wrong" in metrics["softmax_response", "error_roc_auc"]["why"]
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "ROC-AUC is undefined" in page


def test_a_table_without_rows_is_refused_in_one_line(cached, tmp_path):
    (tmp_path / "none.csv").write_text("text,label\n")
    done = dubio("evaluate", cached.adapter, "--test", tmp_path / "none.csv")
    assert done.code == 2
    assert "row" in done.err
    assert done.err.count("\n") == 1
