"""Whether stored arrays can be what a method learned: numbers of the shapes that it declares, all finite.

A shape is declared by letters, one a side, as in `"C d"`: sides of one letter are alike over all of a method's arrays,
and a number stands for itself. A hash tells that a file is as it was written, not that it was written by a fit.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dubio.errors import DubioError


def check_arrays(arrays: Mapping[str, Any], shapes: Mapping[str, str | None], method: str) -> dict[str, NDArray[Any]]:
    """The declared arrays out of those that are stored. shapes: None where any will do.

    Raises DubioError naming the first that is missing, of another shape or type, or holds NaN or infinity.
    """
    sides: dict[str, int] = {}
    found: dict[str, NDArray[Any]] = {}
    for name, declared in shapes.items():
        if name not in arrays:
            raise DubioError(f"{method}: the stored state lacks {name!r}; fit again")
        array = np.asarray(arrays[name])
        letters = [f"side {at}" for at in range(array.ndim)] if declared is None else declared.split()
        if array.dtype.kind not in "fiub":
            raise DubioError(f"{method}: the stored {name} holds {array.dtype}, not numbers; fit again")
        pairs = zip(letters if declared is not None else (), array.shape, strict=False)
        fits = array.ndim == len(letters) and all(
            size == (int(letter) if letter.isdigit() else sides.setdefault(letter, size)) for letter, size in pairs
        )
        if not fits:
            known = ", ".join(f"{letter} = {size}" for letter, size in sides.items())
            told = f"shape {array.shape} does not fit [{', '.join(letters)}]{f' with {known}' if known else ''}"
            raise DubioError(f"{method}: the stored {name} of {told}; fit again")
        if not np.isfinite(array).all():
            raise DubioError(f"{method}: the stored {name} holds NaN or infinity; fit again")
        found[name] = array
    return found
