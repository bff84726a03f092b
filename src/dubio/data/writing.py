"""Writing a table back out, in the format that its extension names, by atomic rename."""

import json
from pathlib import Path

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from dubio.data.arrow import ArrowTable
from dubio.errors import DubioError
from dubio.files import atomic_path

WRITABLE = (".csv", ".jsonl", ".ndjson", ".parquet")
_BATCH = 8192


def check_writable(target: Path) -> None:
    """Raises DubioError where `write_frame` would not know the format, before any work is done."""
    if target.suffix.lower() not in WRITABLE:
        raise DubioError(f"{target}: unknown extension {target.suffix!r}; give one of {', '.join(WRITABLE)}")
    if target.is_dir():
        raise DubioError(f"{target} is a folder; name a file")


def write_frame(frame: ArrowTable, target: Path) -> None:
    """Writes N rows; raises DubioError on an unknown extension, an unwritable folder, nested columns in a CSV."""
    check_writable(target)
    kind = target.suffix.lower()
    if kind == ".csv":
        nested = next((f.name for f in frame.schema if pa.types.is_nested(f.type) or pa.types.is_binary(f.type)), None)
        if nested is not None:
            raise DubioError(f"{target}: column {nested!r} does not fit a CSV; write .parquet or .jsonl instead")
    with atomic_path(target) as path:
        if kind == ".csv":
            arrow_csv.write_csv(frame, path)
        elif kind == ".parquet":
            parquet.write_table(frame, path, compression="zstd")
        else:
            with path.open("w", encoding="utf-8") as opened:
                for batch in frame.to_batches(max_chunksize=_BATCH):
                    opened.writelines(json.dumps(r, ensure_ascii=False, default=str) + "\n" for r in batch.to_pylist())
