"""Question tables as prompts and letters: every way that answers are written, and what is refused, by row."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from dubio.data.columns import Columns
from dubio.data.groups import repeats
from dubio.data.prompts import PromptTemplate, letters_of, read_prompt_file
from dubio.data.tables import read_table
from dubio.data.texts import hash_rows
from dubio.errors import DubioError

ROWS = [
    {"question": "What flies?", "choices": ["a stone", "a bird", "a fish"], "answer": 1},
    {"question": " Is ice cold? ", "choices": ["yes ", "no"], "answer": 0},
    {"question": "Which {letter} is a vowel?", "choices": ["b", "c", "{choice}", "e"], "answer": 3},
]
PROMPTS = [
    "What flies?\nA. a stone\nB. a bird\nC. a fish\nAnswer:",
    "Is ice cold?\nA. yes\nB. no\nAnswer:",
    "Which {letter} is a vowel?\nA. b\nB. c\nC. {choice}\nD. e\nAnswer:",
]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def changed(row, **values):
    rows = [dict(r) for r in ROWS]
    rows[row] |= values
    return rows


def refusal(path, **options):
    with pytest.raises(DubioError) as caught:
        read_table(path, need_labels=True, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_prompts_letters_and_hashes_in_every_format(tmp_path):
    csv = tmp_path / "t.csv"
    lines = [
        f'"{r["question"]}","{json.dumps(r["choices"]).replace(chr(34), chr(34) * 2)}",{r["answer"]}' for r in ROWS
    ]
    csv.write_text("\n".join(["question,choices,answer", *lines]) + "\n", encoding="utf-8")
    whole = tmp_path / "t.parquet"
    parquet.write_table(pa.Table.from_pylist(ROWS), whole)
    hub = [{**r, "choices": {"text": r["choices"], "label": list("1234")[: len(r["choices"])]}} for r in ROWS]
    nested = jsonl(tmp_path / "hub.jsonl", [{**r, "answerKey": str(r.pop("answer") + 1)} for r in hub])
    for path in (csv, whole, jsonl(tmp_path / "t.jsonl", ROWS), nested):
        table = read_table(path, need_labels=True)
        assert list(table.texts) == PROMPTS, path
        assert table.raw_labels.to_pylist() == ["B", "A", "D"]
        assert table.template == PromptTemplate(tuple("ABCD"))
        assert (table.rows_hash == hash_rows(PROMPTS)).all()
        assert table.label_ids("ABCD").tolist() == [1, 0, 3]
        part = table.take([2, 0])
        assert (list(part.texts), part.template) == ([PROMPTS[2], PROMPTS[0]], table.template)
        assert part.cores[1] == "What flies?\na stone\na bird\na fish"


@pytest.mark.parametrize("answers", [
    ["B", "A", "D"], ["b", " a", "D "], [1, 0, 3], ["1", "0", "3"], [1.0, 0.0, 3.0], ["a bird", "yes", "e"],
])  # fmt: skip
def test_answers_are_letters_indices_or_texts(tmp_path, answers):
    rows = [{**row, "answer": answer} for row, answer in zip(ROWS, answers, strict=True)]
    assert read_table(jsonl(tmp_path / "t.jsonl", rows)).label_ids("ABCD").tolist() == [1, 0, 3]


def test_the_column_as_a_whole_decides_how_answers_are_read(tmp_path):
    rows = [{"question": q, "choices": ["0", "1", "2"], "answer": a} for q, a in (("One?", 1), ("None?", 0))]
    assert read_table(jsonl(tmp_path / "i.jsonl", rows)).raw_labels.to_pylist() == ["B", "A"]
    rows = [{"question": q, "choices": ["7", "1", "2"], "answer": a} for q, a in (("Seven?", "7"), ("One?", "1"))]
    assert read_table(jsonl(tmp_path / "t.jsonl", rows)).raw_labels.to_pylist() == ["A", "B"]
    words = [{"question": q, "choices": ["True", "False"], "answer": a} for q, a in (("So?", True), ("No?", False))]
    template = PromptTemplate(("True", "False"))
    assert read_table(jsonl(tmp_path / "w.jsonl", words), template=template).label_ids(["True", "False"]).tolist() == [
        0,
        1,
    ]


def test_another_template(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", [{**row, "passage": f"Fact {i}."} for i, row in enumerate(ROWS)])
    template = PromptTemplate(
        tuple("abcde"), instruction="Pick one.", context="passage", choice="({letter}) {choice}", cue="A: (", gap=""
    )
    table = read_table(path, template=template, need_labels=True)
    assert table.texts[0] == "Pick one.\nFact 0.\nWhat flies?\n(a) a stone\n(b) a bird\n(c) a fish\nA: ("
    assert table.raw_labels.to_pylist() == ["b", "a", "d"]
    found = read_table(path)  # a passage is found, and then part of the template
    assert (found.template.context, found.texts[1].splitlines()[0]) == ("passage", "Fact 1.")
    assert "no column 'passage' for the context" in refusal(jsonl(tmp_path / "n.jsonl", ROWS), template=found.template)
    assert PromptTemplate.of(json.loads(json.dumps(template.facts()))) == template


@pytest.mark.parametrize(("row", "values", "words"), [
    (1, {"answer": 2}, "line 2: column 'answer' holds '2', which is none of its 2 choices"),
    (0, {"answer": -1}, "line 1: column 'answer' holds '-1'"),
    (2, {"answer": None}, "line 3: column 'answer' is missing"),
    (1, {"choices": []}, "line 2: column 'choices' needs a list of two"), (2, {"choices": ["x"]}, "line 3: column"),
    (1, {"choices": ["yes", " "]}, "line 2: column 'choices' holds a choice that is empty"),
    (1, {"choices": None}, "line 2: column 'choices' needs a list"), (0, {"choices": ["a", None]}, "line 1: column"),
    (2, {"question": "  "}, "line 3: column 'question' is empty"),
])  # fmt: skip
def test_bad_rows_are_named(tmp_path, row, values, words):
    assert words in refusal(jsonl(tmp_path / "t.jsonl", changed(row, **values)))


def test_more_choices_than_letters(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", ROWS)
    assert "line 3: 4 choices for 3 letters (A, B, C)" in refusal(path, template=PromptTemplate(tuple("ABC")))
    many = jsonl(tmp_path / "many.jsonl", changed(1, choices=[f"c{i}" for i in range(27)]))
    assert "line 2: 27 choices are more than there are letters" in refusal(many)


def test_labels_of_choices_must_be_as_many(tmp_path):
    """As hubs hold them, {text, label}; a row without labels, or with others, is named."""
    row = {"question": "What flies?", "choices": {"text": ["a stone", "a bird"], "label": ["A", "B"]}, "answer": "B"}
    for labels in (None, ["A", "B", "C"]):
        other = {**row, "choices": {**row["choices"], "label": labels}}
        path = jsonl(tmp_path / "t.jsonl", [row, other])
        assert "has 2 texts and" in refusal(path)
    fixed = pa.table({
        "question": ["What flies?"], "answer": [1],
        "choices": pa.array([["a stone", "a bird"]], pa.list_(pa.string(), 2)),
    })  # fmt: skip
    parquet.write_table(fixed, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").raw_labels.to_pylist() == ["B"]


def test_a_table_without_choices_is_refused_where_questions_are_asked(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", [{"question": "What flies?", "answer": 1}])
    assert "no columns of questions and lists of choices" in refusal(path, template=PromptTemplate(("A", "B")))
    ready = read_table(path, columns=Columns("question"), template=PromptTemplate(("A", "B")))
    assert ready.texts[0] == "What flies?"  # who names the text column brings ready-made prompts


def test_bad_json_in_csv(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('question,choices,answer\nOne?,"[""a"", ""b""]",0\nTwo?,a|b,1\n', encoding="utf-8")
    assert "line 3: column 'choices' is not a JSON list of texts" in refusal(path)


def test_answers_that_are_not_needed_do_not_stand_in_the_way(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", changed(1, answer=None))
    assert read_table(path).raw_labels is None
    bare = jsonl(tmp_path / "b.jsonl", [{k: v for k, v in row.items() if k != "answer"} for row in ROWS])
    assert read_table(bare).raw_labels is None
    assert "no answer column found" in refusal(bare)
    assert "no column 'key'" in refusal(bare, columns=Columns(label="key"), template=PromptTemplate())


def test_a_table_can_be_read_as_plain_texts(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", [{**row, "category": "x"} for row in ROWS])
    for options in ({"columns": Columns(text="question")}, {"template": False}):
        table = read_table(path, **options)
        assert (table.texts[0], table.template) == ("What flies?", None)
    plain = jsonl(tmp_path / "p.jsonl", [{"question": "Why?", "choices": "few", "label": "a"}])
    assert read_table(plain).texts[0] == "Why?"  # `choices` holds no lists
    assert "take no second text" in refusal(path, columns=Columns(text_pair="category"), template=PromptTemplate())


def test_what_all_prompts_share_does_not_make_them_repeats(tmp_path):
    rows = [
        {"question": q, "choices": [f"{q} up", f"{q} down"], "answer": 0} for q in ("moon", "river", "moon ", "tax")
    ]
    template = PromptTemplate(instruction="Read the question with great care and then pick the one best choice. " * 3)
    table = read_table(jsonl(tmp_path / "t.jsonl", rows), template=template)
    assert repeats(table).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(("settings", "words"), [
    ({"letters": ["A"]}, "two or more"), ({"letters": ["A", "A"]}, "all different"),
    ({"letters": ["A", " B"]}, "blank"),
    ({"choice": "{letter}"}, "holds {letter} and {choice}"), ({"cue": "Answer: "}, "without blanks at its ends"),
    ({"cue": ""}, "without blanks"), ({"gap": "x"}, "blanks only"), ({"letters": "AB"}, "wrong kind"),
    ({"nonsense": 1}, "no setting 'nonsense'"), ({"context": 3}, "wrong kind"),
])  # fmt: skip
def test_bad_templates(settings, words):
    with pytest.raises(DubioError, match=words):
        PromptTemplate.of(settings)


def test_letters_and_prompt_files(tmp_path):
    assert letters_of("ABCD") == tuple("ABCD")
    assert letters_of("True, False") == ("True", "False")
    with pytest.raises(DubioError, match="no answer letters"):
        letters_of("")
    for text in ("[1]", "nonsense"):
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(DubioError, match="JSON"):
            read_prompt_file(tmp_path / "p.json")
    with pytest.raises(DubioError, match="there is no file"):
        read_prompt_file(tmp_path / "absent.json")


@pytest.mark.data
@pytest.mark.parametrize(("name", "letters"), [
    ("commonsense_qa/validation", "ABCDE"), ("arc_easy/test", "ABCDE"), ("openbookqa/test", "ABCD"),
    ("winogrande/train_xs", "AB"), ("mmlu/dev", "ABCD"),
])  # fmt: skip
def test_real_tables(data_root, name, letters):
    path = data_root / f"{name}.parquet"
    raw, table = parquet.read_table(path).to_pylist(), read_table(path, need_labels=True)
    assert "".join(table.template.letters) == letters
    assert table.label_ids(letters).tolist() == [row["answer"] for row in raw]
    for row, prompt in zip(raw, table.texts, strict=True):
        assert prompt.endswith("\nAnswer:")
        for letter, choice in zip(letters, row["choices"], strict=False):
            assert f"\n{letter}. {choice.strip()}" in prompt
