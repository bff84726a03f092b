import csv
import json

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from dubio.data.tables import Columns, read_table, table_of
from dubio.data.writing import write_frame
from dubio.errors import DubioError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40).map(lambda t: "a" + t)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def complains(path, *fragments, **options):
    with pytest.raises(DubioError) as caught:
        read_table(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message, message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT, min_size=1, max_size=8))
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "csv-python"])
def test_round_trip(tmp_path, kind, texts):
    path = tmp_path / f"t.{kind.split('-')[0]}"
    if kind == "csv-python":
        with path.open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened, quoting=csv.QUOTE_ALL).writerows([["text", "label"], *([t, "x"] for t in texts)])
    else:
        write_frame(pa.table({"text": texts, "label": ["x"] * len(texts)}), path)
    table = read_table(path, need_labels=True)
    assert list(table.texts) == texts
    assert table.raw_labels.to_pylist() == ["x"] * len(texts)
    assert table.rows_hash.shape == (len(texts), 16)
    assert table.content_hash == table_of(texts, ["x"] * len(texts)).content_hash


def test_extras_keep_their_text_and_slices_keep_their_lines(tmp_path):
    path = write(tmp_path / "t.csv", 'id,text,label,agreement\n007,"a\nb",pos,0.5\n\n008,c,neg,\n009,d,pos,1\n')
    table = read_table(path)
    assert table.extra("id").to_pylist() == ["007", "008", "009"]
    np.testing.assert_array_equal(table.numbers("agreement"), [0.5, np.nan, 1.0])
    part = table.take(np.array([False, True, True]))
    assert list(part.texts) == ["c", "d"]
    assert part.extra("id").to_pylist() == ["008", "009"]
    assert (part.rows_hash == table.rows_hash[1:]).all()
    assert [table.place(row) for row in range(3)] == ["line 2", "line 5", "line 6"]
    assert part.place(0) == "line 5"
    assert list(table.texts[1:]) == ["c", "d"]
    assert table.texts[-1] == "d"
    with pytest.raises(DubioError, match="line 5: label 'neg' is not in the model; it knows: 0 pos, 1 other"):
        table.label_ids(["pos", "other"])
    with pytest.raises(DubioError, match="no column 'x'; there are: id, text"):
        table.extra("x")
    with pytest.raises(DubioError, match="not numbers"):
        table.numbers("label")


def test_default_columns_and_pairs(tmp_path):
    path = write(tmp_path / "t.jsonl", '{"question": "q", "sentence": "s", "label": 1}\n')
    table = read_table(path)
    assert (list(table.texts), list(table.pairs), table.raw_labels.to_pylist()) == (["q"], ["s"], [1])
    single = read_table(path, columns=Columns(text="sentence"))
    assert single.pairs is None
    assert not (single.rows_hash == table.rows_hash).all()


def test_hashes_ignore_whitespace_in_rows_but_not_in_contents():
    one, two = table_of(["a  b\n", "c"]), table_of(["a b", "c"])
    assert (one.rows_hash == two.rows_hash).all()
    assert one.content_hash != two.content_hash
    assert table_of(["ab", "c"]).content_hash != table_of(["a", "bc"]).content_hash
    assert not (table_of(["a b"]).rows_hash == table_of(["a"], pairs=["b"]).rows_hash).all()


def test_incomplete_labels_are_ignored_unless_needed(tmp_path):
    path = write(tmp_path / "t.csv", "text,label\na,x\nb,\n")
    assert read_table(path).raw_labels is None
    complains(path, "line 3", "'label'", "missing", need_labels=True)
    complains(path, "line 3", columns=Columns(label="label"))
    with pytest.raises(DubioError, match="no complete label column"):
        read_table(path).label_ids(["x"])


