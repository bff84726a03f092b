"""From labels as people store them (names, ids, ids as text, true and false) to the model's class indices."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dubio.arrays import Int64
from dubio.data.arrow import is_text, one_array
from dubio.data.memory import row_place, values_in_memory
from dubio.errors import DubioError

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_SWITCH = {"false": 0, "true": 1}


def map_labels(
    raw: Any, names: Sequence[str], where: str = "labels", place: Callable[[int], str] = row_place,
    *, table_names: Sequence[str] | None = None, own: bool = False,
) -> Int64:  # fmt: skip
    """Class indices `[N]` of raw labels `[N]`, by the model's C label `names`.

    A label is a name or an id in [0, C): 1, "1", 1.0 or "1.0". Of names, blanks around them, case, and whether an
    accent is a character of its own do not matter. True and False, as such or as text, are 1 and 0 of a model of two
    classes, where the whole column is of them.
    Where the names are numbers themselves (stars "1" to "5"), the column as a whole decides: if all its values are
    names and not all ids, they are names; if all are ids and not all names, ids; if both, and the classes differ, it is
    refused. own: the names were taken from such tables, so that what can be a name is one.
    table_names: what the ids mean in the table itself (a ClassLabel of a data set), where it says so.
    Raises DubioError naming the first row whose label is missing, NaN or unknown, and listing the model's labels.
    """
    values, inverse = _uniques(raw, where)
    for index, value in enumerate(values):
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            raise DubioError(f"{where}: {_first(inverse, index, place)}: the label is missing or NaN; label the row")
    by_name = _by_name(values, names)
    by_id = _by_id(values, len(names))
    switches = [_SWITCH.get(str(value).strip().casefold()) for value in values]
    if table_names is not None:
        codes = _by_table(values, names, table_names, by_id, where)
    elif (by_name >= 0).all():
        if not own and (by_id >= 0).all() and not np.array_equal(by_name, by_id):
            _refuse_two_readings(values, names, where)
        codes = by_name
    elif (by_id >= 0).all():
        codes = by_id
    elif len(names) == 2 and None not in switches:
        codes = np.array(switches, dtype=np.int64)
    else:
        numeric = any(_number(name) is not None for name in names)
        codes = by_name if numeric else np.where(by_name >= 0, by_name, by_id)
    unknown = codes < 0
    if unknown.any():
        row = int(np.argmax(unknown[inverse]))
        found = _shown(values[inverse[row]])
        raise DubioError(f"{where}: {place(row)}: label {found} is not in the model; it knows: {_known(names)}")
    return codes[inverse]


def _uniques(raw: Any, where: str) -> tuple[list[Any], Int64]:
    """Distinct values and `[N]` indices into them: a million rows are looked at once, by Arrow."""
    column = one_array(raw if isinstance(raw, pa.Array | pa.ChunkedArray) else label_values(raw, where))
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
    tests = (is_text, pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null)
    if not any(test(column.type) for test in tests):
        raise DubioError(f"{where}: the labels hold {column.type}; a label is one name or one id a row")
    coded = column.dictionary_encode(null_encoding="encode")
    indices = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64)
    return [*coded.dictionary.to_pylist(), *([None] if coded.indices.null_count else [])], indices


def label_values(raw: Any, where: str) -> Any:
    """An Arrow column of labels in memory: names, ids, or both mixed, which are then all text.

    Raises DubioError on what is no list, or holds something else.
    """
    try:
        return values_in_memory(raw, where, "label")
    except DubioError:
        if isinstance(raw, str | bytes) or not isinstance(raw, Sequence):
            raise
        mixed = [value.item() if isinstance(value, np.generic) else value for value in raw]
        if not all(value is None or isinstance(value, str | int | float) for value in mixed):
            raise
        return values_in_memory([v if v is None or v != v else str(v) for v in mixed], where, "label")


def _by_name(values: Sequence[Any], names: Sequence[str]) -> NDArray[np.int64]:
    exact: Mapping[str, int] = {name.strip(): index for index, name in reversed(list(enumerate(names)))}
    folded: dict[str, int] = {}
    for index, name in enumerate(names):
        key = same_name(name)
        folded[key] = -1 if key in folded else index  # names that differ in this only are told apart exactly
    out = np.full(len(values), -1, dtype=np.int64)
    for index, value in enumerate(values):
        texts = [str(value).strip()]
        if isinstance(value, float) and value.is_integer():
            texts.append(str(int(value)))
        for text in texts:
            if out[index] < 0:
                out[index] = exact.get(text, folded.get(same_name(text), -1))
    return out


def same_name(text: str) -> str:
    """What is compared of a label: no blanks around it, lower case, an accent and its letter as one character."""
    key = text.strip().casefold()
    return key if key.isascii() else unicodedata.normalize("NFC", key)


def _by_id(values: Sequence[Any], classes: int) -> NDArray[np.int64]:
    """Each value as a class index, or -1."""
    numbers = [_number(value) for value in values]
    whole = [number is not None and number.is_integer() and 0 <= number < classes for number in numbers]
    return np.array([int(n) if ok and n is not None else -1 for n, ok in zip(numbers, whole, strict=True)], np.int64)


def _by_table(
    values: Sequence[Any], names: Sequence[str], table_names: Sequence[str], by_id: Int64, where: str
) -> Int64:  # fmt: skip
    """Ids that the table itself names: by these names where the model has them, else by the ids as they are.

    Raises DubioError where the model has some of the names, and for another id.
    """
    ids = _by_id(values, len(table_names))
    meant = [table_names[i] if i >= 0 else "" for i in ids]
    by_name = _by_name(meant, names)
    if (by_name >= 0).all():
        return by_name
    clash = (by_name >= 0) & (by_name != by_id)
    if clash.any():
        at = int(np.argmax(clash))
        raise DubioError(
            f"{where}: the table calls its id {_shown(values[at])} {meant[at]!r}, the model's labels are "
            f"{_known(names)}, and not all of the table's names are among them; give labels by name"
        )
    return by_id


def _refuse_two_readings(values: Sequence[Any], names: Sequence[str], where: str) -> None:
    found = ", ".join(str(value) for value in values[:5]) + (", …" if len(values) > 5 else "")
    raise DubioError(
        f"{where}: the labels ({found}) are names of the model's classes and ids of others at once; it knows: "
        f"{_known(names)}; give a table with rows of every class, or the classes names that are no numbers"
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value.strip())):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _known(names: Sequence[str]) -> str:
    return ", ".join(f"{i} {name}" for i, name in enumerate(names[:20])) + (", …" if len(names) > 20 else "")


def _shown(value: Any) -> str:
    return repr(str(value)[:60])


def _first(inverse: Int64, code: int, place: Callable[[int], str]) -> str:
    return place(int(np.argmax(inverse == code)))
