import numpy as np
import pyarrow as pa
import pytest

from dubio.data.labels import map_labels
from dubio.errors import DubioError

NAMES = ["negative", "neutral", "positive"]


@pytest.mark.parametrize("raw", [
    ["positive", " Negative ", "NEUTRAL"], [2, 0, 1], ["2", "0", "1.0"], np.array([2.0, 0.0, 1.0]),
    pa.array(["positive", "negative", "neutral"]), pa.chunked_array([[2], [0, 1]]), ["positive", 0, "1"],
    pa.array(["positive", "negative", "neutral"]).dictionary_encode(), np.array(["positive", "negative", "neutral"]),
    pa.array([2, 0, 1], pa.float32()),
])  # fmt: skip
def test_every_way_to_say_it(raw):
    out = map_labels(raw, NAMES)
    assert out.dtype == np.int64
    assert out.tolist() == [2, 0, 1]


@pytest.mark.parametrize(("raw", "row"), [
    (["positive", "angry", "bad"], 2), ([0, 1, 3], 3), ([0, -1], 2), ([0.5, 1.0], 1), (["positive", "3"], 2),
])  # fmt: skip
def test_unknown(raw, row):
    with pytest.raises(DubioError, match=f"t.csv: row {row}: label .* it knows: 0 negative, 1 neutral, 2 positive"):
        map_labels(raw, NAMES, "t.csv")


@pytest.mark.parametrize("raw", [[0.0, float("nan")], ["positive", None], ["positive", " "], pa.array([1, None])])
def test_missing(raw):
    with pytest.raises(DubioError, match="row 2: the label is missing or NaN"):
        map_labels(raw, NAMES)


def test_an_accent_may_be_written_in_two_ways():
    names = ["ne\u0301gatif", "positif"]  # an e and its accent, as macOS and some exports write it
    assert map_labels(["n\u00e9gatif", "N\u00c9GATIF", "ne\u0301gatif", "positif"], names).tolist() == [0, 0, 0, 1]
    assert map_labels(["ne\u0301gatif"], ["n\u00e9gatif", "positif"]).tolist() == [0]
    both = ["ne\u0301gatif", "n\u00e9gatif"]  # told apart exactly
    assert map_labels([*both, *both], both).tolist() == [0, 1, 0, 1]
    with pytest.raises(DubioError, match="is not in the model"):
        map_labels(["NE\u0301GATIF"], both)


def test_names_that_are_numbers_are_settled_by_the_whole_column():
    stars = ["1", "2", "3"]
    assert map_labels([1, 2, 3], stars).tolist() == [0, 1, 2]
    assert map_labels(["3", "1"], stars).tolist() == [2, 0]
    assert map_labels([0, 1, 2], stars).tolist() == [0, 1, 2]
    with pytest.raises(DubioError, match="row 1: label '0'"):
        map_labels([0, 3], stars)


def test_names_that_differ_in_case_only():
    assert map_labels(["a", "A"], ["A", "a"]).tolist() == [1, 0]
    assert map_labels([True, False], ["false", "true"]).tolist() == [1, 0]
    with pytest.raises(DubioError, match="row 1"):
        map_labels(["AB"], ["ab", "Ab"])
