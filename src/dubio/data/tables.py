"""A table of texts as dubio reads it: texts, pair texts, raw labels, and every other column kept for writing back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dubio.arrays import Float64, Int64
from dubio.data.arrow import ArrowColumn, ArrowTable, compute
from dubio.data.choices import is_question_table, read_questions
from dubio.data.columns import Columns, choose, label_column, listed, text_column, with_text
from dubio.data.labels import map_labels
from dubio.data.prompts import PromptTemplate
from dubio.data.readers import read_source, row_place
from dubio.data.texts import Texts, hash_rows, hash_table
from dubio.errors import DubioError


@dataclass(frozen=True, eq=False)
class TextTable:
    """N rows. Built by `read_table`; all columns are Arrow memory, shared by slices.

    texts: `[N]`. pairs: `[N]` second texts, or None. raw_labels: `[N]` as stored (names or ids), or None.
    frame: the whole input, column by column (CSV columns are all text). name: the file name, or the hub name.
    place: row (0-based) -> where it lies in the source, for messages. template: of prompts made from questions, whose
    raw labels are then letters; cores: `[N]` those questions with their choices alone.
    """

    texts: Texts
    pairs: Texts | None
    raw_labels: ArrowColumn | None
    frame: ArrowTable
    name: str
    source: str
    place: Callable[[int], str] = field(default=row_place, repr=False)
    template: PromptTemplate | None = None
    cores: Texts | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def rows_hash(self) -> NDArray[np.uint8]:
        """`[N, 16]` content hash of each row's whitespace-normalised text and pair; labels are left out."""
        return hash_rows(self.texts, self.pairs)

    @cached_property
    def content_hash(self) -> str:
        """Hex SHA-256 of texts, pairs and raw labels, exact to the byte and in order."""
        labels = None if self.raw_labels is None else ["" if v is None else str(v) for v in self.raw_labels.to_pylist()]
        return hash_table([self.texts, self.pairs, labels])

    def take(self, rows: Any) -> "TextTable":
        """The chosen rows (a slice, indices, or a mask); messages go on naming the rows of the source."""
        index = np.arange(len(self), dtype=np.int64)[rows]
        chosen, place = pa.array(index), self.place
        return TextTable(
            self.texts.take(index),
            None if self.pairs is None else self.pairs.take(index),
            None if self.raw_labels is None else self.raw_labels.take(chosen),
            self.frame.take(chosen), self.name, self.source, lambda row: place(int(index[row])),
            self.template, None if self.cores is None else self.cores.take(index),
        )  # fmt: skip

    def label_ids(self, names: Sequence[str]) -> Int64:
        """`[N]` class indices under the model's label `names`; raises DubioError on an unknown or absent one."""
        if self.raw_labels is None:
            raise DubioError(
                f"{self.source}: no complete label column, and this step needs one; there are: "
                f"{listed(self.frame.column_names)}"
            )
        return map_labels(self.raw_labels, names, self.source, self.place)

    def extra(self, column: str) -> ArrowColumn:
        """Any column of the input as Arrow; raises DubioError listing the columns if it is not there."""
        if column not in self.frame.column_names:
            raise DubioError(f"{self.source}: no column {column!r}; there are: {listed(self.frame.column_names)}")
        return self.frame.column(column)

    def numbers(self, column: str) -> Float64:
        """A column `[N]` as float64, NaN where it is null or blank; raises DubioError where it holds something else."""
        values = self.extra(column)
        try:
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                trimmed = compute.utf8_trim_whitespace(values)
                values = compute.if_else(compute.equal(compute.utf8_length(trimmed), 0), None, trimmed)
            return compute.fill_null(values.cast(pa.float64()), float("nan")).to_numpy()
        except pa.ArrowException as error:
            raise DubioError(f"{self.source}: column {column!r} is not numbers; name a numeric column") from error


def read_table(
    where: str | Path, *, columns: Columns | None = None, need_labels: bool = False,
    template: PromptTemplate | bool = True, drop_empty: bool = False,
) -> TextTable:  # fmt: skip
    """Reads a CSV (UTF-8, header), JSONL or Parquet file, or a hub data set `hub:NAME[/CONFIG]:SPLIT`.

    Labels are required where `need_labels` or where `columns.label` names them; a label column found by default
    and not complete is otherwise ignored.
    template: of the prompts, where the table is one of multiple-choice questions (see `data.choices`). True: the
    default, where no other text column is named. False: no table is one of questions.
    drop_empty: leave rows without text out; otherwise the first is an error.
    Raises DubioError, one line with file and row, on everything in the input that could not be scored.
    """
    asked = columns or Columns()
    source = read_source(where)
    title = source.name if source.name.startswith("hub:") else Path(source.name).name
    given = isinstance(template, PromptTemplate)
    open_ended = asked.text is None and asked.text_pair is None
    if (given or (template is True and open_ended)) and is_question_table(source, asked):
        if drop_empty:
            raise DubioError(f"{source.name}: rows of questions cannot be dropped for want of text; mend the table")
        found = read_questions(source, asked, template if given else None, need_answers=need_labels)
        return TextTable(
            found.prompts, None, found.answers, source.frame, title, source.name, source.place, found.template,
            found.cores,
        )  # fmt: skip
    if given and open_ended:  # who names the text column brings ready-made prompts
        have = listed(source.frame.column_names)
        raise DubioError(
            f"{source.name}: no columns of questions and lists of choices, and this model answers questions; there "
            f"are: {have}"
        )
    chosen = choose(asked, source)
    assert chosen.text is not None
    if need_labels and chosen.label is None:
        have = listed(source.frame.column_names)
        raise DubioError(f"{source.name}: no label column found, and labels are needed; name one of: {have}")
    if drop_empty:
        source = with_text(source, (chosen.text, chosen.text_pair))
    texts = text_column(source, chosen.text)
    pairs = None if chosen.text_pair is None else text_column(source, chosen.text_pair)
    strict = need_labels or asked.label is not None
    labels = None if chosen.label is None else label_column(source, chosen.label, strict=strict)
    place = source.place
    frame = source.frame  # the checked text columns replace the read ones, so that each is held once
    for name, column in ((chosen.text, texts), (chosen.text_pair, pairs)):
        if name is not None and column is not None:
            frame = frame.set_column(frame.column_names.index(name), name, column.array)
    return TextTable(texts, pairs, labels, frame, title, source.name, place)


def table_of(texts: Any, labels: Any = None, pairs: Any = None, name: str = "rows") -> TextTable:
    """A table from values in memory: `[N]` texts, and optionally labels (names or ids) and pair texts.

    Raises DubioError where lengths differ.
    """
    text, pair = Texts.of(texts), None if pairs is None else Texts.of(pairs)
    label = None if labels is None else pa.array(labels)
    for what, column in (("pairs", pair), ("labels", label)):
        if column is not None and len(column) != len(text):
            raise DubioError(f"{name}: {len(text)} texts but {len(column)} {what}; every row needs one of each")
    held = {"text": text.array, "text_pair": None if pair is None else pair.array, "label": label}
    frame = pa.table({key: value for key, value in held.items() if value is not None})
    return TextTable(text, pair, label, frame, name, name)
