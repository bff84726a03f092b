"""A file on disk -> a checked text table with its representations, labels and row hashes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dubio.arrays import Bool, Int64
from dubio.artifacts.manifest import SplitFacts
from dubio.containers import Representations
from dubio.data.arrow import one_array
from dubio.data.near import near_duplicate_groups
from dubio.data.splits import SplitReport
from dubio.data.tables import TextTable
from dubio.errors import DubioError
from dubio.models.cache import StoredRepresentations
from dubio.models.extraction import Extraction, blocks_of, extract_to
from dubio.models.lengths import truncated_rows
from dubio.models.loading import AdaptedModel
from dubio.posteriors.sampling import Sampler, sample_to

REPEATS, NONE = "repeats", "none"


@dataclass(frozen=True)
class Prepared:
    """A table and what the model made of it. `stored` stays on disk; `load` brings all rows into memory."""

    table: TextTable
    stored: StoredRepresentations

    def load(self) -> Representations:
        """All rows in memory."""
        return replace(self.stored.load(), pairs=self.table.pairs is not None)

    def load_grouped(self, by: str = REPEATS) -> Representations:
        """All rows in memory, with the groups of `groups_of`, for honest cross-validation."""
        return replace(self.load(), groups=groups_of(self.table, by))


def groups_of(table: TextTable, by: str = REPEATS) -> Int64 | None:
    """`[N]` numbers that rows which belong together share: by near repeats, by a column's values, or by "none" at all.

    Raises DubioError where there is no such column, a row has no value in it, it is that of the labels, or "none" names
    a column too.
    """
    if by in (REPEATS, NONE):
        if by in table.frame.column_names:
            raise DubioError(
                f"{table.source}: groups {by!r} could also mean the column of this name; rename the column"
            )
        return repeats(table) if by == REPEATS else None
    column = one_array(table.extra(by))
    if table.columns is not None and by == table.columns.label:
        raise DubioError(
            f"{table.source}: column {by!r} holds the labels, so all rows of a class would be one group; name another"
        )
    if pa.types.is_nested(column.type):
        raise DubioError(f"{table.source}: column {by!r} holds {column.type}; a group is one name or number a row")
    values = column.to_pylist()
    for row, value in enumerate(values):
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            raise DubioError(f"{table.source}: {table.place(row)}: column {by!r} is missing; give every row its group")
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


def repeats(table: TextTable) -> Int64:
    """`[N]` group numbers of the rows: texts (and pairs) that repeat or nearly repeat one another share one.

    Prompts are compared by question and choices: what their template puts into every one would make them all alike.
    """
    if table.cores is not None:
        return near_duplicate_groups(table.cores)
    whole = table.texts if table.pairs is None else [f"{a} {b}" for a, b in zip(table.texts, table.pairs, strict=True)]
    return near_duplicate_groups(whole)


def prepare(
    model: AdaptedModel, table: TextTable, cache: Path, *, need_labels: bool, how: Extraction | None = None,
    samplers: Sequence[Sampler] = (), mean_of: str | None = None,
) -> Prepared:  # fmt: skip
    """Maps the labels, extracts the table under `cache`, and draws the samples of each posterior.

    mean_of: the one of `samplers` whose mean prediction takes the place of the adapter's own.
    Raises DubioError on labels that the model does not have, before any forward pass.
    """
    labels = table.label_ids(model.labels) if need_labels else None
    drawn = {s.stored.name: sample_to(s, table.texts, table.pairs, cache, how) for s in samplers}
    if mean_of is not None:
        rows = tuple(
            len(block.texts) for block in blocks_of(table.texts, table.pairs, (how or Extraction()).shard_rows)
        )
        return Prepared(table, StoredRepresentations(drawn[mean_of], rows, labels, drawn, mean_of))
    stored = extract_to(model, table.texts, table.pairs, cache, labels=labels, how=how)
    return Prepared(table, replace(stored, samples=drawn))


def cut_rows(model: AdaptedModel, table: TextTable) -> Bool:
    """`[N]` which rows of a table are longer than the model reads."""
    return truncated_rows(model.tokenizer, model.max_length, table.texts, table.pairs)


def split_facts(
    tables: dict[str, TextTable], report: SplitReport, model: AdaptedModel | None = None
) -> dict[str, SplitFacts]:
    """Rows, duplicates, content hash and, of a model, the rows that it does not read whole; for the manifest."""
    return {
        name: SplitFacts(
            rows=len(table),
            duplicates=report.duplicates[name],
            sha256=table.content_hash,
            truncated=None if model is None else int(cut_rows(model, table).sum()),
        )
        for name, table in tables.items()
    }
