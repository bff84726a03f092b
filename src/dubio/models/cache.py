"""Representations on disk: content-addressed safetensors shards, each complete or absent, read through memory maps.

A shard's name is the hash of everything that determines its numbers: base, adapter, head, tokenizer, precision,
maximum length, and the texts themselves. So a killed run resumes with the missing shards and nothing is ever stale.
A shard bears a checksum of its numbers, which is looked at whenever they are read.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dubio.arrays import Float32, Int64
from dubio.containers import Representations, concatenate
from dubio.errors import DubioError
from dubio.files import atomic_path
from dubio.measures import log_mean
from dubio.models.cache_limit import use
from dubio.safe_reading import FACTS, UnreadableError, check_file, open_file, short

_TYPES: dict[str, Any] = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8, "BOOL": np.bool_}


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every tensor of a safetensors file as a read-only memory map; raises DubioError if the file is not whole."""
    return _mapped(path)[0]


def read_arrays(path: Path, *, sealed: bool = True) -> dict[str, NDArray[Any]]:
    """As `map_arrays`, each byte checked against the checksum that `save_arrays` has left.

    sealed: whether a file without one is refused; else it is taken for one of before. Raises DubioError where a byte
    was changed.
    """
    arrays, known = _mapped(path)
    if (sealed or known is not None) and known != _digest(path.name, arrays):
        raise DubioError(f"{path} was changed after it was written; delete it and run again")
    return arrays


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays with a checksum of them and of the file's name, by atomic rename."""
    whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    with atomic_path(path) as temporary:
        save_file(whole, temporary, {"sha256": _digest(path.name, whole)})


def _digest(name: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Hex SHA-256 of names, types, shapes and numbers, whatever their order in the file."""
    ordered = sorted(arrays.items())
    found = hashlib.sha256(json.dumps([name, [[n, v.dtype.str, v.shape] for n, v in ordered]]).encode())
    for _, value in ordered:
        found.update(value.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _mapped(path: Path) -> tuple[dict[str, NDArray[Any]], str | None]:
    """(tensors, the checksum that the header tells, if it does)."""
    try:
        length = check_file(path)
        with open_file(path) as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            if size > min(length - 8, FACTS):
                raise ValueError(f"{length} bytes, of which the header alone claims {size}")
            header = json.loads(opened.read(size))
        entries = {name: _Entry.of(entry) for name, entry in header.items() if name != "__metadata__"}
        whole = 8 + size + max((entry.end for entry in entries.values()), default=0)
        if length != whole:
            raise ValueError(f"{length} bytes instead of {whole}")
        known = header.get("__metadata__", {}).get("sha256")
        return {name: entry.map(path, 8 + size) for name, entry in entries.items()}, known
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        told = error.reason if isinstance(error, UnreadableError) else short(str(error), 200)
        raise DubioError(f"{path} is not a whole safetensors file ({told}); delete it and run again") from error


class _Entry(NamedTuple):
    """One tensor of a safetensors header, its bytes at [start, end) behind the header."""

    kind: Any
    shape: tuple[int, ...]
    start: int
    end: int

    @classmethod
    def of(cls, entry: Any) -> Self:
        kind, shape, (start, end) = _TYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        sound = all(type(n) is int and n >= 0 for n in (*shape, start, end))
        if not sound or end - start != math.prod(shape) * np.dtype(kind).itemsize:
            raise ValueError(f"{entry['dtype']} of shape {list(shape)} in bytes {start} to {end}")
        return cls(kind, shape, start, end)

    def map(self, path: Path, header: int) -> NDArray[Any]:
        if 0 in self.shape:  # nothing to map
            return np.zeros(self.shape, self.kind)
        return np.memmap(path, self.kind, "r", header + self.start, self.shape)


def save_shard(path: Path, features: Float32, logits: Float32) -> None:
    """Writes one shard by atomic rename."""
    save_arrays(path, {"features": features, "logits": logits})


def is_shard(path: Path, **shapes: tuple[int, ...]) -> bool:
    """Whether a whole shard of float32 arrays of these names and shapes is there; any other is to be written again."""
    if not path.exists():
        return False
    try:
        arrays = read_arrays(path)
    except DubioError:
        return False
    fits = {name: value.shape for name, value in arrays.items() if value.dtype == np.float32}
    return fits == shapes and len(arrays) == len(shapes)


@dataclass(frozen=True)
class StoredRepresentations:
    """A table of representations kept as shards on disk: iterate for constant memory, or `load` it whole.

    labels: `[N]` int64 or None, for the rows of all shards in order. samples: posterior -> shards of
    `log_probabilities` `[S, n, C]` and mean `features` `[n, d]`, aligned with these. mean_of: the posterior whose mean
    prediction stands for the adapter's own, and whose mean features for its features; None: the adapter's own.
    """

    shards: tuple[Path, ...]
    rows: tuple[int, ...]
    labels: Int64 | None = None
    samples: Mapping[str, tuple[Path, ...]] = field(default_factory=dict[str, tuple[Path, ...]])
    mean_of: str | None = None

    def __len__(self) -> int:
        return sum(self.rows)

    def __iter__(self) -> Iterator[Representations]:
        start = 0
        for number, (path, count) in enumerate(zip(self.shards, self.rows, strict=True)):
            found = map_arrays(path)
            logits, axis = ("logits", 0) if self.mean_of is None else ("log_probabilities", 1)
            rows = [found[name].shape[at : at + 1] for name, at in (("features", 0), (logits, axis)) if name in found]
            if rows != [(count,), (count,)]:
                raise DubioError(f"{path} does not hold the {count} rows expected; delete it and run again")
            arrays = read_arrays(path)
            use([path, *(paths[number] for paths in self.samples.values())])
            labels = None if self.labels is None else self.labels[start : start + count]
            samples = {name: read_arrays(paths[number])["log_probabilities"] for name, paths in self.samples.items()}
            try:
                own = arrays["logits"] if self.mean_of is None else log_mean(arrays["log_probabilities"])
                table = Representations.of(arrays["features"], own, labels, samples=samples, mean_of=self.mean_of)
            except DubioError as error:
                raise DubioError(f"{path}: {error}; delete it and run again") from error
            yield table
            start += count

    def load(self) -> Representations:
        """All rows in memory."""
        return concatenate(list(self))  # copies, also of a single shard
