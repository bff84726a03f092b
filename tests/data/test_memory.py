"""What people hold in memory: read as the file of the same columns is, or refused in one line."""

import csv
import io

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from dubio.data.tables import Columns, as_table, read_table, table_of
from dubio.errors import DubioError

pd = pytest.importorskip("pandas")
TEXTS, LABELS = ["a b", "c d", "e\nf"], ["pos", "neg", "pos"]
COLUMNS = {"id": [7, 8, 9], "text": TEXTS, "label": LABELS}
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]


@pytest.fixture
def file(tmp_path):
    parquet.write_table(pa.table(COLUMNS), tmp_path / "t.parquet")
    return read_table(tmp_path / "t.parquet")


TABLES = {
    "path": lambda path: path,
    "string": str,
    "frame": lambda path: pd.DataFrame(COLUMNS, index=[3, 1, 2]),
    "frame of objects": lambda path: pd.DataFrame(COLUMNS).astype(object),
    "frame of categories": lambda path: pd.DataFrame(COLUMNS).astype({"label": "category", "text": "category"}),
    "data set": lambda path: datasets.Dataset.from_dict(COLUMNS),
    "formatted": lambda path: datasets.Dataset.from_dict(COLUMNS).with_format("torch"),
    "shuffled back": lambda path: datasets.Dataset.from_list(ROWS[::-1]).select([2, 1, 0]),
    "iterable": lambda path: datasets.Dataset.from_dict(COLUMNS).to_iterable_dataset(),
    "arrow": lambda path: pa.table(COLUMNS),
    "batch": lambda path: pa.RecordBatch.from_pydict(COLUMNS),
    "views": lambda path: pa.table({**COLUMNS, "text": pa.array(TEXTS, pa.string_view())}),
    "runs": lambda path: pa.table(
        {**COLUMNS, "label": pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3], pa.int32()), pa.array(LABELS))}
    ),
    "mapping": lambda path: COLUMNS,
    "mapping of arrays": lambda path: {
        "id": torch.tensor([7, 8, 9]), "text": np.array(TEXTS), "label": pd.Series(LABELS),
    },
    "list of mappings": lambda path: ROWS,
    "tuple of mappings": lambda path: tuple(ROWS),
    "generator of mappings": lambda path: (row for row in ROWS),
    "reader": lambda path: csv.DictReader(io.StringIO('id,text,label\n7,a b,pos\n8,c d,neg\n9,"e\nf",pos\n')),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_tables_are_read_as_their_file(tmp_path, file, kind):
    table = as_table(TABLES[kind](tmp_path / "t.parquet"))
    assert list(table.texts) == TEXTS
    assert table.content_hash == file.content_hash
    assert table.label_ids(["neg", "pos"]).tolist() == [1, 0, 1]
    assert [str(value) for value in table.extra("id").to_pylist()] == ["7", "8", "9"]
    assert list(table.take(np.array([2, 0])).texts) == [TEXTS[2], TEXTS[0]]


LISTS = {
    "list": TEXTS, "tuple": tuple(TEXTS), "generator": TEXTS, "array": np.array(TEXTS),
    "objects": np.array(TEXTS, dtype=object), "series": pd.Series(TEXTS), "index": pd.Index(TEXTS),
    "arrow": pa.array(TEXTS), "chunks": pa.chunked_array([TEXTS[:1], TEXTS[1:]]), "own": [np.str_(t) for t in TEXTS],
    "bytes": [text.encode() for text in TEXTS], "scalars": [pa.scalar(text) for text in TEXTS],
    "column": datasets.Dataset.from_dict(COLUMNS)["text"], "keys": dict.fromkeys(TEXTS).keys(),
}  # fmt: skip


@pytest.mark.parametrize("kind", LISTS)
def test_lists_are_texts(kind):
    given = (text for text in TEXTS) if kind == "generator" else LISTS[kind]
    table = as_table(given)
    assert list(table.texts) == TEXTS
    assert table.raw_labels is None


