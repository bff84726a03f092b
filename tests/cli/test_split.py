"""`dubio split`: the three tables are disjoint, alike and whole, whatever the input; nothing half-written."""

import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from dubio.data.near import near_duplicate_groups
from dubio.data.preparing.splitting import split_table
from dubio.data.splits import check_disjoint
from dubio.data.tables import read_table
from dubio.errors import DubioError
from tiny_classifier import dubio

NAMES = ("train", "calibration", "test")


def frame(rows=600, classes=4, seed=0):
    g = np.random.default_rng(seed)
    words = [f"word{i}" for i in range(400)]
    texts = [" ".join(g.choice(words, 8)) for _ in range(rows)]
    return pd.DataFrame({"id": [f"{i:04}" for i in range(rows)], "text": texts,
                         "label": [f"c{i}" for i in g.choice(classes, rows, p=g.dirichlet(np.full(classes, 3.0)))],
                         "author": [f"a{i}" for i in g.integers(0, 60, rows)]})  # fmt: skip


def written(folder, made, name="data.csv", **options):
    path = folder / name
    made.to_csv(path, index=False, **options)
    return path


def parts(folder, kind="csv", prefix=""):
    return {name: read_table(folder / f"{prefix}{name}.{kind}", need_labels=True) for name in NAMES}


def test_sizes_shares_and_every_row_once(tmp_path):
    whole = frame()
    done = dubio("split", written(tmp_path, whole), "--calibration", "120", "--test", "20%")
    assert done.code == 0, done.err
    assert "train: 360 rows; wrote" in done.out
    found = parts(tmp_path, prefix="data_")
    assert {name: len(table) for name, table in found.items()} == {"train": 360, "calibration": 120, "test": 120}
    check_disjoint(found)
    back = pd.concat([pd.read_csv(tmp_path / f"data_{name}.csv", dtype=str) for name in NAMES])
    pd.testing.assert_frame_equal(back.sort_values("id").reset_index(drop=True), whole)
    share = whole.label.value_counts(normalize=True)
    for table in found.values():
        rows = pd.Series(table.raw_labels.to_pylist()).value_counts()
        assert (rows - share * len(table)).abs().max() < 1
    assert [path.name for path in tmp_path.glob(".dubio*")] == []


def test_near_repeats_and_same_texts_are_on_one_side(tmp_path):
    whole = frame(300)
    twins = whole.assign(text=[f"RT @jo: {t}!!" for t in whole.text], author=whole.id)
    same = whole.assign(text=["  " + t.replace(" ", "  ") for t in whole.text], author="b" + whole.id)
    table = pd.concat([whole, twins, same], ignore_index=True)
    for groups, exact in (("repeats", False), ("none", True), ("author", True)):
        out = tmp_path / groups
        done = dubio("split", written(tmp_path, table), "--groups", groups, "--out", out)
        assert done.code == 0, done.err
        found = parts(out)
        check_disjoint(found)
        if exact:
            continue
        numbers = near_duplicate_groups([text for part in found.values() for text in part.texts])
        sides = np.repeat(range(3), [len(part) for part in found.values()])
        assert all(len(set(sides[numbers == n])) == 1 for n in range(numbers.max() + 1))


def test_groups_by_a_column(tmp_path):
    done = dubio("split", written(tmp_path, frame()), "--groups", "author", "--out", tmp_path / "out", "--seed", "3")
    assert done.code == 0, done.err
    authors = [set(part.extra("author").to_pylist()) for part in parts(tmp_path / "out").values()]
    assert sum(map(len, authors)) == len(set.union(*authors))


