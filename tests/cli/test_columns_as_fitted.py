"""Evaluate and score read what was fitted on: the same columns, pairs as pairs, and nothing else in their place."""

import csv
import json
import shutil

import numpy as np
import pytest

from dubio.artifacts.manifest import read_manifest
from dubio.models.adapter.files import RECORD
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from tiny_classifier import dubio, read_rows

FEW = ("--methods", "softmax_response")


def write(path, rows, names):
    with path.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([names, *rows])
    return path


def paired(path, source, names=("premise", "hypothesis", "label"), spare="spare"):
    """Each text cut in two, as a pair; a third column holds other texts."""
    rows = [(row["text"].split(), row["label"]) for row in read_rows(source)]
    return write(path, [(" ".join(t[:2]), " ".join(t[2:]), y, "never read") for t, y in rows], [*names, spare])


@pytest.fixture(scope="module")
def pairs(tiny, tmp_path_factory):
    """An adapter of nobody's record, fitted on columns that its user named, and a table of each split."""
    folder = tmp_path_factory.mktemp("pairs")
    adapter = shutil.copytree(tiny.adapter, folder / "adapter", ignore=shutil.ignore_patterns("dubio"))
    (adapter / RECORD).write_text(json.dumps({"labels": ["food", "sport", "weather"], "max_length": 32}))
    names = ("one", "two", "kind")
    calibration, test = (paired(folder / f"{n}.csv", getattr(tiny, n), names) for n in ("calibration", "test"))
    named = ("--text", "one", "--pair", "two", "--label", "kind")
    done = dubio("fit", adapter, "--calibration", calibration, *named, *FEW, "--cache", folder / "cache")
    assert done.code == 0, done
    return folder, adapter, test


def refused(done, *words):
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
    assert all(word in done.err for word in words), done


def scored(pairs, tmp_path, *options, table=None):
    folder, adapter, test = pairs
    done = dubio("score", adapter, table or test, "--output", tmp_path / "out.csv", *options, "--cache", folder / "c")
    return done, read_rows(tmp_path / "out.csv") if done.code == 0 else None


def test_the_manifest_keeps_the_columns(pairs):
    facts = read_manifest(pairs[1] / "dubio" / "manifest.json").model["input"]
    assert facts == {"pairs": True, "text": "one", "text_pair": "two", "label": "kind"}


@pytest.mark.parametrize("options", [(), ("--text", "one"), ("--pair", "two"), ("--text", "one", "--pair", "two")])
def test_a_forgotten_pair_is_read(pairs, tmp_path, options):
    _, rows = scored(pairs, tmp_path, *options)
    texts, seconds = ([row[name] for row in read_rows(pairs[2])] for name in ("one", "two"))
    logits = extract(load(pairs[1]), texts, seconds, how=Extraction(show=False)).logits.astype(float)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose([float(r["probability"]) for r in rows], (p / p.sum(1, keepdims=True)).max(1), atol=1e-5)


def test_evaluate_reads_the_label_of_the_fit(pairs, tmp_path):
    folder, adapter, test = pairs
    done = dubio("evaluate", adapter, "--test", test, "--report", tmp_path / "report", "--cache", folder / "c")
    assert done.code == 0, done
    found = json.loads((tmp_path / "report" / "metrics.json").read_text())
    accuracy = next(m["value"] for m in found if m["metric"] == "accuracy")
    _, rows = scored(pairs, tmp_path)
    assert accuracy == pytest.approx(np.mean([row["predicted_label"] == row["kind"] for row in rows]))


def test_a_table_without_the_columns_is_refused(pairs, tmp_path, tiny):
    done, _ = scored(pairs, tmp_path, table=tiny.test)
    refused(done, "no column 'one', which was fitted on (name another by --text, --pair or --label); there are: id, te")
    done, _ = scored(pairs, tmp_path, "--text", "text", table=tiny.test)
    refused(done, "no column 'two', which was fitted on")
    other = paired(tmp_path / "other.csv", tiny.test)
    done, rows = scored(pairs, tmp_path, "--text", "premise", "--pair", "hypothesis", table=other)
    assert done.code == 0, done
    _, same = scored(pairs, tmp_path)
    assert [row["probability"] for row in rows] == [row["probability"] for row in same]


def test_single_texts_are_refused_where_a_table_from_elsewhere_has_no_pairs(pairs, tiny):
    folder, adapter, test = pairs
    done = dubio("evaluate", adapter, "--test", test, "--ood", tiny.ood, "--cache", folder / "c")
    refused(done, "these rows are single texts, and dubio was fitted on pairs of texts; give the second texts too")
    done = dubio("evaluate", adapter, "--test", test, "--ood", paired(folder / "ood.csv", tiny.ood),
                 "--cache", folder / "c")  # fmt: skip
    assert done.code == 0, done  # its own names


def test_pairs_are_refused_where_single_texts_were_fitted_on(cached, tmp_path):
    table = paired(tmp_path / "new.csv", cached.test, spare="text")
    done = dubio("score", cached.adapter, table, "--output", tmp_path / "out.csv", "--pair", "hypothesis")
    refused(done, "these rows are pairs of texts, and dubio was fitted on single texts; leave the second texts out")
    done = dubio("score", cached.adapter, table, "--output", tmp_path / "out.csv")
    assert done.code == 0, done  # the column text, though the table has a pair as well
    assert {row["probability"] for row in read_rows(tmp_path / "out.csv")} == {
        next(row["probability"] for row in read_rows(tmp_path / "out.csv"))
    }
    done = dubio("evaluate", cached.adapter, "--test", table, "--text", "premise", "--pair", "hypothesis")
    refused(done, "these rows are pairs of texts, and dubio was fitted on single texts")


def test_an_adapter_of_single_texts_is_not_fitted_on_pairs(cached, tmp_path):
    adapter = shutil.copytree(cached.adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("dubio"))
    table = paired(tmp_path / "new.csv", cached.calibration)
    refused(dubio("fit", adapter, "--calibration", table, *FEW),
            "these rows are pairs of texts, and the adapter was trained on single texts; leave")  # fmt: skip
    record = json.loads((adapter / RECORD).read_text())
    (adapter / RECORD).write_text(json.dumps({**record, "pairs": True}))
    refused(dubio("fit", adapter, "--calibration", cached.calibration, *FEW),
            "these rows are single texts, and the adapter was trained on pairs of texts; give the second")  # fmt: skip