REFUSED = {
    "text": ("I love this film", "no such file; check the path (hub data sets: hub:NAME[/CONFIG]:SPLIT; texts: a list"),
    "long text": ("I love this film. " * 300, "cannot be read (File name too long); name a file"),
    "lines": ("a\nb.csv", "'a\\nb.csv': no such file"),
    "nul": ("a\0b.csv", "is no name of a file"),
    "bytes": (b"a b", "one bytes was given for the texts; give a list, [text, ...]"),
    "none": (None, "a NoneType was given for the texts; give a list"),
    "number": (3, "an int was given for the texts"),
    "set": ({"a", "b"}, "a set was given for the texts; give a list"),
    "file": (io.StringIO("text,label\na,b\n"), "a StringIO was given for the texts"),
    "numbers": ([1, 2], "column 'text' holds numbers, not text"),
    "matrix": (np.array([["a", "b"]]), "the texts have shape (1, 2); give a list, one text a row"),
    "scalar": (np.array("a"), "the texts have shape ()"),
    "tensor": (torch.tensor([1, 2]), "column 'text' holds numbers, not text"),
    "pairs": ([("a", "b"), ("c", "d")], "column 'text' holds list<item: string>, not text"),
    "mixed": (["a", 1], "row 2: column 'text' turns from str to float"),
    "missing": (["a", None], "row 2: column 'text' is missing"),
    "nan": (["a", float("nan")], "row 2: column 'text' is missing"),
    "series": (pd.Series(["a", None, pd.NA]), "row 2: column 'text' is missing"),
    "blank": (["a", " \n"], "row 2: column 'text' is empty"),
    "half": (["a", "b", "c\ud83d"], "row 3: column 'text' holds half a surrogate pair"),
    "latin": ([b"a", b"\xff"], "column 'text' holds bytes that are not UTF-8"),
    "digits in a column": ({"text": ["1", "2.5"]}, "column 'text' holds only numbers"),
    "nothing": ([], "zero rows"),
    "frame without text": (pd.DataFrame({"a": ["x"], "b": ["y"]}), "no text column found; name one of: a, b"),
    "empty frame": (pd.DataFrame({"text": []}), "zero rows"),
    "two of a name": (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "cannot be read as a table (Duplicate"),
    "mixed frame": (pd.DataFrame({"text": ["a", 1]}), "DataFrame cannot be read as a table"),
    "frame with gaps": (pd.DataFrame({"text": ["a", None]}), "row 2: column 'text' is missing"),
    "splits": (datasets.DatasetDict(train=datasets.Dataset.from_dict(COLUMNS)), "several splits were given (train)"),
    "one row": ({"text": "a b", "label": "pos"}, "column 'text' is a str; give a list of rows, or columns as lists"),
    "lengths": ({"text": ["a"], "label": ["x", "y"]}, "several lengths (text 1, label 2)"),
    "name": ({1: ["a"]}, "1 is no name of a column"),
    "half a name": ([{"te\ud83dxt": "a"}], "row 1: 'te\\ud83dxt' is no name of a column"),
    "rows unlike": ([{"text": "a"}, "b"], "row 2 is a str, and others are mappings"),
    "types": ([{"text": "a", "label": 1}, {"text": "b", "label": "x"}], "row 2: column 'label' turns"),
}  # fmt: skip


def test_a_text_of_digits_is_a_text_whatever_stands_beside_it():
    for texts in (["42"], ["42", "2.5"], ["42", "yes"], np.array(["42"])):
        assert [*as_table(texts).texts] == [*texts]
    assert [*table_of(["42"], pairs=["7"]).pairs] == ["7"]


@pytest.mark.parametrize("kind", REFUSED)
def test_all_else_is_refused_in_one_line(kind):
    given, message = REFUSED[kind]
    with pytest.raises(DubioError) as caught:
        as_table(given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("texts", ["a b", pd.DataFrame(COLUMNS), COLUMNS, {"a"}, 3, io.StringIO("a\n")])
def test_table_of_takes_lists_alone(texts):
    with pytest.raises(DubioError, match=r"rows: .* give a list"):
        table_of(texts)
    with pytest.raises(DubioError, match=r"rows: .* give a list"):
        table_of(["a"], pairs=texts)


@pytest.mark.parametrize(("labels", "message"), [
    (["pos", None], "row 2: column 'label' is missing"), ([1.0, float("nan")], "row 2: column 'label' is missing"),
    (["pos", " "], "row 2: column 'label' is missing"), ([[1], [0]], "holds list<item: int64>; a label is one name"),
    ([{"id": 1}, {"id": 0}], "holds struct<id: int64>"), (np.eye(2), "the labels have shape (2, 2)"),
    (torch.eye(2), "the labels have shape (2, 2)"), ("ab", "one str was given for the labels"),
    ([1], "2 texts but 1 labels"), (["x", "y\ud83d"], "row 2: column 'label' holds half a surrogate pair"),
    ([1, [0]], "column 'label' turns from float to list"), (pd.DataFrame({"label": [1, 0]}), "a DataFrame was given"),
])  # fmt: skip
def test_labels_that_are_none(labels, message):
    with pytest.raises(DubioError) as caught:
        table_of(["a", "b"], labels)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [
    ["yes", "no"], [1, 0], torch.tensor([1, 0]), [torch.tensor(1), torch.tensor(0)], np.array([1, 0], dtype=np.uint8),
    [np.int64(1), np.int8(0)], [np.float32(1), np.float32(0)], np.array([True, False]), [True, False],
    [np.bool_(1), np.bool_(0)], ["True", "False"], ["true", " FALSE"], [np.str_("yes"), "no"], ["yes", 0],
    [np.int64(1), "no"],
    pd.Series(["yes", "no"], dtype="category"), pd.array([1, 0], dtype="Int64"), [b"yes", b"no"],
    pa.array(["yes", "no"], pa.string_view()), torch.tensor([1, 0], dtype=torch.bfloat16),
])  # fmt: skip
def test_labels_of_every_kind(labels):
    assert table_of(["a", "b"], labels).label_ids(["no", "yes"]).tolist() == [1, 0]


