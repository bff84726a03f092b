"""Which column holds the text, which its pair, which the label; and whether they hold what they should."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dubio.data.arrow import ArrowColumn, compute, is_bytes, is_text, one_array
from dubio.data.readers import Source
from dubio.data.texts import Texts
from dubio.errors import DubioError

PAIRS = (("text", "text_pair"), ("text_a", "text_b"), ("sentence1", "sentence2"), ("premise", "hypothesis"),
         ("question", "sentence"), ("question1", "question2"), ("text1", "text2"))  # fmt: skip
TEXTS = ("text", "sentence", "content", "tweet", "review", "comment", "message", "body", "question")
LABELS = ("label", "labels", "target", "class", "category", "sentiment", "intent", "topic")
NAME_LABEL = "name it by --label, in Python by Columns(label=...)"
_NAME_TEXT = "name it by --text, in Python by Columns(text=...)"
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; None means the one column or pair among the defaults that the table has.

    said: what a message says of a named column that is not there.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    said: str = ""


def choose(columns: Columns, source: Source, *, need_label: bool = False) -> Columns:
    """`columns` with the open ones filled in; label stays None where there is none, or none is needed and several are.

    Raises DubioError listing the columns where a named one, or any text column, is missing, and naming the candidates
    where more than one could be meant.
    """
    have = source.frame.column_names
    for name in (columns.text, columns.text_pair, columns.label):
        if name is not None and name not in have:
            raise DubioError(f"{source.name}: no column {name!r}{columns.said}; there are: {listed(have)}")
    text, pair = columns.text, columns.text_pair
    if text is None:
        text, pair = _one_text(source, pair, columns.label)
    named = [name for name in (text, pair, columns.label) if name is not None]
    if len(set(named)) < len(named):
        raise DubioError(f"{source.name}: text, pair and label must be different columns; there are: {listed(have)}")
    label = columns.label or one_of(source, LABELS, "the label", NAME_LABEL, refuse=need_label, but=(text, pair))
    return Columns(text, pair, label)


def one_of(
    source: Source, names: Sequence[str], what: str, remedy: str, *, refuse: bool = True,
    but: Sequence[str | None] = (),
) -> str | None:  # fmt: skip
    """The one of `names` that the table has; None where it has none, or several and not `refuse`.

    Raises DubioError naming the candidates where it has several and `refuse`: which is meant is not for us to guess.
    """
    found = [name for name in names if name in source.frame.column_names and name not in but]
    if len(found) > 1 and refuse:
        raise DubioError(f"{source.name}: {what} could be column {_either(map(repr, found))}; {remedy}")
    return found[0] if len(found) == 1 else None


def _one_text(source: Source, pair: str | None, label: str | None) -> tuple[str, str | None]:
    """(text, pair) as the table's columns have them; the pair is given, or found together with its text."""
    have = source.frame.column_names
    pairs = [p for p in PAIRS if p[0] in have and (p[1] == pair if pair is not None else p[1] in have)]
    paired = {name for p in pairs for name in p}
    singles = [name for name in TEXTS if name in have and name not in (pair, label) and name not in paired]
    if len(pairs) + len(singles) > 1:  # a column of numbers is none of texts
        singles = [name for name in singles if _holds_text(source, name)] or singles[: not pairs]
    readings: list[tuple[str, str | None]] = [*pairs, *((name, pair) for name in singles)]
    if len(readings) > 1:
        either = _either([repr(a) if b is None or b == pair else f"the pair {a!r} and {b!r}" for a, b in readings])
        raise DubioError(f"{source.name}: the text could be {either}; {_NAME_TEXT}")
    if not readings:
        raise DubioError(f"{source.name}: no text column found; name one of: {listed(have)}")
    return readings[0]


def _holds_text(source: Source, name: str) -> bool:
    column = one_array(source.frame.column(name))
    if not (is_text(column.type) or is_bytes(column.type)):
        return False
    try:
        texts = column.cast(pa.large_string())
    except pa.ArrowException:
        return True  # not UTF-8: said where it is read
    blank = compute.match_substring_regex(texts, r"^\s*$")
    numbers = compute.or_(compute.fill_null(blank, True), compute.match_substring_regex(texts, _NUMBER))
    return not compute.all(compute.fill_null(numbers, True)).as_py()


