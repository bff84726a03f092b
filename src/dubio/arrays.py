"""From whatever array a user holds to checked NumPy arrays, so that the rest of the package need not ask again."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dubio.errors import DubioError

FloatArray = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


def as_numpy(values: Any) -> NDArray[Any]:
    """A NumPy view of `values` (array, list, or a torch tensor on any device and of any precision)."""
    if hasattr(values, "detach"):  # a torch tensor, recognised without importing torch
        tensor = values.detach().cpu()
        values = tensor.float().numpy() if "bfloat16" in str(tensor.dtype) else tensor.numpy()
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise DubioError(f"no array can be made of this {type(values).__name__}; give rows of one length") from error


def check_finite(values: NDArray[Any], name: str, first: int = 0) -> None:
    """Raises DubioError naming the first row of `values` that holds NaN or infinity; rows count from `first`."""
    if values.dtype.kind != "f" or np.isfinite(values.sum(dtype=np.float64)):
        return
    for start in range(0, len(values), 65536):  # chunked: `values` may be a memory map
        finite = np.isfinite(values[start : start + 65536])
        if not finite.all():
            row = first + start + int(np.argwhere(~finite)[0][0])
            raise DubioError(f"{name}: row {row} holds NaN or infinity; remove the row or mend what produced it")


def as_matrix(values: Any, name: str, dtype: type = np.float32) -> NDArray[Any]:
    """A finite float matrix `[N, k]`; raises DubioError otherwise."""
    array = as_numpy(values)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DubioError(f"{name}: expected a matrix [rows, columns], got shape {array.shape}")
    if array.dtype.kind not in "fiu":
        raise DubioError(f"{name}: expected numbers, got {array.dtype}")
    with np.errstate(over="ignore"):
        matrix = array if array.dtype == dtype else array.astype(dtype)
    check_finite(matrix, name)  # after the cast, in which a number too large becomes infinity
    return matrix


def as_samples(values: Any, name: str, shape: tuple[int, ...]) -> Float32:
    """Log-probabilities `[S, N, C]` float32 of S adapters for a table of shape (N, C); raises DubioError otherwise."""
    array = as_numpy(values)
    if array.ndim != 3 or len(array) == 0 or array.shape[1:] != shape:
        raise DubioError(f"samples of {name}: expected [samples, {shape[0]}, {shape[1]}], got shape {array.shape}")
    table = array.astype(np.float32, copy=False)
    if table.size and np.isneginf(table.min()):
        row = int(np.argwhere(np.isneginf(table))[0][1])
        raise DubioError(
            f"samples of {name}: row {row} holds -inf, a probability of exactly 0; pass log_softmax of finite logits"
        )
    whole = np.exp(table).sum(axis=2)
    if table.size and not (np.abs(whole - 1) < 1e-3).all():
        row = int(np.argwhere(~(np.abs(whole - 1) < 1e-3))[0][1])
        raise DubioError(f"samples of {name}: row {row} holds no log-probabilities; pass log_softmax of the logits")
    return table


def as_vector(values: Any, name: str, rows: int | None = None) -> Float64:
    """A finite float64 vector `[N]`, of `rows` entries if given; raises DubioError otherwise."""
    array = as_numpy(values)
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise DubioError(f"{name}: expected a vector of numbers, got shape {array.shape} of {array.dtype}")
    if rows is not None and len(array) != rows:
        raise DubioError(f"{name}: expected {rows} rows, got {len(array)}")
    check_finite(array, name)
    return array.astype(np.float64)


def as_labels(values: Any, name: str, rows: int | None = None, classes: int | None = None) -> Int64:
    """Class indices `[N]` as int64, in `[0, classes)` if given; raises DubioError otherwise."""
    array = as_numpy(values)
    if array.dtype.kind == "f":
        check_finite(array, name)
        if not np.array_equal(array, np.round(array)):
            raise DubioError(f"{name}: expected class indices, got fractions")
    elif array.dtype.kind not in "iub":
        raise DubioError(f"{name}: expected class indices, got {array.dtype}")
    if array.ndim != 1 or (rows is not None and len(array) != rows):
        raise DubioError(f"{name}: expected a vector of {rows if rows is not None else 'N'} rows, got {array.shape}")
    labels = array.astype(np.int64)
    if len(labels) and (labels.min() < 0 or (classes is not None and labels.max() >= classes)):
        row = int(np.flatnonzero((labels < 0) | (labels >= (classes or labels.max() + 1)))[0])
        raise DubioError(f"{name}: row {row} holds class {labels[row]}, outside the model's {classes} classes")
    return labels


def as_errors(values: Any, name: str = "errors", rows: int | None = None) -> Bool:
    """The error indicator `[N]` (1 = the prediction is wrong) as booleans; raises DubioError unless it is 0/1."""
    array = as_vector(values, name, rows)
    if not np.isin(array, (0.0, 1.0)).all():
        raise DubioError(f"{name}: expected 0 (right) and 1 (wrong) only")
    return array.astype(np.bool_)
