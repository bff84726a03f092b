"""One labelled table -> train, calibration and test: disjoint, alike in their labels, repeated texts on one side.

Rows of the same text are never divided, whatever the groups are: numbers measured on rows that were learned from are
none. What other tables hold already (the one that an adapter was trained on) is left out, with all of its groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dubio.arrays import Int64
from dubio.data.columns import Columns
from dubio.data.groups import NONE, REPEATS, check_groups, compared, group_values
from dubio.data.near import near_duplicate_groups
from dubio.data.preparing.stratified import stratified_split
from dubio.data.tables import TextTable, read_table
from dubio.errors import DubioError

TRAIN = "train"
SIZES: Mapping[str, float | int | None] = {TRAIN: None, "calibration": 0.2, "test": 0.2}
_SHOWN = 5  # labels named in a note


@dataclass(frozen=True)
class Parts:
    """tables: by the names that were asked for, rows in the order of the source. left: rows that no part asked for.

    removed: rows that are in the other tables, or belong to such rows. notes: what the reader should know, a line each.
    """

    tables: Mapping[str, TextTable]
    left: int
    removed: int
    notes: tuple[str, ...]


def split_table(
    rows: Any, sizes: Mapping[str, float | int | None] = SIZES, *, groups: str = REPEATS,
    without: Sequence[TextTable] = (), seed: int = 0, columns: Columns | None = None,
) -> Parts:  # fmt: skip
    """Cuts a table by label shares; the same seed gives the same parts.

    rows: a labelled table, or whatever `read_table` reads. sizes: of each part a share (a float up to 1.0), a number of
    rows (an int), None for all that is left (one part at most), or 0 for no such part; the part "train" gets rows of
    every label. groups: which rows stay together besides those of one text: "repeats" (near repeats), a column's name,
    or "none". without: tables whose rows are to be in no part.
    Raises DubioError where rows have no label, all have the same one, or the sizes cannot be: groups are never divided.
    """
    table = rows if isinstance(rows, TextTable) else read_table(rows, columns=columns, need_labels=True)
    if table.raw_labels is None:
        raise DubioError(f"{table.source}: a table without labels cannot be split by them; name the label column")
    group, taken = _groups([table, *without], groups)
    kept = np.flatnonzero(~taken[group])
    if len(kept) == 0:
        raise DubioError(f"{table.source}: no row is left, as all are in the other tables; give other rows")
    found_names, label = np.unique([str(v).strip() for v in table.raw_labels.to_pylist()], return_inverse=True)
    names = found_names.astype(object)  # plain strings, for messages
    if len(np.unique(label[kept])) < 2:
        raise DubioError(f"{table.source}: all rows are of one label, {names[label[kept[0]]]!r}; give rows of several")
    counts = rows_of(sizes, len(kept), table.source)
    asked = [name for name, count in counts.items() if count]
    wanted, group = [counts[name] for name in asked], np.unique(group[kept], return_inverse=True)[1]
    first = asked.index(TRAIN) if TRAIN in asked else None
    split = stratified_split(np.unique(label[kept], return_inverse=True)[1], group, wanted, seed, first=first)
    found = {name: split == at for at, name in enumerate(asked)}
    _check(table, found, names[label[kept]], group)
    notes = _notes(found, dict(zip(asked, wanted, strict=True)), names[label[kept]])
    parts = {name: table.take(kept[rows]) for name, rows in found.items()}
    return Parts(parts, int((split < 0).sum()), len(table) - len(kept), tuple(notes))


def rows_of(sizes: Mapping[str, float | int | None], rows: int, source: str) -> dict[str, int]:
    """Rows of each part, shares and the rest worked out; raises DubioError on sizes that no table has, or this one."""
    for name, size in sizes.items():
        if size is not None and not (0 <= size <= 1 if isinstance(size, float) else size >= 0):
            raise DubioError(f"{name}: {size} is no share between 0 and 1 and no number of rows")
    open_ = [name for name, size in sizes.items() if size is None]
    if len(open_) > 1:
        raise DubioError(f"only one part can be the rest, not {' and '.join(open_)}; give the others sizes")
    shares = {name: size for name, size in sizes.items() if isinstance(size, float)}
    if sum(shares.values()) > 1 + 1e-9:
        raise DubioError(f"the shares are {sum(shares.values()):.3g} of the table together; they may be 1 at most")
    # By cumulative sums, so that shares which are all of the table together leave no row over.
    ends = np.rint(np.cumsum([0.0, *shares.values()]) * rows + 1e-9).astype(int)
    found = dict(zip(shares, np.diff(ends).tolist(), strict=True))
    counts = {name: found.get(name, 0 if size is None else int(size)) for name, size in sizes.items()}
    left = rows - sum(counts.values())
    if left < 0:
        raise DubioError(f"{source}: {rows - left:,} rows are asked for, and it has {rows:,}; ask for fewer")
    counts |= dict.fromkeys(open_, left)
    for name, size in sizes.items():
        if counts[name] == 0 and size != 0:
            raise DubioError(f"{source}: its {rows:,} rows leave none for {name}; ask for less of the others")
    if not any(counts.values()):
        raise DubioError("no part is asked for; give one a size")
    return counts


def _groups(tables: Sequence[TextTable], by: str) -> tuple[Int64, Any]:
    """(`[N]` groups of the first table's rows, `[G]` which groups have a row of the others)."""
    for table in tables:
        check_groups(table, by)
    hashes = np.concatenate([table.rows_hash for table in tables])
    same = np.unique(hashes, axis=0, return_inverse=True)[1].astype(np.int64)
    if by == REPEATS:
        other = near_duplicate_groups([text for table in tables for text in compared(table)])
    elif by == NONE:
        other = same
    else:
        values = [value for table in tables[:1] for value in group_values(table, by)]
        for table in tables[1:]:  # without the column, its rows are known by their texts alone
            known = by in table.frame.column_names
            values += group_values(table, by) if known else [(len(values), row) for row in range(len(table))]
        numbers: dict[Any, int] = {}
        other = np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)
    rows, size = np.arange(len(same)), len(same)
    edges = np.concatenate([rows, rows]), np.concatenate([size + same, 2 * size + other])
    graph = coo_array((np.ones(2 * size, dtype=np.int8), edges), (3 * size, 3 * size))
    group = connected_components(graph.tocsr(), directed=False)[1][:size].astype(np.int64)
    own = len(tables[0])
    return group[:own], np.isin(np.arange(int(group.max()) + 1), group[own:])