@pytest.mark.parametrize(("kind", "content"), [
    ("csv", "text,label\na,True\nb,False\n"), ("csv", "text,label\na,TRUE\nb,false\n"),
    ("jsonl", '{"text": "a", "label": true}\n{"text": "b", "label": false}\n'),
    ("jsonl", '{"text": "a", "label": "True"}\n{"text": "b", "label": "False"}\n'), ("parquet", None),
])  # fmt: skip
def test_true_and_false_are_read_alike_in_every_format(tmp_path, kind, content):
    path = tmp_path / f"t.{kind}"
    if content is None:
        parquet.write_table(pa.table({"text": ["a", "b"], "label": [True, False]}), path)
    else:
        path.write_text(content)
    table = read_table(path, need_labels=True)
    assert table.label_ids(["negative", "positive"]).tolist() == [1, 0]
    assert table.label_ids(["True", "False"]).tolist() == [0, 1]
    with pytest.raises(DubioError, match=r"row 1|line [12]"):
        table.label_ids(["negative", "neutral", "positive"])


@pytest.mark.parametrize("label", [
    pa.array([[1], [0]]), pa.array([{"id": 1}, {"id": 0}]), pa.array([{"id": 1}, None]), pa.array([[("a", 1)], []],
    pa.map_(pa.string(), pa.int32())),
])  # fmt: skip
def test_labels_in_files_are_one_a_row(tmp_path, label):
    parquet.write_table(pa.table({"text": ["a", "b"], "label": label}), tmp_path / "t.parquet")
    with pytest.raises(DubioError, match="a label is one name or one id a row"):
        read_table(tmp_path / "t.parquet", need_labels=True)
    assert read_table(tmp_path / "t.parquet").raw_labels is None


def test_views_in_files_are_read_and_written_back(tmp_path):
    columns = {"text": ["a", "b"], "label": ["x", "y"], "raw": [b"1", b"2"], "parts": [["p"], ["q"]]}
    kinds = [pa.string_view(), pa.string_view(), pa.binary_view(), pa.list_(pa.string_view())]
    made = pa.table([pa.array(v, k) for v, k in zip(columns.values(), kinds, strict=True)], names=list(columns))
    table = as_table(made).take(np.array([1]))
    assert table.frame.to_pylist() == [{"text": "b", "label": "y", "raw": b"2", "parts": ["q"]}]
    parquet.write_table(made.select(["text", "label"]), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", need_labels=True).label_ids(["y", "x"]).tolist() == [1, 0]
    assert list(read_table(tmp_path / "t.parquet", columns=Columns("text"), drop_empty=True).texts) == ["a", "b"]


def of_classes(names, ids):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    return datasets.Dataset.from_dict({"text": [f"t {i}" for i in range(len(ids))], "label": ids}, features=features)


def test_ids_that_the_table_names_are_read_by_their_names(tmp_path):
    """neg is 0 in the data set and 1 in the model: the id alone would turn every label round."""
    held = of_classes(["neg", "pos"], [0, 1, 1])
    held.to_parquet(tmp_path / "t.parquet")
    for table in (as_table(held), read_table(tmp_path / "t.parquet"), as_table(held).take(slice(0, 3))):
        assert table.label_ids(["Pos", "Neg"]).tolist() == [1, 0, 0]
        assert table.label_ids(["neg", "pos"]).tolist() == [0, 1, 1]
        assert table.label_ids(["LABEL_0", "LABEL_1"]).tolist() == [0, 1, 1]
        assert table.label_ids(["neutral", "pos", "neg"]).tolist() == [2, 1, 1]
        with pytest.raises(DubioError, match="calls its id '0' 'neg', the model's labels are 0 bad, 1 neg"):
            table.label_ids(["bad", "neg"])
    with pytest.raises(DubioError, match="row 2: label '-1' is not in the model"):
        as_table(of_classes(["neg", "pos"], [0, -1])).label_ids(["neg", "pos"])
