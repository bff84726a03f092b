"""Train, calibration and test must not share rows: numbers measured on rows that were learned from are not numbers.

Rows are compared by hashes of their whitespace-normalised text (and pair), so a copy with other blanks is still a copy.
An artefact keeps the hashes of its train split, 16 bytes a row, and later splits are checked against them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dubio.arrays import Bool
from dubio.data.tables import TextTable
from dubio.data.texts import DIGEST
from dubio.errors import DubioError

REMOVE = "remove them from one of the two"
DROP = f"{REMOVE}, or give --drop-overlap"  # of commands that have this option


@dataclass(frozen=True)
class SplitReport:
    """Of each split by name: how many rows, and how many of them repeat an earlier row of the same split."""

    rows: Mapping[str, int]
    duplicates: Mapping[str, int]

    def __str__(self) -> str:
        return "; ".join(
            f"{name}: {count} rows" + (f" ({self.duplicates[name]} repeated)" if self.duplicates[name] else "")
            for name, count in self.rows.items()
        )


def check_disjoint(
    tables: Mapping[str, TextTable], stored: Mapping[str, NDArray[np.uint8]] | None = None, *, remedy: str = REMOVE
) -> SplitReport:
    """Refuses splits that share a row; repeated rows inside one split are counted, not refused.

    stored: name -> `[N, 16]` row hashes of splits whose texts are no longer at hand; a split of that name among
    `tables` takes their place. remedy: what the message tells to do.
    Raises DubioError naming the two splits, how many rows of the second are in the first, and one such text.
    """
    hashes = {name: table.rows_hash for name, table in tables.items()}
    kept = {f"{name} (as stored)": as_hashes(v) for name, v in (stored or {}).items() if name not in tables}
    for first, second in combinations([*kept, *hashes], 2):
        if second in kept:
            continue  # two stored splits were compared when they were stored
        shared = overlap(hashes[second], {**kept, **hashes}[first])
        if shared.any():
            row = int(np.argmax(shared))
            table = tables[second]
            raise DubioError(
                f"{int(shared.sum())} of {len(shared)} rows of {second} are also in {first}, such as "
                f"{table.place(row)}: {_excerpt(table.texts[row])!r}; {remedy}"
            )
    return SplitReport(
        {name: len(table) for name, table in tables.items()},
        {name: len(table) - len(np.unique(_keys(table.rows_hash))) for name, table in tables.items()},
    )


def drop_overlap(name: str, table: TextTable, others: Mapping[str, NDArray[np.uint8]]) -> tuple[TextTable, str | None]:
    """(the rows that are in none of the others, what was dropped in words, None where nothing was).

    others: name -> `[M, 16]` row hashes. Raises DubioError where no row is left.
    """
    shared = {other: overlap(table.rows_hash, rows) for other, rows in others.items()}
    found = {other: int(rows.sum()) for other, rows in shared.items() if rows.any()}
    if not found:
        return table, None
    gone = np.any([*shared.values()], axis=0)
    where = ", ".join(f"{other} ({count:,})" for other, count in found.items())
    if gone.all():
        raise DubioError(f"{table.source}: no row of {name} is left, as all are also in {where}; give other rows")
    return table.take(~gone), f"dropped {int(gone.sum()):,} of {len(table):,} rows of {name} that are also in {where}"


def overlap(hashes: NDArray[np.uint8], others: NDArray[np.uint8]) -> Bool:
    """`[N]` True where a row of `hashes [N, 16]` occurs among `others [M, 16]`; one sort, no loop."""
    return np.isin(_keys(as_hashes(hashes)), _keys(as_hashes(others)))


def as_hashes(values: Any) -> NDArray[np.uint8]:
    """Row hashes `[N, 16]` uint8, as stored beside an artefact; raises DubioError on another shape or type."""
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] != DIGEST or array.dtype != np.uint8:
        raise DubioError(f"row hashes: expected [rows, {DIGEST}] bytes, got {array.shape} of {array.dtype}; fit again")
    return np.ascontiguousarray(array)


def _keys(hashes: NDArray[np.uint8]) -> NDArray[Any]:
    # Fixed-width byte strings compare by memory; NumPy strips trailing zeros of both sides alike, so equality is exact.
    return hashes.view(f"S{DIGEST}").ravel()


def _excerpt(text: str) -> str:
    short = " ".join(text.split())
    return short if len(short) <= 60 else short[:59] + "…"
