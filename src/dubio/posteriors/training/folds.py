"""Which member of K-fold adapters has not seen which training row."""

from collections.abc import Sequence

import numpy as np

from dubio.arrays import Int64
from dubio.data.texts import hash_rows
from dubio.errors import DubioError


def fold_numbers(texts: Sequence[str], pairs: Sequence[str] | None, folds: int) -> Int64:
    """`[N]` fold of each row, 0 to folds - 1, by the hash of its text (and pair): equal rows are in one fold."""
    head = np.ascontiguousarray(hash_rows(texts, pairs)[:, :8]).view(np.uint64).ravel()
    return (head % np.uint64(folds)).astype(np.int64)


def rows_of_members(fold: Int64, folds: int) -> list[Int64]:
    """Row numbers that each member is trained on; raises DubioError where a fold is empty or is all there is."""
    found = [np.flatnonzero(fold != m) for m in range(folds)]
    if any(len(rows) in (0, len(fold)) for rows in found):
        raise DubioError(f"{len(fold)} rows are too few for {folds} folds; give more rows or fewer members")
    return found