def test_what_other_tables_hold_is_left_out(tmp_path):
    whole = frame(400)
    seen = written(tmp_path, whole[:100].assign(text=[t + " !!" for t in whole.text[:100]]), "seen.csv")
    done = dubio("split", written(tmp_path, whole), "--train", "0", "--calibration", "50%", "--test", "rest",
                 "--without", seen, "--out", tmp_path / "out")  # fmt: skip
    assert done.code == 0, done.err
    assert "left out 100 rows that are in the other tables" in done.out
    assert not (tmp_path / "out" / "train.csv").exists()
    rows = [read_table(tmp_path / "out" / f"{name}.csv") for name in ("calibration", "test")]
    assert [len(part) for part in rows] == [150, 150]
    assert not {i for part in rows for i in part.extra("id").to_pylist()} & set(whole.id[:100])
    by = dubio("split", tmp_path / "data.csv", "--without", seen, "--groups", "author", "--out", tmp_path / "by")
    assert by.code == 0, by.err
    known = set(whole.author[:100])
    assert not known & {a for part in parts(tmp_path / "by").values() for a in part.extra("author").to_pylist()}


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "parquet", "csv.gz"])
def test_formats_are_kept(tmp_path, kind):
    whole, path = frame(60), tmp_path / f"data.{kind}"
    if kind == "tsv":
        whole.to_csv(path, sep="\t", index=False)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in whole.to_dict("records")))
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pandas(whole), path)
    else:
        path.write_bytes(gzip.compress(whole.to_csv(index=False).encode()))
    done = dubio("split", path, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = parts(tmp_path / "out", kind.removesuffix(".gz"))
    assert sorted(i for part in found.values() for i in part.extra("id").to_pylist()) == whole.id.tolist()


def test_nothing_is_overwritten_unasked_and_all_appears_together(tmp_path, monkeypatch):
    path, out = written(tmp_path, frame(60)), tmp_path / "out"
    out.mkdir()
    (out / "test.csv").write_text("mine")
    done = dubio("split", path, "--out", out)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "test.csv is there already; name another folder by --out, or give --overwrite" in done.err
    assert [p.name for p in out.iterdir()] == ["test.csv"]
    assert dubio("split", path, "--out", out, "--overwrite").code == 0
    assert (out / "test.csv").read_text().startswith('"id"')
    source = written(out, frame(60), "train.csv")
    again = dubio("split", source, "--out", out, "--overwrite")
    assert (again.code, "is the table that is to be split" in again.err) == (2, True)

    from dubio.data import writing

    real, calls = writing._write, []

    def full(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(writing, "_write", full)
    failed = dubio("split", path, "--out", tmp_path / "new")
    assert (failed.code, "No space left" in failed.err) == (2, True)
    assert [*(tmp_path / "new").iterdir()] == []


HOSTILE = {
    "empty": ("text,label\n", (), "zero rows"),
    "one row": ("text,label\na,x\n", (), "all rows are of one label, 'x'"),
    "one class": ("text,label\na,x\nb,x\nc,x\n", (), "all rows are of one label, 'x'; give rows of several"),
    "two rows": ("text,label\na,x\nb,y\n", (), "its 2 rows leave none for calibration"),
    "labels of one row": ("text,label\n" + "".join(f"word{i},l{i}\n" for i in range(40)), (), "calibration stays"),
    "one group": ("text,label,g\n" + "".join(f"word{i},l{i % 2},1\n" for i in range(40)), ("--groups", "g"),
                  "calibration stays empty, as rows that belong together are never divided: 40 rows in 1 groups"),
    "no label": ("text,other\na,x\n", (), "no label column found"),
    "missing label": ("text,label\na,x\nb,\n", (), "line 3: column 'label' is missing"),
    "no text": ("text,label\na,x\n ,y\n", (), "line 3: column 'text' is empty"),
    "no group column": ("text,label\na,x\nb,y\n", ("--groups", "nope"), "no column 'nope'"),
    "groups by label": ("text,label\na,x\nb,y\n", ("--groups", "label"), "holds the labels"),
    "missing group": ("text,label,g\na,x,1\nb,y,\n", ("--groups", "g"), "line 3: column 'g' is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tables_are_one_line_and_nothing_is_written(tmp_path, name):
    content, options, said = HOSTILE[name]
    (tmp_path / "data.csv").write_text(content)
    done = dubio("split", tmp_path / "data.csv", *options)
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, ""), done
    assert said in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--test", "0.9", "--calibration", "0.2"), "the shares are 1.1 of the table together"),
        (("--test", "61"), "73 rows are asked for, and it has 60"),
        (("--test", "-1"), "no share between 0 and 1 and no number of rows"),
        (("--test", "1.5"), "no share between 0 and 1"),
        (("--test", "nan"), "give a share (0.2 or 20%)"),
        (("--test", "some"), "--test 'some': give a share (0.2 or 20%), a number of rows (2000), or rest"),
        (("--test", "1"), "may be one row or the whole table"),
        (("--test", "rest"), "only one part can be the rest, not train and test"),
        (("--test", "0", "--train", "0", "--calibration", "0"), "no part is asked for"),
        (("--test", "100%"), "the shares are 1.2"),
        (("--without", "data.csv"), "no row is left, as all are in the other tables"),
    ],
)
def test_sizes_that_cannot_be(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, frame(60))
    done = dubio("split", "data.csv", *options)
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert said in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_rows_without_text_are_left_out_when_asked(tmp_path):
    whole = frame(60)
    whole.loc[3, "text"] = " "
    done = dubio("split", written(tmp_path, whole), "--drop-empty", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert sum(map(len, parts(tmp_path / "out").values())) == 59


def test_rare_labels_go_to_train_and_are_told(tmp_path):
    whole = frame(200)
    whole.loc[[5, 9], "label"] = ["once", "twice"]
    whole.loc[11, "label"] = "twice"
    done = dubio("split", written(tmp_path, whole), "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = parts(tmp_path / "out")
    assert {"once", "twice"} <= set(found["train"].raw_labels.to_pylist())
    assert "note: test has no row of" in done.err
    assert "'once'" in done.err
    assert "np." not in done.err


def test_from_python_any_rows(tmp_path):
    whole = frame(100)
    frames = [whole, pa.Table.from_pandas(whole), whole.to_dict("records"), str(written(tmp_path, whole))]
    found = [split_table(rows, {"train": None, "test": 25}, seed=7).tables for rows in frames]
    assert [len(part) for part in found[0].values()] == [75, 25]
    assert all(list(part["test"].texts) == list(found[0]["test"].texts) for part in found)
    with pytest.raises(DubioError, match="no label column"):
        split_table(whole[["text"]])


@pytest.mark.data
@pytest.mark.parametrize(("name", "classes"), [("sst5/train", 5), ("clinc150/validation", 150)])
def test_real_tables(data_root, name, classes):
    table = read_table(data_root / f"{name}.parquet", need_labels=True)
    found = split_table(table, {"train": None, "calibration": 0.25, "test": 500}, seed=1)
    check_disjoint(found.tables)
    assert len(found.tables["test"]) == 500
    assert sum(map(len, found.tables.values())) == len(table)
    share = pd.Series(table.raw_labels.to_pylist()).value_counts(normalize=True)
    assert len(share) == classes
    for part in found.tables.values():
        rows = pd.Series(part.raw_labels.to_pylist()).value_counts().reindex(share.index, fill_value=0)
        assert (rows - share * len(part)).abs().max() < 1.5
    numbers = near_duplicate_groups([text for part in found.tables.values() for text in part.texts])
    sides = np.repeat(range(3), [len(part) for part in found.tables.values()])
    assert len(np.unique(np.stack([numbers, sides]), axis=1)[0]) == numbers.max() + 1
