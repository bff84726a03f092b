"""Representations on disk: content-addressed safetensors shards, each complete or absent, read through memory maps.

A shard's name is the hash of everything that determines its numbers: base, adapter, head, tokenizer, precision,
maximum length, and the texts themselves. So a killed run resumes with the missing shards and nothing is ever stale.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dubio.arrays import Float32, Int64
from dubio.containers import Representations, concatenate
from dubio.errors import DubioError
from dubio.files import atomic_path

_TYPES: dict[str, Any] = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8, "BOOL": np.bool_}


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every tensor of a safetensors file as a read-only memory map; raises DubioError if the file is not whole."""
    try:
        with path.open("rb") as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(size))
        whole = 8 + size + max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")
        if path.stat().st_size != whole:
            raise ValueError(f"{path.stat().st_size} bytes instead of {whole}")
        return {name: _map(path, 8 + size, entry) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, struct.error, MemoryError) as error:
        raise DubioError(f"{path} is not a whole safetensors file ({error}); delete it and run again") from error


def _map(path: Path, start: int, entry: Any) -> NDArray[Any]:
    kind, shape = _TYPES[entry["dtype"]], tuple(entry["shape"])
    if 0 in shape:  # nothing to map
        return np.zeros(shape, kind)
    return np.memmap(path, kind, "r", start + entry["data_offsets"][0], shape)


def save_shard(path: Path, features: Float32, logits: Float32) -> None:
    """Writes one shard by atomic rename."""
    with atomic_path(path) as temporary:
        save_file({"features": features, "logits": logits}, temporary)


@dataclass(frozen=True)
class StoredRepresentations:
    """A table of representations kept as shards on disk: iterate for constant memory, or `load` it whole.

    labels: `[N]` int64 or None, for the rows of all shards in order.
    """

    shards: tuple[Path, ...]
    rows: tuple[int, ...]
    labels: Int64 | None = None

    def __len__(self) -> int:
        return sum(self.rows)

    def __iter__(self) -> Iterator[Representations]:
        start = 0
        for path, count in zip(self.shards, self.rows, strict=True):
            arrays = map_arrays(path)
            if set(arrays) != {"features", "logits"} or len(arrays["features"]) != count:
                raise DubioError(f"{path} does not hold the {count} rows expected; delete it and run again")
            labels = None if self.labels is None else self.labels[start : start + count]
            yield Representations(arrays["features"], arrays["logits"], labels)
            start += count

    def load(self) -> Representations:
        """All rows in memory."""
        parts = list(self)
        return parts[0].take(slice(None)) if len(parts) == 1 else concatenate(parts)
