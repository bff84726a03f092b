"""Columns and labels that could be read in two ways are refused with the candidates; what is sure is read."""

import json

import pytest

from dubio.data.labels import map_labels
from dubio.data.tables import Columns, as_table, read_table
from dubio.errors import DubioError
from dubio.workflow.rows import label_names, labelled

STARS = ["1", "2", "3"]


def refuses(held, message, **options):
    with pytest.raises(DubioError) as caught:
        read_table({name: [value] for name, value in held.items()}, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(("columns", "message"), [
    ({"text": "a", "sentence": "b"}, "the text could be 'text' or 'sentence'; name it by --text"),
    ({"content": "a", "review": "b", "comment": "c"}, "could be 'content', 'review' or 'comment'"),
    ({"premise": "a", "hypothesis": "b", "text": "c"}, "could be the pair 'premise' and 'hypothesis' or 'text'"),
    ({"text_a": "a", "text_b": "b", "sentence1": "c", "sentence2": "d"}, "the pair 'text_a' and 'text_b' or the pair"),
])  # fmt: skip
def test_two_columns_that_could_be_the_text(columns, message):
    refuses(columns, message)
    for name in columns:
        assert list(read_table({k: [v] for k, v in columns.items()}, columns=Columns(text=name)).texts) == [
            columns[name]
        ]


def test_columns_that_could_not():
    table = {"message": [17], "text": ["a"], "review": [" "], "body": ["12"], "comment": [None], "content": [["a"]]}
    assert list(read_table(table).texts) == ["a"]
    pair = read_table({"question": ["q"], "sentence": ["s"]})
    assert (list(pair.texts), list(pair.pairs)) == (["q"], ["s"])
    own = read_table({"text": ["a"], "text_pair": ["b"], "review": ["c"]}, columns=Columns(label="review", text="text"))
    assert own.pairs is None
    asked = Columns(text_pair="hypothesis")
    assert list(read_table({"premise": ["a"], "hypothesis": ["b"]}, columns=asked).texts) == ["a"]
    refuses({"premise": "a", "hypothesis": "b", "text": "c"}, "could be 'premise' or 'text'", columns=asked)


def test_two_columns_that_could_be_the_label():
    columns = {"text": "a", "label": "x", "topic": "y", "intent": "z"}
    refuses(columns, "the label could be column 'label', 'intent' or 'topic'; name it by --label", need_labels=True)
    table = {name: [value] for name, value in columns.items()}
    assert read_table(table).raw_labels is None
    assert read_table(table, columns=Columns(label="topic"), need_labels=True).raw_labels.to_pylist() == ["y"]
    used = read_table({"text": ["a"], "category": ["c"], "review": ["r"]}, columns=Columns(text="review"))
    assert used.raw_labels.to_pylist() == ["c"]


@pytest.mark.parametrize("raw", [[1, 2], ["1", "2"], [1.0], ["2"], [2, 1, 2]])
def test_numbers_that_are_names_of_some_classes_and_ids_of_others(raw):
    with pytest.raises(DubioError, match=r"t.csv: the labels .* it knows: 0 1, 1 2, 2 3; give a table with"):
        map_labels(raw, STARS, "t.csv")


def test_numbers_that_have_one_reading():
    assert map_labels([1, 3], STARS).tolist() == [0, 2]
    assert map_labels([0, 1], STARS).tolist() == [0, 1]
    assert map_labels([1, 0, 1], ["0", "1"]).tolist() == [1, 0, 1]
    assert map_labels([1, 2], ["one", "two", "three"]).tolist() == [1, 2]
    assert map_labels([10.0, 2.0], ["2.0", "10.0"]).tolist() == [1, 0]
    with pytest.raises(DubioError, match="row 1: label '1_0'"):
        map_labels(["1_0"], [f"class {i}" for i in range(11)])


def test_booleans_beside_names_are_no_ids():
    with pytest.raises(DubioError, match="label 'False' is not in the model"):
        map_labels(["True", "False"], ["True", "other", "more"])
    with pytest.raises(DubioError, match="row 1: label 'True'"):
        map_labels([True], ["a", "b", "c"])
    assert map_labels([True, False], ["true", "false"]).tolist() == [0, 1]


@pytest.mark.parametrize("values", [[1, 2, 3], [1.0, 2.0, 3.0], ["1", "2", "3"]])
def test_names_taken_from_a_table_are_its_names(values):
    table = as_table({"text": [f"t {i}" for i in values], "label": values})
    names = label_names(table)
    assert names == STARS
    assert labelled(table.take(slice(0, 2)), names).labels.tolist() == [0, 1]


def question(**columns):
    return {"question": ["q"], "choices": [["one", "two", "three"]], **{k: [v] for k, v in columns.items()}}


@pytest.mark.parametrize(("rows", "message"), [
    (question(choices=["2", "1", "0"], answer=0), "from 0 and as the choices' texts: '0' is choice 0 or 2"),
    (question(choices=["1", "0", "5"], answer=1), "'1' is choice 1 or 0 from 0; give letters"),
    (question(choices=["B", "C", "A"], answer="A"), "letters and as the choices' texts: 'A' is choice 0 or 2"),
    (question(answer="A", label="B"), "the answer could be column 'answer' or 'label'"),
    (question(answer="A", options=["a", "b"]), "the choices could be column 'choices' or 'options'"),
    (question(answer="A", context="c", passage="p"), "the context could be column"),
    (question(choices=["yes", "no", "no"], answer="no"), "'no', which is none of its 3 choices"),
])  # fmt: skip
def test_questions_with_two_readings(tmp_path, rows, message):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({name: column[0] for name, column in rows.items()}))
    with pytest.raises(DubioError) as caught:
        read_table(path, need_labels=True)
    assert message in str(caught.value)


def test_answers_that_agree_are_one():
    for rows in (question(answer=1, answerKey="B"), question(choices=["2", "1", "0"], answer=1)):
        assert read_table(rows, need_labels=True).raw_labels.to_pylist() == ["B"]
