"""--drop-overlap: what is refused today is dropped and told; the numbers are those of the table without these rows."""

import csv
import json
import shutil

import pytest

from tiny_classifier import dubio, read_rows

FEW = ("--methods", "softmax_response", "--quiet")


@pytest.fixture
def adapter(cached, tmp_path):
    return shutil.copytree(cached.adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("dubio"))


def rows_to(path, *parts):
    rows = [row for part in parts for row in part]
    with path.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["text", "label", "agreement"])
        writer.writerows([row["text"], row["label"], len(row["text"]) % 10 / 10] for row in rows)
    return path


def test_fit_and_evaluate_without_what_is_known(cached, adapter, tmp_path):
    train, validation, calibration, test = (
        read_rows(getattr(cached, name)) for name in ("train", "validation", "calibration", "test")
    )
    mixed = rows_to(tmp_path / "mixed.csv", train[:30], validation[:5], calibration)
    refused = dubio("fit", adapter, "--calibration", mixed, "--train", cached.train, *FEW)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "remove them from one of the two, or give --drop-overlap" in refused.err
    done = dubio("fit", adapter, "--calibration", mixed, "--train", cached.train, "--drop-overlap", *FEW)
    assert done.code == 0, done
    assert "note: dropped 35 of 435 rows of calibration that are also in train (30), the adapter's" in done.err
    manifest = json.loads((adapter / "dubio" / "manifest.json").read_text())
    assert (manifest["splits"]["calibration"]["rows"], manifest["splits"]["train"]["rows"]) == (400, len(train))

    known = rows_to(tmp_path / "known.csv", calibration[:11], train[:2], test)
    ood = rows_to(tmp_path / "ood.csv", test[:3], read_rows(cached.ood))
    asked = ("--test", known, "--ood", ood, "--report", tmp_path / "one", "--quiet")
    refused = dubio("evaluate", adapter, *asked)
    assert (refused.code, "--drop-overlap" in refused.err) == (2, True)
    done = dubio("evaluate", adapter, *asked, "--drop-overlap")
    assert done.code == 0, done
    assert "note: dropped 13 of 313 rows of test that are also in " in done.err
    assert "note: dropped 3 of" in done.err
    plain = dubio("evaluate", adapter, "--test", rows_to(tmp_path / "t.csv", test), "--ood", cached.ood, "--report",
                  tmp_path / "two", "--quiet")  # fmt: skip
    assert plain.code == 0, plain
    assert "dropped" not in plain.err
    ours, theirs = ((tmp_path / name / "metrics.json").read_text() for name in ("one", "two"))
    assert ours == theirs
    assert "agreement" in ours


def test_nothing_left_is_refused(cached, adapter):
    done = dubio("fit", adapter, "--calibration", cached.train, "--drop-overlap", *FEW)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no row of calibration is left, as all are also in the adapter's training rows" in done.err


def test_train_drops_rows_of_train(cached, tmp_path):
    train, validation = read_rows(cached.train)[:60], read_rows(cached.validation)[:30]
    mixed = rows_to(tmp_path / "mixed.csv", train, validation[:4])
    held = rows_to(tmp_path / "held.csv", validation)
    asked = ("train", "--train", mixed, "--validation", held, "--model", cached.base, "--set", "epochs=1",
             "--out", tmp_path / "new")  # fmt: skip
    refused = dubio(*asked)
    assert (refused.code, "or give --drop-overlap" in refused.err) == (2, True)
    done = dubio(*asked, "--drop-overlap")
    assert done.code == 0, done
    assert "note: dropped 4 of 64 rows of train that are also in validation (4)" in done.err
    assert json.loads((tmp_path / "new" / "dubio_training.json").read_text())["train"]["rows"] == 60