CSV_FAULTS = {
    "ragged": ("text,label\na,b\nc,d,e\n", "line 3 has 3 fields, the header has 2"),
    "short": ("text,label\n\na,b\nc\n", "line 4 has 1 fields"),
    "open": ('text,label\na,"b\nc,d\n', "line 2: a quote is opened and never closed"),
    "open_early": ('text,label\na,b\n"c,d\ne,f\n', "line 3: a quote is opened and never closed"),
    "latin": ("text,label\na,b\ncaf\xe9,d\n".encode("latin-1"), "line 3: byte 18 is not UTF-8"),
    "zero": ("text,label\n", "zero rows"),
    "nothing": ("", "zero rows"),
    "doubled": ("text,text\na,b\n", "'text' appears twice"),
    "blank": ('text,label\na,b\n"  ",c\n', "line 3: column 'text' is empty"),
    "blank_line": ("text\na\n\nb\n", "line 3: column 'text' is empty"),
    "numbers": ("text,label\n1,a\n-2.5e3,b\n", "only numbers"),
    "no_text": ("a,b\n1,2\n", "no text column found; name one of: a, b"),
    "pair": ("premise,hypothesis\na,b\nc,\n", "line 3: column 'hypothesis' is empty"),
}  # fmt: skip


@pytest.mark.parametrize("fault", CSV_FAULTS)
def test_csv_faults(tmp_path, fault):
    content, message = CSV_FAULTS[fault]
    complains(write(tmp_path / "t.csv", content), "t.csv", message)


def test_quotes_that_are_closed_are_no_fault(tmp_path):
    for tail in ('"a\nb"', '""', '"x"""', '"""y"', 'he "said'):
        path = write(tmp_path / "t.csv", f"text,label\na,{tail}")
        assert len(read_table(path)) == 1
    assert list(read_table(write(tmp_path / "t.csv", b"\xef\xbb\xbftext\r\na\r\nb\r\n")).texts) == ["a", "b"]


def test_bad_byte_beyond_the_first_block(tmp_path, monkeypatch):
    monkeypatch.setattr("dubio.data.read_csv._BLOCK", 7)
    content = "text\näöü\nüüüü\nab".encode() + b"\xff\n"
    with pytest.raises(UnicodeDecodeError) as oracle:
        content.decode()
    complains(write(tmp_path / "t.csv", content), f"line 4: byte {oracle.value.start} ")


JSON_FAULTS = {
    "broken": ('{"text": "a"}\n\n{"text": \n', "line 3 is not JSON"),
    "list": ('{"text": "a"}\n[1]\n', "line 2 is not a JSON object"),
    "latin": (b'{"text": "a"}\n{"text": "\xe9"}\n', "line 2: its byte 10 is not UTF-8"),
    "doubled": ('{"text": "a", "text": "b"}\n', "line 1: key 'text' appears twice"),
    "mixed": ('{"text": "a", "label": 1}\n{"text": "b", "label": "x"}\n', "line 2: column 'label' turns from float to"),
    "missing": ('{"text": "a"}\n\n{"label": "b"}\n', "line 3: column 'text' is missing"),
    "numbers": ('{"text": 1}\n', "holds numbers"),
    "lists": ('{"text": ["a"]}\n', "not text"),
    "half": ('{"text": "a"}\n{"text": "\\ud83d"}\n', "line 2: column 'text' holds half a surrogate pair"),
    "empty": ("\n\n", "zero rows"),
}


@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_jsonl_faults(tmp_path, fault):
    content, message = JSON_FAULTS[fault]
    complains(write(tmp_path / "t.jsonl", content), "t.jsonl", message)


def test_jsonl_over_several_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("dubio.data.read_jsonl._BATCH", 2)
    rows = [{"text": f"t{i}", **({"id": i} if i > 2 else {}), "when": "2020-01-01"} for i in range(5)]
    table = read_table(write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows))))
    assert table.extra("id").to_pylist() == [None, None, None, 3, 4]
    assert table.extra("when").to_pylist() == ["2020-01-01"] * 5
    mixed = "\n".join(json.dumps({"text": "a", "label": v}) for v in (1, 2, "x"))
    complains(write(tmp_path / "t.jsonl", mixed), "a column changes its type")