def _check(table: TextTable, found: Mapping[str, Any], labels: Any, group: Int64) -> None:
    """Raises DubioError where a part stays empty, or has a label that is not in train."""
    largest = int(np.bincount(group).max())
    for name, rows in found.items():
        if not rows.any():
            raise DubioError(
                f"{table.source}: {name} stays empty, as rows that belong together are never divided: {len(labels):,} "
                f"rows in {int(group.max()) + 1:,} groups, the largest of {largest:,}; ask for other sizes or groups"
            )
    known = set(labels[found[TRAIN]]) if TRAIN in found else set(labels)
    for name, rows in found.items():
        if lacking := sorted(set(labels[rows]) - known):
            raise DubioError(
                f"{table.source}: label {lacking[0]!r} would be in {name} and not in {TRAIN}, so that nothing "
                f"learns it; ask for more of {TRAIN}, or leave rare labels out"
            )


def _notes(found: Mapping[str, Any], wanted: Mapping[str, int], labels: Any) -> list[str]:
    notes = [
        f"{name} has {int(rows.sum()):,} rows and not {wanted[name]:,}: rows that belong together are never divided"
        for name, rows in found.items()
        if rows.sum() != wanted[name]
    ]
    for name, rows in found.items():
        lacking = sorted(set(labels) - set(labels[rows]))
        if lacking:
            shown = ", ".join(map(repr, lacking[:_SHOWN])) + (", ..." if len(lacking) > _SHOWN else "")
            notes.append(f"{name} has no row of {len(lacking)} of {len(set(labels))} labels, as they are rare: {shown}")
    return notes
