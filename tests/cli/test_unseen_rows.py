"""Calibration and test rows that the adapter was trained on, or chosen by, are refused, named as its tables or not."""

import json
import shutil

import pytest

from dubio import api, model_api
from dubio.adapters.seen import ROWS
from dubio.data.tables import read_table
from dubio.errors import DubioError
from dubio.models.adapter.files import RECORD
from dubio.models.loading import load
from tiny_classifier import dubio, read_rows, write_table

FEW = ("--methods", "softmax_response")


@pytest.fixture
def adapter(cached, tmp_path):
    return shutil.copytree(cached.adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("dubio"))


def mixed(folder, seen, count, new):
    rows = [*read_rows(seen)[:count], *read_rows(new)]
    return write_table(folder / "mixed.csv", [row["text"] for row in rows], [row["label"] for row in rows])


def refused(done, words):
    assert (done.code, done.out) == (2, ""), done
    assert words in done.err, done
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("count", [1, 100])
def test_calibration_rows_of_the_training_are_refused(cached, adapter, tmp_path, part, count):
    table = mixed(tmp_path, getattr(cached, part), count, cached.calibration)
    done = dubio("fit", adapter, "--calibration", table, *FEW)
    use = {"train": "training", "validation": "validation"}[part]
    refused(done, f"{count} of {400 + count} rows of calibration are also in the adapter's {use} rows (as stored)")
    assert not (adapter / "dubio").exists()


def test_test_rows_of_the_training_are_refused(cached, adapter, tmp_path):
    done = dubio("fit", adapter, "--calibration", cached.calibration, *FEW)
    assert (done.code, "note:" in done.out) == (0, False), done
    done = dubio("evaluate", adapter, "--test", mixed(tmp_path, cached.validation, 7, cached.test))
    refused(done, "7 of 307 rows of test are also in the adapter's validation rows (as stored)")


def test_of_other_adapters_it_is_said_that_nothing_could_be_checked(cached, adapter):
    (adapter / RECORD).write_text(json.dumps({"labels": ["food", "sport", "weather"], "max_length": 32}))
    (adapter / ROWS).unlink()
    done = dubio("fit", adapter, "--calibration", cached.calibration, *FEW)
    assert done.code == 0, done
    assert [line for line in done.out.splitlines() if "note:" in line] == [
        "note: adapter does not tell which rows it was trained on, so dubio could not check that no calibration row is "
        "one of them; give --train"
    ]
    done = dubio("fit", adapter, "--calibration", cached.calibration, "--train", cached.train, *FEW)
    assert (done.code, "note:" in done.out) == (0, False), done


def test_hashes_that_were_lost_are_asked_for(cached, adapter):
    (adapter / ROWS).unlink()
    done = dubio("fit", adapter, "--calibration", cached.calibration, *FEW)
    refused(done, f"{ROWS} cannot tell which rows the adapter was trained on: it is missing; restore it")


def test_a_notebook_is_refused_too(cached, adapter):
    model = load(adapter)
    table = read_table(cached.train, need_labels=True).take(slice(0, 200))
    fit = api.fit(None, model_api.extract(model, table), methods=["softmax_response"])
    with pytest.raises(DubioError, match="200 of 200 rows of calibration are also in the adapter's training"):
        model_api.save(fit, model, adapter, {"calibration": table})
    assert not (adapter / "dubio").exists()
