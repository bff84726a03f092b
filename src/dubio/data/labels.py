"""From labels as people store them (names, ids, ids as text) to the model's class indices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dubio.arrays import Int64, as_numpy
from dubio.data.readers import row_place
from dubio.errors import DubioError


def map_labels(raw: Any, names: Sequence[str], where: str = "labels", place: Callable[[int], str] = row_place) -> Int64:
    """Class indices `[N]` of raw labels `[N]`, by the model's C label `names`.

    A label is a name (surrounding blanks and case do not matter) or an id in [0, C): 1, "1", 1.0 or "1.0".
    Where the names are numbers themselves (stars "1" to "5"), the column as a whole decides: if all its values are
    names they are read as names, else if all are ids as ids, else it is refused.
    Raises DubioError naming the first row whose label is missing, NaN or unknown, and listing the model's labels.
    """
    values, inverse = _uniques(raw)
    for index, value in enumerate(values):
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            raise DubioError(f"{where}: {_first(inverse, index, place)}: the label is missing or NaN; label the row")
    by_name = _by_name(values, names)
    by_id = np.array([_identifier(value, len(names)) for value in values], dtype=np.int64)
    if (by_name >= 0).all():
        codes = by_name
    elif (by_id >= 0).all():
        codes = by_id
    else:
        numeric = any(_identifier(name, 1 << 62) >= 0 for name in names)
        codes = by_name if numeric else np.where(by_name >= 0, by_name, by_id)
    unknown = codes < 0
    if unknown.any():
        row = int(np.argmax(unknown[inverse]))
        shown = ", ".join(f"{i} {name}" for i, name in enumerate(names[:20])) + (", …" if len(names) > 20 else "")
        raise DubioError(
            f"{where}: {place(row)}: label {str(values[inverse[row]])[:60]!r} is not in the model; it knows: {shown}"
        )
    return codes[inverse]


def _uniques(raw: Any) -> tuple[list[Any], Int64]:
    """Distinct values and `[N]` indices into them: a million rows are looked at once, by Arrow."""
    try:
        column: Any = raw if isinstance(raw, pa.Array | pa.ChunkedArray) else pa.array(_plain(raw))
    except (pa.ArrowException, ValueError):  # names and ids mixed in one Python list
        column = pa.array([None if v is None or v != v else str(v) for v in _plain(raw)])
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
    coded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode(null_encoding="encode")
    indices = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64)
    return [*coded.dictionary.to_pylist(), *([None] if coded.indices.null_count else [])], indices


def _plain(raw: Any) -> Any:
    return raw if isinstance(raw, list) else as_numpy(raw).tolist()


def _by_name(values: Sequence[Any], names: Sequence[str]) -> NDArray[np.int64]:
    exact: Mapping[str, int] = {name.strip(): index for index, name in reversed(list(enumerate(names)))}
    folded: dict[str, int] = {}
    for index, name in enumerate(names):
        key = name.strip().casefold()
        folded[key] = -1 if key in folded else index  # names that differ in case only are told apart exactly
    out = np.full(len(values), -1, dtype=np.int64)
    for index, value in enumerate(values):
        whole = isinstance(value, float) and value.is_integer()
        text = str(int(value) if whole else value).strip()
        out[index] = exact.get(text, folded.get(text.casefold(), -1))
    return out


def _identifier(value: Any, classes: int) -> int:
    """The value as a class index, or -1."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return -1
    return int(number) if number.is_integer() and 0 <= number < classes else -1


def _first(inverse: Int64, code: int, place: Callable[[int], str]) -> str:
    return place(int(np.argmax(inverse == code)))
