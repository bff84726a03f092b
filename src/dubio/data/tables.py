"""A table of texts as dubio reads it: texts, pair texts, raw labels, and every other column kept for writing back."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dubio.arrays import Float64, Int64
from dubio.data.arrow import ArrowColumn, ArrowTable, compute
from dubio.data.choices import is_question_table, read_questions
from dubio.data.columns import Columns, choose, label_column, listed, text_column, with_text
from dubio.data.labels import label_values, map_labels
from dubio.data.memory import holds_rows, holds_table, row_place, values_in_memory
from dubio.data.prompts import PromptTemplate
from dubio.data.readers import Source, read_source
from dubio.data.texts import Texts, hash_rows, hash_table
from dubio.errors import DubioError


@dataclass(frozen=True, eq=False)
class TextTable:
    """N rows. Built by `read_table`; all columns are Arrow memory, shared by slices.

    texts: `[N]`. pairs: `[N]` second texts, or None. raw_labels: `[N]` as stored (names or ids), or None.
    frame: the whole input, column by column (CSV columns are all text). name: the file name, or the hub name.
    place: row (0-based) -> where it lies in the source, for messages. template: of prompts made from questions, whose
    raw labels are then letters; cores: `[N]` those questions with their choices alone. label_names: what the label ids
    mean in the table itself, where it says so (a ClassLabel of the datasets package).
    columns: which columns of the source the texts, pairs and labels were read from; None: of questions, or in memory.
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
    label_names: tuple[str, ...] | None = None
    columns: Columns | None = None

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
            self.template, None if self.cores is None else self.cores.take(index), self.label_names, self.columns,
        )  # fmt: skip

    def label_ids(self, names: Sequence[str], *, own: bool = False) -> Int64:
        """`[N]` class indices under the model's label `names`; own: these were taken from tables such as this one.

        Raises DubioError on a label that is unknown, absent, or can be read in two ways.
        """
        if self.raw_labels is None:
            raise DubioError(
                f"{self.source}: no complete label column, and this step needs one; there are: "
                f"{listed(self.frame.column_names)}"
            )
        return map_labels(
            self.raw_labels, names, self.source, self.place, table_names=self.label_names, own=own
        )  # fmt: skip

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
    where: Any, *, columns: Columns | None = None, need_labels: bool = False,
    template: PromptTemplate | bool = True, drop_empty: bool = False,
) -> TextTable:  # fmt: skip
    """Reads a CSV (UTF-8, header), JSONL or Parquet file, a hub data set `hub:NAME[/CONFIG]:SPLIT`, or rows in memory.

    In memory: a pandas or polars frame, a datasets.Dataset, an Arrow table, a list of mappings, a mapping of columns.
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
    chosen = choose(asked, source, need_label=need_labels)
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
    named = None if labels is None or chosen.label is None else _class_names(source.frame, chosen.label)
    return TextTable(texts, pairs, labels, frame, title, source.name, place, label_names=named, columns=chosen)


def _class_names(frame: ArrowTable, label: str) -> tuple[str, ...] | None:
    """The names that the datasets package keeps of a column's ids in the schema; None where there are none."""
    if not pa.types.is_integer(frame.column(label).type):
        return None
    try:
        features = json.loads((frame.schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"] if features[label]["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def as_table(rows: Any, template: PromptTemplate | bool = False) -> TextTable:
    """A table from whatever holds rows: a table itself, all that `read_table` reads, or a list of texts.

    Raises DubioError on what is neither, such as a single text.
    """
    if isinstance(rows, TextTable):
        return rows
    if isinstance(rows, str | PathLike) or holds_table(rows):
        return read_table(rows, template=template)
    mappings, again = holds_rows(rows)
    return read_table(list(again), template=template) if mappings else table_of(again)


def table_of(texts: Any, labels: Any = None, pairs: Any = None, name: str = "rows") -> TextTable:
    """A table from values in memory: `[N]` texts, and optionally labels (names or ids) and pair texts.

    Texts are held to what files are held to, but may all be numbers. Raises DubioError naming the first row whose text
    is missing, empty or no text, or whose label is missing; where lengths differ; and on what is no list.
    """
    held: dict[str, ArrowColumn] = {"text": values_in_memory(texts, name, "text")}
    if pairs is not None:
        held["text_pair"] = values_in_memory(pairs, name, "text_pair")
    if labels is not None:
        held["label"] = label_values(labels, name)
    for what, column in (("pairs", held.get("text_pair")), ("labels", held.get("label"))):
        if column is not None and len(column) != len(held["text"]):
            raise DubioError(f"{name}: {len(held['text'])} texts but {len(column)} {what}; every row needs one of each")
    if len(held["text"]) == 0:
        raise DubioError(f"{name}: zero rows; give at least one text")
    source = Source(name, pa.table(held), row_place)
    text = text_column(source, "text", handed=True)
    pair = None if pairs is None else text_column(source, "text_pair", handed=True)
    label = None if labels is None else label_column(source, "label", strict=True)
    checked = {"text": text.array, "text_pair": None if pair is None else pair.array, "label": label}
    frame = pa.table({key: value for key, value in checked.items() if value is not None})
    return TextTable(text, pair, label, frame, name, name)
