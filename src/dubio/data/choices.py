"""Tables of multiple-choice questions: columns question, choices, answer -> prompts and letters.

A table is one of questions where it has a column `question` and a column `choices` (or `options`) of lists of texts; in
CSV a list is written as JSON. Hub tables that hold choices as {text, label} are read too. `answer` (or `answerKey`,
`label`, ...) is a letter, an index counted from 0, or the choice's own text: the column as a whole decides, in that
order. A row may have fewer choices than there are letters: the letters that it lacks are answers that are never right.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from dubio.data.arrow import ArrowColumn, one_array
from dubio.data.columns import Columns, listed, text_column
from dubio.data.prompts import ALPHABET, PromptTemplate
from dubio.data.readers import Source
from dubio.data.texts import Texts
from dubio.errors import DubioError

QUESTION = "question"
CHOICES = ("choices", "options")
ANSWERS = ("answer", "answerKey", "answer_key", "label", "labels", "target")
CONTEXTS = ("context", "passage")


@dataclass(frozen=True)
class Questions:
    """N questions as prompts. cores: `[N]` question and choices alone, which tell rows from one another.

    answers: `[N]` letters, or None where the table has none. template: what the prompts were made with.
    """

    prompts: Texts
    cores: Texts
    answers: ArrowColumn | None
    template: PromptTemplate


def is_question_table(source: Source, columns: Columns) -> bool:
    """Whether the table has questions with lists of choices."""
    have = source.frame.column_names
    name = next((name for name in CHOICES if name in have), None)
    if name is None or (columns.text or QUESTION) not in have:
        return False
    column = source.frame.column(name)
    if not _is_text(column.type):
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_struct)
        return any(test(column.type) for test in lists)
    first = column[0].as_py()  # JSON in a column of text: the first row speaks for all
    return isinstance(first, str) and first.lstrip().startswith("[")


def read_questions(
    source: Source, columns: Columns, template: PromptTemplate | None, *, need_answers: bool
) -> Questions:
    """The prompts of a question table. columns: text names the questions, label the answers, where they differ.

    template: None for the default, with as many letters as the longest row has choices, and with a column `context` or
    `passage` where there is one. need_answers: whether a missing or unreadable answer is an error; else such answers
    are ignored as a whole. Raises DubioError naming the first row that makes no prompt.
    """
    if columns.text_pair is not None:
        raise DubioError(f"{source.name}: questions with choices take no second text; leave the pair column out")
    asked = text_column(source, columns.text or QUESTION)
    choices, labels = _choices(source)
    template = template or _default(source, choices)
    for row, own in enumerate(choices):
        if len(own) > len(template.letters):
            raise _bad(
                source, row, f"{len(own)} choices for {len(template.letters)} letters "
                f"({', '.join(template.letters)}); name more letters"
            )  # fmt: skip
    before: Sequence[str | None] = [None] * len(asked)
    if template.context is not None:
        if template.context not in source.frame.column_names:
            have = listed(source.frame.column_names)
            raise DubioError(f"{source.name}: no column {template.context!r} for the context; there are: {have}")
        before = text_column(source, template.context)
    rows = list(zip(asked, choices, before, strict=True))
    prompts = Texts.of([template.render(question, own, context) for question, own, context in rows])
    cores = Texts.of(["\n".join([question, *own]) for question, own, _ in rows])
    return Questions(prompts, cores, _answers(source, columns, (choices, labels), template, need_answers), template)


def _default(source: Source, choices: Sequence[Sequence[str]]) -> PromptTemplate:
    most = max(len(own) for own in choices)
    if most > len(ALPHABET):
        row = next(row for row, own in enumerate(choices) if len(own) == most)
        raise _bad(source, row, f"{most} choices are more than there are letters")
    context = next((name for name in CONTEXTS if name in source.frame.column_names), None)
    return replace(PromptTemplate(tuple(ALPHABET[:most])), context=context)


def _choices(source: Source) -> tuple[list[list[str]], list[list[str]] | None]:
    """(choices of each row, their own labels where the table gives some); two texts or more, none of them blank."""
    name = next(name for name in CHOICES if name in source.frame.column_names)
    column = one_array(source.frame.column(name))
    labels: list[list[str]] | None = None
    if pa.types.is_struct(column.type):
        inside = [field.name for field in column.type]
        if "text" not in inside:
            raise DubioError(f"{source.name}: column {name!r} holds {listed(inside)}, not lists of texts")
        labels = column.field("label").to_pylist() if "label" in inside else None
        column = column.field("text")
    values: list[Any] = column.to_pylist()
    if _is_text(column.type):
        values = [_json_list(source, name, row, value) for row, value in enumerate(values)]
    for row, own in enumerate(values):
        if not isinstance(own, list) or len(own) < 2:
            raise _bad(source, row, f"column {name!r} needs a list of two choices or more")
        if labels is not None and len(labels[row] or ()) != len(own):
            raise _bad(source, row, f"column {name!r} has {len(own)} texts and {len(labels[row] or ())} labels")
        for choice in own:
            if not isinstance(choice, str) or not choice.strip():
                raise _bad(source, row, f"column {name!r} holds a choice that is empty or not text")
    return values, labels


def _json_list(source: Source, name: str, row: int, value: str | None) -> Any:
    try:
        return json.loads(value or "")
    except (ValueError, RecursionError) as error:
        raise _bad(source, row, f"column {name!r} is not a JSON list of texts") from error


def _answers(
    source: Source, columns: Columns, choices: tuple[list[list[str]], list[list[str]] | None],
    template: PromptTemplate, need: bool,
) -> ArrowColumn | None:  # fmt: skip
    """`[N]` letters; None where there are none and none are needed."""
    have = source.frame.column_names
    name = columns.label or next((name for name in ANSWERS if name in have), None)
    if name is None or name not in have:
        if need or columns.label is not None:
            what = "no answer column found" if name is None else f"no column {name!r}"
            raise DubioError(f"{source.name}: {what}, and answers are needed; there are: {listed(have)}")
        return None
    values = one_array(source.frame.column(name)).to_pylist()
    indices = _by_best(values, choices, template)
    for row, index in enumerate(indices):
        if index is None:
            if not need and columns.label is None:
                return None
            raise _bad(source, row, _why(name, values[row], len(choices[0][row]), template))
    return pa.array([template.letters[index] for index in indices if index is not None])


def _why(name: str, value: Any, count: int, template: PromptTemplate) -> str:
    if value is None or value != value or not str(value).strip():
        return f"column {name!r} is missing; answer the row or remove it"
    return (
        f"column {name!r} holds {str(value)[:40]!r}, which is none of its {count} choices: give a letter "
        f"({template.letters[0]} to {template.letters[count - 1]}), an index from 0, or the choice's own text"
    )


def _by_best(
    values: Sequence[Any], choices: tuple[list[list[str]], list[list[str]] | None], template: PromptTemplate
) -> list[int | None]:
    """Each row's index, None where it has none, by the reading that fits the most rows (the first of equals)."""
    rows, labels = choices
    letters = [letter.casefold() for letter in template.letters]
    readings: list[Callable[[int, str], int | None]] = [
        lambda row, value: _place(value.casefold(), letters[: len(rows[row])]),
        lambda row, value: int(float(value)) if _is_index(value, len(rows[row])) else None,
        lambda row, value: _place(value, [choice.strip() for choice in rows[row]]),
    ]
    if labels is not None:
        own = labels
        readings.insert(0, lambda row, value: _place(value, [str(label).strip() for label in own[row]]))
    best: list[int | None] = [None] * len(values)
    for reading in readings:
        found = [None if value is None else reading(row, str(value).strip()) for row, value in enumerate(values)]
        if found.count(None) < best.count(None):
            best = found
    return best


def _place(value: str, among: Sequence[str]) -> int | None:
    return among.index(value) if value in among else None


def _is_index(value: str, count: int) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return number.is_integer() and 0 <= number < count


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _bad(source: Source, row: int, reason: str) -> DubioError:
    return DubioError(f"{source.name}: {source.place(row)}: {reason}")
