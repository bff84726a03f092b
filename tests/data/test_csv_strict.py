"""The CSV reader against Python's own strict one: the same rows, or a refusal that names the line."""

import csv
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dubio.data import read_csv as reader
from dubio.data.tables import read_table
from dubio.errors import DubioError

PIECES = st.sampled_from(
    ['"', '"', '""', ",", "\n", "\r\n", "\r", "\\", '\\"', "a", "b c", "é", " ", "\ufeff", "x,y\n"]
)


def oracle(path):
    """(rows or None where the strict reader, or the counting of fields, refuses; the line where that row began)."""
    with path.open(encoding="utf-8-sig", newline="") as opened:
        parsed, rows, start = csv.reader(opened, strict=True), [], 1
        try:
            for fields in parsed:
                if fields and rows and len(fields) != len(rows[0]):
                    return None, start
                if fields or (rows and len(rows[0]) == 1):
                    rows.append(fields or [""])
                start = parsed.line_num + 1
        except csv.Error:
            return None, start
    return rows, start


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=14))
def test_the_same_rows_or_a_refusal(tmp_path, pieces):
    path = tmp_path / "t.csv"
    path.write_bytes(("text,label\nfirst,0\n" + "".join(pieces)).encode())
    rows, start = oracle(path)
    if rows is None:
        with pytest.raises(DubioError, match=r"t.csv: line \d+") as caught:
            reader.read_csv(path)
        assert f"line {start}" in str(caught.value)
    else:
        frame = reader.read_csv(path)
        assert [list(row.values()) for row in frame.to_pylist()] == rows[1:]


FAULTS = {
    "stray": ('text,label\na,0\n"b,1\nc,0\n"d" e,1\n', "line 5: text follows a closing quote (opened on line 3)"),
    "swallowed": ('text,label\n"a,0\nb,1\n"c",1\nd,0\n', "line 4: text follows a closing quote (opened on line 2)"),
    "backslash": ('text,label\nfine,0\n"He said \\"hi\\"",1\n', "line 3: text follows a closing quote; in a quoted"),
    "blank after": ('text,label\n"a" ,0\n', "line 2: text follows a closing quote"),
    "open": ('text,label\na,0\n"b,1\nc,0\n', "line 3: a quote is opened and never closed"),
    "open header": ('"text,label\na,0\n', "line 1: a quote is opened and never closed"),
    "few": ('text,label\n"a\nb",0\nc\n', "line 4 has 1 fields, the header has 2"),
    "many": ("text,label\r\na,0\r\nb,0,1\r\n", "line 3 has 3 fields, the header has 2"),
    "between": ('text,label\n"a,0\nb",1,0\n', "line 2 has 3 fields, the header has 2; quote texts that hold commas; a"),
    "nul": (b"text,label\na,0\nb\0c,1\n", "line 3 holds a NUL"),
    "utf-16": ("text,label\na,0\n".encode("utf-16-le"), "line 1 holds a NUL"),
    "utf-16 mark": ("text,label\na,0\n".encode("utf-16"), "line 1: byte 0 is not UTF-8"),
    "semicolons": ("text;label\na, b;0\n", "line 1: the columns are separated by semicolons"),
    "tabs": ("text\tlabel\na\t0\n", "line 1: the columns are separated by tabs"),
    "bars": ("text|label\na|0\n", "line 1: the columns are separated by bars"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_their_line(tmp_path, fault):
    content, message = FAULTS[fault]
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DubioError) as caught:
        read_table(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_fault(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(
        b'\xef\xbb\xbftext,label\r\n"a ""so"" \\ b",0\n5" screen,1\r"two\r\nlines, one text",0\n\n"",1\nlast,"0"'
    )
    frame = reader.read_csv(path)
    assert frame.column("text").to_pylist() == ['a "so" \\ b', '5" screen', "two\r\nlines, one text", "", "last"]
    assert frame.column("label").to_pylist() == ["0", "1", "0", "1", "0"]
    assert [reader.csv_place(path, row) for row in range(5)] == ["line 2", "line 3", "line 4", "line 7", "line 8"]


def test_long_texts_are_read_by_several_threads_and_the_limit_of_others_stays(tmp_path):
    path, before = tmp_path / "t.csv", csv.field_size_limit()
    path.write_text("text,label\n" + f"{'a' * 200_000},0\n" * 40)
    found = []

    def read():
        found.extend(len(read_table(path)) for _ in range(3))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [40] * 12
    assert csv.field_size_limit() == before


def test_batches_join(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_BATCH", 3)
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(10)))
    assert list(read_table(path).texts) == [f"t{i}" for i in range(10)]
    path.write_text("text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(10)) + "x\n")
    with pytest.raises(DubioError, match="line 12 has 1 fields"):
        read_table(path)
