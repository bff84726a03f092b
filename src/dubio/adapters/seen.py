"""Which rows an adapter was trained on, and chosen by: their hashes, beside the training record that names the file.

Rows that an adapter has learned from are right too often to tell how often it errs on others: neither calibration nor
test rows may be among them. The hashes are those of `data.splits`: no text can be read back from one, but whoever has
a text can find out whether it was there.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dubio.data.splits import REMOVE, as_hashes, check_disjoint
from dubio.data.tables import TextTable
from dubio.errors import DubioError
from dubio.models.adapter.files import RECORD, AdapterFiles
from dubio.safe_reading import MEMORY, UnreadableError, read_bytes, unreadable

ROWS = "dubio_rows.safetensors"
_PARTS = {"train": "training", "validation": "validation"}


def write_rows(folder: Path, hashes: Mapping[str, NDArray[np.uint8]]) -> dict[str, str]:
    """Writes the row hashes `[N, 16]` of "train" and "validation"; returns the file's name and hash, for the record.

    Repeated rows are kept once, in the order of their hashes, which is nobody's.
    """
    data = save({part: np.unique(as_hashes(rows), axis=0) for part, rows in hashes.items()})
    (folder / ROWS).write_bytes(data)
    return {"file": ROWS, "sha256": hashlib.sha256(data).hexdigest()}


def rows_seen(files: AdapterFiles | None) -> dict[str, NDArray[np.uint8]] | None:
    """Hashes `[N, 16]` of the rows that the adapter has seen, by what it did with them; None where no record tells.

    Raises DubioError where the record names a file that is missing, or was changed.
    """
    facts = None if files is None else files.record.get("rows")
    if files is None or facts is None:
        return None
    path = files.folder / ROWS
    try:
        data = read_bytes(path, limit=MEMORY)
        if hashlib.sha256(data).hexdigest() != _text(facts, "sha256"):
            raise unreadable(path, "was changed, or is another adapter's")
        found = {part: as_hashes(rows) for part, rows in load(data).items()}
    except (SafetensorError, ValueError, DubioError) as error:
        reason = error.reason if isinstance(error, UnreadableError) else "holds something else than row hashes"
        raise DubioError(
            f"{path} cannot tell which rows the adapter was trained on: it {reason}; restore it as {RECORD} names it"
        ) from error
    return {f"the adapter's {_PARTS.get(part, part)} rows": rows for part, rows in found.items()}


def check_unseen(files: AdapterFiles | None, tables: Mapping[str, TextTable], *, remedy: str = REMOVE) -> bool:
    """Refuses rows that the adapter was trained on, or chosen by; returns whether its record could tell.

    Of an adapter whose record has no row hashes, only the very table of its training is known again.
    Raises DubioError naming how many rows were seen, and one of them.
    """
    seen = rows_seen(files)
    if seen is not None:
        for name, table in tables.items():
            check_disjoint({name: table}, stored=seen, remedy=remedy)
        return True
    for part, use in _PARTS.items():
        digest = None if files is None else _text(files.record.get(part), "sha256")
        for name, table in tables.items():
            if digest is not None and digest == table.content_hash:
                raise DubioError(
                    f"{table.source}: all {len(table)} rows of {name} are the adapter's {use} rows, as its record "
                    "says; give rows that it has not seen"
                )
    return False


def _text(facts: Any, key: str) -> str | None:
    """A text entry of a JSON object, None where either is something else."""
    value = facts.get(key) if isinstance(facts, dict) else None  # pyright: ignore[reportUnknownMemberType]
    return value if isinstance(value, str) else None
