"""TSV and gzip: the rows and the refusals of the plain CSV, and nothing from a damaged file."""

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dubio.data import formats
from dubio.data.read_csv import read_csv
from dubio.data.tables import read_table
from dubio.data.writing import write_frame
from dubio.errors import DubioError
from table_fuzz import spoilt

CELLS = st.text(st.sampled_from(['"', "\t", ",", "\n", "\r", "\\", "a", "é", " ", "'"]), max_size=8)
ROWS = st.lists(st.tuples(CELLS.map("a{}".format), CELLS), min_size=1, max_size=6)


def refusal(path):
    with pytest.raises(DubioError) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def result(path):
    """What is read, or what is said."""
    try:
        return str(read_table(path).frame.to_pylist())
    except DubioError as error:
        return str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_tsv_as_python_and_pandas_write_and_read_it(tmp_path, rows):
    path = tmp_path / "t.tsv"
    with path.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened, "excel-tab").writerows([["text", "note"], *rows])
    assert [tuple(row.values()) for row in read_csv(path).to_pylist()] == rows
    frame = pa.table({"text": [a for a, _ in rows], "note": [b for _, b in rows]})
    write_frame(frame, path)
    with path.open(newline="", encoding="utf-8") as opened:
        assert [*map(tuple, csv.reader(opened, "excel-tab", strict=True))] == [("text", "note"), *rows]
    assert read_csv(path).to_pylist() == frame.to_pylist()


def test_tsv_of_pandas(tmp_path):
    path = tmp_path / "t.tsv"
    frame = pd.DataFrame({"text": ["a\tb", 'say "hi"', "two\nlines", "a, b"], "label": ["x", "y", "x", "y"]})
    frame.to_csv(path, sep="\t", index=False)
    table = read_table(path, need_labels=True)
    assert list(table.texts) == frame.text.tolist()
    assert [table.place(row) for row in range(4)] == ["line 2", "line 3", "line 4", "line 6"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.tsv", "text,label\na,0\n", "line 1: the columns are separated by commas; separate them by tabs, or name"),
        ("t.csv", "text\tlabel\na\t0\n", "separated by tabs; separate them by commas, or name the file .tsv"),
        ("t.tsv", "text;label\na;0\n", "separated by semicolons; separate them by tabs"),
        ("t.tsv", "text\tlabel\na\tb\tc\n", "line 2 has 3 fields, the header has 2; quote texts that hold tabs"),
        ("t.tsv", 'text\tlabel\n"a" b\t0\n', "line 2: text follows a closing quote"),
        ("t.tsv", 'text\tlabel\n"a\t0\n', "line 2: a quote is opened and never closed"),
        ("t.tsv", "text\ttext\na\tb\n", "column name 'text' appears twice"),
        ("t.tsv", "text\tlabel\n", "zero rows"),
        ("t.tsv", "", "the file is empty"),
        ("t.xlsx.gz", "text\n", "unknown extension '.xlsx.gz'; give one of .csv, .tsv"),
        ("t.parquet.gz", "text\n", "unknown extension '.parquet.gz'"),
        ("t.gz", "text\n", "unknown extension '.gz'"),
    ],
)
def test_what_is_refused(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert said in refusal(path)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.ndjson"])
def test_packed_tables_are_the_plain_ones(tmp_path, name):
    plain, packed = tmp_path / name, tmp_path / f"{name}.GZ"
    write_frame(pa.table({"text": ["a\nb", "c", "d"], "label": ["x", "y", "x"]}), plain)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    ours, theirs = read_table(packed, need_labels=True), read_table(plain, need_labels=True)
    assert ours.content_hash == theirs.content_hash
    assert [ours.place(row) for row in range(3)] == [theirs.place(row) for row in range(3)]
    halves = plain.read_bytes()[:9], plain.read_bytes()[9:]  # as `cat a.gz b.gz` makes it
    packed.write_bytes(b"".join(map(gzip.compress, halves)))
    assert read_table(packed).content_hash == theirs.content_hash


def test_a_spoilt_table_is_read_or_refused_alike_when_it_is_packed(tmp_path):
    for seed in range(240):
        plain = spoilt(seed, tmp_path)
        if plain.suffix != ".parquet":
            packed = tmp_path / f"{plain.name}.gz"
            packed.write_bytes(gzip.compress(plain.read_bytes(), compresslevel=1))
            assert result(packed).replace(str(packed), str(plain)) == result(plain)


def whole():
    g = np.random.default_rng(0)
    texts = "".join(f"{g.integers(10**9)} some words,x\n" for _ in range(4000))
    return gzip.compress(f"text,label\n{texts}".encode())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:-1], "cut short"),
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: data[:5], "cut short"),
        (lambda data: b"text,label\na,b\n", "damaged, or no gzip file"),
        (lambda data: data + b"more", "damaged, or no gzip file"),
        (lambda data: data[:-8] + b"\0\0\0\0" + data[-4:], "damaged, or no gzip file (CRC check failed"),
        (lambda data: b"", "the file is empty"),
    ],
)
def test_a_damaged_packed_file_gives_no_rows(tmp_path, spoil, said):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(spoil(whole()))
    assert said in refusal(path)


def test_every_flipped_byte_is_told_or_harmless(tmp_path):
    path, data = tmp_path / "t.csv.gz", gzip.compress(b"text,label\n" + b"some words,x\n" * 40)
    expected = [("some words", "x")] * 40
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            frame = read_table(path).frame
        except DubioError:
            continue
        assert [tuple(row.values()) for row in frame.to_pylist()] == expected  # the header's time or system


def test_what_unpacks_into_more_than_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MEMORY", 1 << 20)
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n' * 200_000))
    assert path.stat().st_size < 1 << 20
    assert "do not fit into memory" in refusal(path)


def test_a_packed_file_of_a_plain_name_is_told(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(whole())
    assert refusal(path) == f"{path} is packed by gzip; name it t.csv.gz"


def test_the_reader_of_packed_bytes_gives_them_in_any_pieces(tmp_path):
    path, data = tmp_path / "t.csv.gz", bytes(range(256)) * 1000
    path.write_bytes(gzip.compress(data))
    with formats.open_bytes(path) as opened:
        pieces = iter(lambda: opened.read(777), b"")
        assert b"".join(pieces) == data
    with formats.open_bytes(path) as opened, io.BytesIO(data) as plain:
        assert opened.readlines() == plain.readlines()
