"""A labelled table as trainers take it: class names, class ids, and a part held out."""

import numpy as np

from dubio.adapters.plan import LabelledTexts
from dubio.data.groups import groups_of
from dubio.data.tables import TextTable
from dubio.errors import DubioError


def held_out(
    table: TextTable, seed: int, share: float = 0.1, *, groups_by: str | None = None
) -> tuple[TextTable, TextTable]:
    """(held out, the others): about a share of the rows, with rows that belong together on one side.

    groups_by: as of `groups_of`; None: rows of the same text belong together.
    """
    if groups_by is None:
        _, group = np.unique(table.rows_hash, axis=0, return_inverse=True)
    else:
        named = groups_of(table, groups_by)
        group = np.arange(len(table)) if named is None else named
    groups = int(group.max()) + 1
    if groups < 2:
        what = "distinct row" if groups_by is None else "group"
        raise DubioError(f"{table.source}: nothing can be held out of {groups} {what}; give --validation")
    chosen = np.random.default_rng(seed).permutation(groups) < share * groups
    return table.take(chosen[group]), table.take(~chosen[group])


def label_names(table: TextTable) -> list[str]:
    """The classes of a labelled table: ids 0..C-1 keep their order, names are sorted."""
    assert table.raw_labels is not None
    values = table.raw_labels.unique().to_pylist()
    whole = (int(v) if isinstance(v, float) and v.is_integer() else v for v in values)
    found = {str(value).strip() for value in whole}
    numbers = all(name.isdigit() for name in found)
    return sorted(found, key=lambda name: (int(name), name) if numbers else (0, name))


def labelled(table: TextTable, labels: list[str]) -> LabelledTexts:
    """The table as the trainer takes it; raises DubioError on a label outside `labels`."""
    return LabelledTexts(table.texts, table.pairs, table.label_ids(labels, own=True), table.content_hash)
