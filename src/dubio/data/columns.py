"""Which column holds the text, which its pair, which the label; and whether they hold what they should."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dubio.data.arrow import ArrowColumn, compute, one_array
from dubio.data.readers import Source
from dubio.data.texts import Texts
from dubio.errors import DubioError

PAIRS = (("text_a", "text_b"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question", "sentence"),
         ("question1", "question2"), ("text1", "text2"))  # fmt: skip
TEXTS = ("text", "sentence", "content", "tweet", "review", "comment", "message", "body", "question")
LABELS = ("label", "labels", "target", "class", "category", "sentiment", "intent", "topic")
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; None means the first default that the table has (pairs before single texts)."""

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None


def choose(columns: Columns, source: Source) -> Columns:
    """`columns` with the open ones filled in; label stays None where there is none.

    Raises DubioError listing the columns where a named one, or any text column, is missing.
    """
    have = source.frame.column_names
    for name in (columns.text, columns.text_pair, columns.label):
        if name is not None and name not in have:
            raise DubioError(f"{source.name}: no column {name!r}; there are: {listed(have)}")
    label = columns.label or next((name for name in LABELS if name in have), None)
    text, pair = columns.text, columns.text_pair
    if text is None and pair is None:
        text, pair = next((p for p in PAIRS if p[0] in have and p[1] in have), (None, None))
    if text is None:
        text = next((name for name in TEXTS if name in have and name not in (pair, label)), None)
    if text is None:
        raise DubioError(f"{source.name}: no text column found; name one of: {listed(have)}")
    named = [name for name in (text, pair, columns.label) if name is not None]
    if len(set(named)) < len(named):
        raise DubioError(f"{source.name}: text, pair and label must be different columns; there are: {listed(have)}")
    return Columns(text, pair, None if label in (text, pair) else label)


def listed(names: Sequence[str]) -> str:
    """The first twenty names, for a message."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def text_column(source: Source, name: str) -> Texts:
    """The column as N non-blank strings; raises DubioError naming the first row that is missing, blank or not text."""
    column = one_array(source.frame.column(name))
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        raise DubioError(f"{source.name}: column {name!r} holds numbers, not text; name the text column")
    if not any(test(kind) for test in (*_TEXT_TYPES, pa.types.is_null)):
        raise DubioError(f"{source.name}: column {name!r} holds {kind}, not text; name the text column")
    _refuse(source, name, compute.is_null(column), "is missing; fill it or remove the row")
    try:
        texts = Texts.of(column)
    except pa.ArrowException as error:
        raise DubioError(f"{source.name}: column {name!r} holds bytes that are not UTF-8; store text") from error
    blank = compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(texts.array)), 0)
    _refuse(source, name, blank, "is empty; fill it or remove the row")
    if compute.all(compute.match_substring_regex(texts.array, _NUMBER)).as_py():
        raise DubioError(f"{source.name}: column {name!r} holds only numbers, not text; name the text column")
    return texts


def with_text(source: Source, names: Sequence[str | None]) -> Source:
    """The rows whose columns `names` hold more than whitespace; messages go on naming the rows of the source."""
    kept = np.ones(source.frame.num_rows, dtype=np.bool_)
    for name in names:
        column = None if name is None else one_array(source.frame.column(name))
        if column is None or not any(test(column.type) for test in _TEXT_TYPES):
            continue
        try:
            texts = column.cast(pa.large_string())
        except pa.ArrowException:  # not UTF-8: which row is told when the column is read
            continue
        blank = compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(texts)), 0)
        kept &= ~np.asarray(compute.fill_null(blank, True))
    if not kept.any():
        raise DubioError(f"{source.name}: no row holds any text; name the text column")
    index, frame = np.flatnonzero(kept), source.frame
    for at, name in enumerate(frame.column_names):
        if pa.types.is_string_view(frame.column(at).type):  # which Arrow cannot take rows of
            frame = frame.set_column(at, name, frame.column(at).cast(pa.large_string()))
    return Source(source.name, frame.filter(pa.array(kept)), lambda row: source.place(int(index[row])))


def label_column(source: Source, name: str, *, strict: bool) -> ArrowColumn | None:
    """The raw labels `[N]`; where one is missing, DubioError naming the row if `strict`, else None for the column."""
    column = one_array(source.frame.column(name))
    missing = compute.is_null(column, nan_is_null=True)
    if any(test(column.type) for test in _TEXT_TYPES[:3]):
        missing = compute.or_(
            missing,
            compute.fill_null(compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(column)), 0), True),
        )
    if not strict and compute.any(missing).as_py():
        return None
    _refuse(source, name, missing, "is missing or NaN; label the row or remove it")
    return column


_TEXT_TYPES = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary
)  # fmt: skip


def _refuse(source: Source, name: str, bad: ArrowColumn, reason: str) -> None:
    row = compute.index(bad, True).as_py()
    if row >= 0:
        raise DubioError(f"{source.name}: {source.place(row)}: column {name!r} {reason}")
