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

from dubio.data.arrow import ArrowColumn, is_text, one_array
from dubio.data.columns import NAME_LABEL, Columns, listed, one_of, text_column
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
    if not any(name in have for name in CHOICES) or (columns.text or QUESTION) not in have:
        return False
    name = one_of(source, CHOICES, "the choices", "remove one")
    assert name is not None
    column = source.frame.column(name)
    if not is_text(column.type):
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
    context = one_of(source, CONTEXTS, "the context", "name it in --prompt, or remove one")
    return replace(PromptTemplate(tuple(ALPHABET[:most])), context=context)


def _choices(source: Source) -> tuple[list[list[str]], list[list[str]] | None]:
    """(choices of each row, their own labels where the table gives some); two texts or more, none of them blank."""
    name = one_of(source, CHOICES, "the choices", "remove one")
    assert name is not None
    column = one_array(source.frame.column(name))
    labels: list[list[str]] | None = None
    if pa.types.is_struct(column.type):
        inside = [field.name for field in column.type]
        if "text" not in inside:
            raise DubioError(f"{source.name}: column {name!r} holds {listed(inside)}, not lists of texts")
        labels = column.field("label").to_pylist() if "label" in inside else None
        column = column.field("text")
    values: list[Any] = column.to_pylist()
    if is_text(column.type):
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
    """`[N]` letters; None where there are none, or several that disagree, and none are needed."""
    have = source.frame.column_names
    names = [columns.label] if columns.label is not None else [name for name in ANSWERS if name in have]
    if not names or names[0] not in have:
        if need or columns.label is not None:
            what = f"no column {names[0]!r}" if names else "no answer column found"
            raise DubioError(f"{source.name}: {what}, and answers are needed; there are: {listed(have)}")
        return None
    found: list[list[int]] = []
    for name in names:
        try:
            found.append(_indices(source, name, choices, template))
        except DubioError:
            if columns.label is not None or (need and len(names) == 1):
                raise
            found.append([])
    if not found[0] or any(other != found[0] for other in found):
        if need:
            one_of(source, names, "the answer", NAME_LABEL)  # which refuses
        return None
    return pa.array([template.letters[index] for index in found[0]])


def _indices(
    source: Source, name: str, choices: tuple[list[list[str]], list[list[str]] | None], template: PromptTemplate
) -> list[int]:
    """`[N]` which choice a column says is right; raises DubioError where a row says none, or two readings fit."""
    values = one_array(source.frame.column(name)).to_pylist()
    readings = _readings(values, choices, template)
    _check_one_reading(source, name, values, readings)
    indices = min(readings.values(), key=lambda found: found.count(None))  # the first of equals
    for row, index in enumerate(indices):
        if index is None:
            raise _bad(source, row, _why(name, values[row], len(choices[0][row]), template))
    return [index for index in indices if index is not None]


def _why(name: str, value: Any, count: int, template: PromptTemplate) -> str:
    if value is None or value != value or not str(value).strip():
        return f"column {name!r} is missing; answer the row or remove it"
    return (
        f"column {name!r} holds {str(value)[:40]!r}, which is none of its {count} choices: give a letter "
        f"({template.letters[0]} to {template.letters[count - 1]}), an index from 0, or the choice's own text"
    )


OWN, LETTER, INDEX, TEXT = "the choices' own labels", "letters", "indices from 0", "the choices' texts"


def _readings(
    values: Sequence[Any], choices: tuple[list[list[str]], list[list[str]] | None], template: PromptTemplate
) -> dict[str, list[int | None]]:
    """Each way to read the column, the surest first -> each row's index, None where it has none that way."""
    rows, labels = choices
    letters = [letter.casefold() for letter in template.letters]
    ways: dict[str, Callable[[int, str], int | None]] = {
        LETTER: lambda row, value: _place(value.casefold(), letters[: len(rows[row])]),
        INDEX: lambda row, value: int(float(value)) if _is_index(value, len(rows[row])) else None,
        TEXT: lambda row, value: _place(value, [choice.strip() for choice in rows[row]]),
    }
    if labels is not None:
        own = labels
        ways = {OWN: lambda row, value: _place(value, [str(label).strip() for label in own[row]]), **ways}
    return {
        way: [None if value is None else read(row, str(value).strip()) for row, value in enumerate(values)]
        for way, read in ways.items()
    }


def _check_one_reading(
    source: Source, name: str, values: Sequence[Any], readings: dict[str, list[int | None]]
) -> None:  # fmt: skip
    """Raises DubioError where two ways read the whole column and disagree; labels of the choices' own settle it."""
    whole = {way: found for way, found in readings.items() if None not in found}
    if len(whole) < 2 or OWN in whole:
        return
    (first, one), *others = whole.items()
    for second, other in others:
        row = next((row for row, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), None)
        if row is not None:
            raise _bad(
                source, row, f"column {name!r} can be read as {first} and as {second}: {str(values[row])[:40]!r} is "
                f"choice {one[row]} or {other[row]} from 0; give letters"
            )  # fmt: skip


def _place(value: str, among: Sequence[str]) -> int | None:
    return among.index(value) if among.count(value) == 1 else None


def _is_index(value: str, count: int) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return number.is_integer() and 0 <= number < count


def _bad(source: Source, row: int, reason: str) -> DubioError:
    return DubioError(f"{source.name}: {source.place(row)}: {reason}")