def test_nan_label_in_jsonl(tmp_path):
    path = write(tmp_path / "t.jsonl", '{"text": "a", "label": 1.0}\n{"text": "b", "label": NaN}\n')
    complains(path, "line 2", "missing or NaN", need_labels=True)


def test_damaged_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"text": [f"some text {i}" for i in range(500)]}), path, compression="none")
    whole = path.read_bytes()
    for cut in (0, 3, len(whole) // 2, len(whole) - 1):
        complains(write(path, whole[:cut]), "damaged or truncated")
    flipped = bytearray(whole)
    flipped[whole.index(b"some text 250")] = 0xFF
    complains(write(path, bytes(flipped)), "t.parquet")


def test_parquet_kinds(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode(), "label": [1, 0, 1]}), path)
    table = read_table(path)
    assert list(table.texts) == ["a", "b", "a"]
    assert table.label_ids(["n", "y"]).tolist() == [1, 0, 1]
    parquet.write_table(pa.table({"text": pa.array([b"ok", b"\xff"])}), path)
    complains(path, "not UTF-8")
    parquet.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    complains(path, "appears twice")


def test_paths_and_columns(tmp_path):
    complains(tmp_path / "none.csv", "none.csv: no such file")
    complains(tmp_path, "is a folder")
    complains(write(tmp_path / "t.xlsx", "x"), "unknown extension '.xlsx'", ".csv, .tsv, .jsonl")
    path = write(tmp_path / "t.csv", "text,other\na,b\n")
    complains(path, "no column 'nope'; there are: text, other", columns=Columns(text="nope"))
    complains(path, "no label column found", need_labels=True)
    complains(path, "different columns", columns=Columns(text="text", text_pair="text"))


class FakeHub:
    def __init__(self, known):
        self.known, self.asked = known, []

    def load_dataset(self, name, config, split):
        self.asked.append((name, config, split))
        if (name, config) not in self.known:
            raise FileNotFoundError(f"Dataset '{name}' doesn't exist\nmore")
        if not split.startswith("validation"):
            raise ValueError('Unknown split "x". Should be one of')
        return datasets.Dataset.from_dict({"sentence": ["good", "bad"], "label": [1, 0]})


@pytest.mark.parametrize(("where", "found"), [
    ("hub:imdb:validation", ("imdb", None)), ("hub:owner/name:validation", ("owner/name", None)),
    ("hub:glue/sst2:validation", ("glue", "sst2")), ("hub:nyu-mll/glue/sst2:validation", ("nyu-mll/glue", "sst2")),
])  # fmt: skip
def test_hub(monkeypatch, where, found):
    hub = FakeHub({found})
    monkeypatch.setattr("dubio.data.readers.import_module", lambda name: hub)
    table = read_table(where, need_labels=True)
    assert list(table.texts) == ["good", "bad"]
    assert table.name == where
    assert hub.asked[-1] == (*found, "validation")
    read_table(f"{where}[:2]")
    assert hub.asked[-1] == (*found, "validation[:2]")
    complains(where.replace("validation", "x"), "Unknown split")
    complains("hub:absent:validation", "no such data set")
    for malformed in ("hub:imdb", "hub:a//b:x", "hub:a/b/c/d:x"):
        complains(malformed, "expected hub:NAME[/CONFIG]:SPLIT")


def test_hub_without_datasets(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr("dubio.data.readers.import_module", absent)
    complains("hub:imdb:test", "pip install 'dubio[hub]'")


def test_writing_refuses_before_and_leaves_nothing(tmp_path):
    with pytest.raises(DubioError, match="unknown extension"):
        write_frame(pa.table({"a": [1]}), tmp_path / "t.txt")
    with pytest.raises(DubioError, match="does not fit a CSV"):
        write_frame(pa.table({"a": [[1]]}), tmp_path / "t.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DubioError, match="is a folder"):
        write_frame(pa.table({"a": [1]}), tmp_path / "d.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["d.csv"]
    with pytest.raises(DubioError, match="3 texts but 2 labels"):
        table_of(["a", "b", "c"], [0, 1])
