"""A column of texts held by Arrow: a million rows cost their bytes, not a million Python strings."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dubio.data.arrow import ArrowColumn, one_array

DIGEST = 16  # bytes a row hash: 128 bits, no accidental meeting among any number of rows
_BATCH = 8192
_BETWEEN = "\x1f"  # counts as whitespace to str.split, so no normalised text contains it


class Texts(Sequence[str]):
    """An immutable sequence of N strings over one Arrow array; slices share its memory."""

    def __init__(self, array: ArrowColumn) -> None:
        self.array = array

    @classmethod
    def of(cls, values: Any) -> "Texts":
        """From an Arrow column or any iterable of str."""
        column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, pa.large_string())
        return cls(one_array(column.cast(pa.large_string())))

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: int | slice) -> "str | Texts":
        if isinstance(index, slice):
            return Texts(self.array[index])
        return self.array[int(index)].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BATCH):
            yield from self.array[start : start + _BATCH].to_pylist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == len(self) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Texts({len(self)} rows)"

    def take(self, rows: NDArray[np.int64]) -> "Texts":
        """The rows at these indices, copied."""
        return Texts(self.array.take(pa.array(rows)))


def normalise_space(text: str) -> str:
    """The text with every run of whitespace as one blank and none at the ends: what row hashes are taken of."""
    return " ".join(text.split())


def hash_rows(texts: Sequence[str], pairs: Sequence[str] | None = None) -> NDArray[np.uint8]:
    """`[N, 16]` the first 16 bytes of SHA-256 of each whitespace-normalised text (and its pair text).

    Two rows that differ only in whitespace are the same row; case and punctuation count.
    """
    joined = (normalise_space(text) for text in texts)
    if pairs is not None:
        joined = (a + _BETWEEN + normalise_space(b) for a, b in zip(joined, pairs, strict=True))
    digests = b"".join(hashlib.sha256(row.encode("utf-8", "surrogatepass")).digest()[:DIGEST] for row in joined)
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST)


def hash_table(columns: Sequence[Sequence[str] | None]) -> str:
    """Hex SHA-256 of whole columns, exact to the byte and to the row boundary; None stands for an absent column."""
    total = hashlib.sha256()
    for column in columns:
        total.update(b"absent" if column is None else b"column%d" % len(column))
        for text in column or ():
            raw = text.encode("utf-8", "surrogatepass")
            total.update(b"%d:" % len(raw) + raw)
    return total.hexdigest()
