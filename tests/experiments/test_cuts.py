"""Cuts of a set: disjoint, repeated rows on one side, the same for the same seed, what repeats test dropped."""

import csv

import pyarrow as pa
import pytest
from pyarrow import parquet

from dubio.data.splits import overlap
from dubio.data.tables import read_table
from dubio.errors import DubioError
from dubio_bench.grid.config import DataSet
from dubio_bench.grid.splits import read_split


def table(path, texts, labels=None):
    with path.open("w", newline="") as opened:
        rows = zip(texts, labels or [str(i % 3) for i in range(len(texts))], strict=True)
        csv.writer(opened).writerows([["text", "label"], *rows])
    return path


@pytest.fixture
def folder(tmp_path):
    words = [f"row number {i}" for i in range(200)]
    table(tmp_path / "train.csv", [*words, *words[:40], "seen  in test", "seen in test"])
    table(tmp_path / "test.csv", [f"test row {i}" for i in range(50)] + ["seen in test"])
    return tmp_path


def cut(folder, **changes):
    data = {"train": "train.csv", "test": "test.csv", "rows": {"validation": 0.1, "calibration": 40}, **changes}
    return read_split(DataSet.model_validate(data), folder, False)


def test_no_two_tables_share_a_row_and_none_is_lost(folder):
    split = cut(folder)
    assert set(split.tables) == {"test", "calibration", "validation", "train"}
    names = list(split.tables)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert not overlap(split.tables[first].rows_hash, split.tables[second].rows_hash).any()
    assert sum(split.rows[name] for name in ("calibration", "validation", "train")) == 240
    assert split.dropped == {"train": 2}
    assert split.labels == ("0", "1", "2")


def test_sizes_are_as_asked_up_to_a_group(folder):
    rows = cut(folder).rows
    assert 40 <= rows["calibration"] <= 41
    assert 24 <= rows["validation"] <= 25
    limited = cut(folder, rows={"train": 30, "test": 10, "validation": 5, "calibration": 0.5}).rows
    assert (limited["train"], limited["test"]) == (30, 10)
    assert 120 <= limited["calibration"] <= 121


def test_the_seed_of_the_cut_decides(folder):
    first, again, other = cut(folder), cut(folder), cut(folder, seed=7)
    for name in first.tables:
        assert first.tables[name].content_hash == again.tables[name].content_hash
    assert first.tables["calibration"].content_hash != other.tables["calibration"].content_hash
    assert first.tables["test"].content_hash == other.tables["test"].content_hash


def test_named_tables_are_taken_and_cleaned(folder):
    table(folder / "held.csv", ["test row 3", "held 1", "held 2", "row number 5"], ["0", "1", "2", "0"])
    split = cut(folder, calibration="held.csv")
    assert list(split.tables["calibration"].texts) == ["held 1", "held 2", "row number 5"]
    assert split.dropped["calibration"] == 1
    assert "row number 5" not in list(split.tables["train"].texts)


def test_out_of_domain_rows_need_no_labels(folder):
    (folder / "away.csv").write_text("text\nfar away\n")
    assert len(cut(folder, ood="away.csv").tables["ood"]) == 1


def test_shares_that_leave_nothing_are_refused(folder):
    with pytest.raises(DubioError, match="to train on"):
        cut(folder, rows={"validation": 100, "calibration": 200})
    with pytest.raises(DubioError, match="to train on"):
        cut(folder, rows={"validation": 10, "calibration": 1000})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": "test.csv"}, r"^test\.csv: no row is left as train, .* in test\.csv \(test\) too are dropped"),
        ({"validation": "test.csv"}, r"^test\.csv: no row is left as validation, .* \(test\) too are dropped"),
        ({"calibration": "train.csv"}, r"^train\.csv: no row is left as train, .* in train\.csv \(calibration\) too"),
    ],
)
def test_a_table_that_repeats_another_is_refused(folder, changes, told):
    with pytest.raises(DubioError, match=told):
        cut(folder, **changes)


def test_rows_of_a_cut_keep_the_tables_order(folder):
    numbers = [int(text.split()[-1]) for text in cut(folder, rows={"train": 30}).tables["train"].texts]
    once = [number for number in numbers if number >= 40]  # the others are repeated at the end
    assert once == sorted(once)


def test_rows_without_text_are_an_error_or_left_out(folder):
    table(folder / "train.csv", [f"row {i}" for i in range(90)] + [" ", "last"])
    with pytest.raises(DubioError, match=r"line 92: column 'text' is empty"):
        cut(folder)
    split = cut(folder, drop_empty=True)
    assert sum(split.rows[name] for name in ("calibration", "validation", "train")) == 91
    train = split.tables["train"]
    lines = (folder / "train.csv").read_text().splitlines()
    for row in range(len(train)):  # messages go on naming the line of the file
        assert lines[int(train.place(row).split()[1]) - 1].startswith(f"{train.texts[row]},")


def test_rows_without_text_are_left_out_of_any_kind_of_column(tmp_path):
    texts, pairs = ["a", " ", "c", "d", None], ["p", "q", "", "s", "t"]
    for kind in (pa.string_view(), pa.binary(), pa.string()):
        columns = {"text_a": pa.array(texts, pa.string()).cast(kind), "text_b": pairs, "label": [0, 1, 0, 1, 0]}
        parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
        found = read_table(tmp_path / "t.parquet", drop_empty=True)
        assert (list(found.texts), list(found.pairs), found.place(1)) == (["a", "d"], ["p", "s"], "row 4")
    questions = {"question": ["a", " "], "choices": [["x", "y"]] * 2, "answer": [0, 1]}
    parquet.write_table(pa.table(questions), tmp_path / "q.parquet")
    with pytest.raises(DubioError, match="cannot be dropped"):
        read_table(tmp_path / "q.parquet", drop_empty=True)


def test_a_table_without_any_text_says_so(folder):
    table(folder / "train.csv", [" "] * 5)
    with pytest.raises(DubioError, match="no row holds any text"):
        cut(folder, drop_empty=True)


def test_sets_without_empty_rows_keep_their_keys(folder):
    from dubio_bench.grid.steps import _data_facts

    facts = _data_facts(DataSet(train="train.csv", test="test.csv"), folder)
    assert "drop_empty" not in facts
    assert _data_facts(DataSet(train="train.csv", test="test.csv", drop_empty=True), folder)["drop_empty"] is True
