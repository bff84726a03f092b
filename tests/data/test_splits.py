import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dubio.data.splits import as_hashes, check_disjoint, overlap
from dubio.data.tables import table_of
from dubio.errors import DubioError


def test_disjoint_splits_are_counted():
    report = check_disjoint({"train": table_of(["a", "b", "a", " a"]), "test": table_of(["c"])})
    assert report.rows == {"train": 4, "test": 1}
    assert report.duplicates == {"train": 2, "test": 0}
    assert str(report) == "train: 4 rows (2 repeated); test: 1 rows"


def test_overlap_is_refused():
    long = "word " * 40
    tables = {"train": table_of(["a", long, "b"]), "calibration": table_of(["c"]), "test": table_of(["d", long, " b "])}
    with pytest.raises(DubioError, match=r"2 of 3 rows of test are also in train, such as row 2: 'word word .*…'"):
        check_disjoint(tables)
    stored = tables.pop("train").rows_hash
    check_disjoint(tables)
    with pytest.raises(DubioError, match=r"in train \(as stored\)"):
        check_disjoint(tables, stored={"train": stored})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_overlap_against_sets_of_bytes(left, right):
    # bytes 0 at the ends are what fixed-width strings might drop
    make = lambda xs: np.array([[x] * 2 + [0] * 12 + [0, x % 2] for x in xs], dtype=np.uint8).reshape(-1, 16)  # noqa: E731
    a, b = make(left), make(right)
    assert overlap(a, b).tolist() == [bytes(row) in {bytes(r) for r in b} for row in a]


@pytest.mark.parametrize("wrong", [np.zeros((3, 8), np.uint8), np.zeros((3, 16)), np.zeros(16, np.uint8)])
def test_hashes_of_another_shape(wrong):
    with pytest.raises(DubioError, match="row hashes"):
        as_hashes(wrong)
