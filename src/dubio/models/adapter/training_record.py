"""The record that `dubio train` leaves beside an adapter: what is read of it must be of the kind that is written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dubio.errors import DubioError
from dubio.safe_reading import MissingFileError, read_object, short

RECORD = "dubio_training.json"
_REMEDY = "restore it, or delete it to do without"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 30


def _is_names(value: Any) -> bool:
    """Class names: two or more texts, no two alike."""
    texts = isinstance(value, list) and all(isinstance(name, str) for name in value)  # pyright: ignore
    return texts and len(value) >= 2 and len(set(value)) == len(value)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "labels": (_is_names, "two or more different names"), "max_length": (_is_length, "a number of tokens"),
    "base": (_is_text, "a name"), "base_sha256": (_is_text, "a hash"), "weights_sha256": (_is_text, "a hash"),
    "choices": (_is_table, "settings of a prompt"), "settings": (_is_table, "settings by name"),
    "plan": (_is_table, "settings by name"), "train": (_is_table, "rows and hash"),
    "validation": (_is_table, "rows and hash"), "rows": (_is_table, "file and hash"),
}  # fmt: skip


def read_record(folder: Path) -> dict[str, Any]:
    """The record in an adapter's folder; empty where there is none.

    Raises DubioError where it is no JSON object, or holds something of another kind than dubio writes.
    """
    try:
        record = read_object(folder / RECORD, remedy=_REMEDY)
    except MissingFileError:
        return {}
    for name, (is_right, words) in _KINDS.items():
        if name in record and not is_right(record[name]):
            found = f"{name} is {short(record[name])}, not {words}"
            raise DubioError(f"{folder / RECORD}: {found}; {_REMEDY}")
    return record