def _either(names: Iterable[str]) -> str:
    held = list(names)
    return ", ".join(held[:-1]) + f" or {held[-1]}"


def listed(names: Sequence[str]) -> str:
    """The first twenty names, none at a length that nobody reads, for a message."""
    shown = [name if len(name) <= 60 else f"{name[:59]}…" for name in names[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def text_column(source: Source, name: str, *, handed: bool = False) -> Texts:
    """The column as N non-blank strings; raises DubioError naming the first row that is missing, blank or not text.

    handed: somebody has handed over these strings as texts, so that one of digits alone ("42") is no sign of the wrong
    column: what is asked of one text must not depend on the others.
    """
    column = one_array(source.frame.column(name))
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        raise DubioError(f"{source.name}: column {name!r} holds numbers, not text; name the text column")
    if not (is_text(kind) or is_bytes(kind) or pa.types.is_null(kind)):
        raise DubioError(f"{source.name}: column {name!r} holds {kind}, not text; name the text column")
    _refuse(source, name, compute.is_null(column), "is missing; fill it or remove the row")
    try:
        texts = Texts.of(column)
    except pa.ArrowException as error:
        raise DubioError(f"{source.name}: column {name!r} holds bytes that are not UTF-8; store text") from error
    blank = compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(texts.array)), 0)
    _refuse(source, name, blank, "is empty; fill it or remove the row")
    if not handed and compute.all(compute.match_substring_regex(texts.array, _NUMBER)).as_py():
        raise DubioError(f"{source.name}: column {name!r} holds only numbers, not text; name the text column")
    return texts


def with_text(source: Source, names: Sequence[str | None]) -> Source:
    """The rows whose columns `names` hold more than whitespace; messages go on naming the rows of the source."""
    kept = np.ones(source.frame.num_rows, dtype=np.bool_)
    for name in names:
        column = None if name is None else one_array(source.frame.column(name))
        if column is None or not (is_text(column.type) or is_bytes(column.type)):
            continue
        try:
            texts = column.cast(pa.large_string())
        except pa.ArrowException:  # not UTF-8: which row is told when the column is read
            continue
        blank = compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(texts)), 0)
        kept &= ~np.asarray(compute.fill_null(blank, True))
    if not kept.any():
        raise DubioError(f"{source.name}: no row holds any text; name the text column")
    index = np.flatnonzero(kept)
    return Source(source.name, source.frame.filter(pa.array(kept)), lambda row: source.place(int(index[row])))


def label_column(source: Source, name: str, *, strict: bool) -> ArrowColumn | None:
    """The raw labels `[N]`; where one is missing, or they are no names or ids: DubioError if `strict`, else None."""
    column = one_array(source.frame.column(name))
    kind = column.type
    if is_bytes(kind):
        try:
            column = column.cast(pa.large_string())
        except pa.ArrowException as error:
            raise DubioError(f"{source.name}: column {name!r} holds bytes that are not UTF-8; store text") from error
    elif not any(test(kind) for test in _LABEL_TYPES):
        if not strict:
            return None
        raise DubioError(f"{source.name}: column {name!r} holds {kind}; a label is one name or one id a row")
    missing = compute.is_null(column, nan_is_null=True)
    if is_text(column.type):
        blank = compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(column)), 0)
        missing = compute.or_(missing, compute.fill_null(blank, True))
    if not strict and compute.any(missing).as_py():
        return None
    _refuse(source, name, missing, "is missing or NaN; label the row or remove it")
    return column


_LABEL_TYPES = (
    is_text, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null
)  # fmt: skip


def _refuse(source: Source, name: str, bad: ArrowColumn, reason: str) -> None:
    row = compute.index(bad, True).as_py()
    if row >= 0:
        raise DubioError(f"{source.name}: {source.place(row)}: column {name!r} {reason}")
