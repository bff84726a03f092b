"""A file on disk -> a checked text table with its representations, labels and row hashes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dubio.arrays import Bool
from dubio.artifacts.manifest import SplitFacts
from dubio.containers import Representations
from dubio.data.groups import REPEATS, groups_of
from dubio.data.splits import SplitReport
from dubio.data.tables import TextTable
from dubio.models.adapted import AdaptedModel
from dubio.models.cache import StoredRepresentations
from dubio.models.extraction import Extraction, extract_to
from dubio.models.tokens.batching import blocks_of
from dubio.models.tokens.lengths import truncated_rows
from dubio.posteriors.sampling import Sampler, sample_to


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
