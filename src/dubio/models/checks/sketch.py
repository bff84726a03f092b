"""A model's weights told by three numbers a tensor: whether two loaded models compute with the same ones.

Files may differ where weights do not: a base that was saved again in other shards, an adapter that another peft wrote
again, or one that was merged into a copy of its base. So what is compared is what the model computes with, W of each
layer with the adapter merged into it:

    |W|_F,   a' W b,   c' W d        a, b, c, d: fixed vectors of signs

A change D of W moves a' W b by a' D b, whose spread over such signs is |D|_F: a single changed row of an embedding of
30,000 moves it by 1/173 of |W|_F, rounding by less than a millionth.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from dubio.arrays import Bool, Float64
from dubio.errors import ArtifactError

NUMBERS = 3
# Of a tensor's norm: sums in another order; in bfloat16, also weights that are rounded to the other side.
CLOSE = {"float32": 1e-5, "bfloat16": 1e-4}
_CHUNK = 1 << 24  # numbers at a time in float32


def sketch(model: nn.Module) -> dict[str, Float64]:
    """Name of each weight as the plain model has it -> `[3]` its sketch. An adapter that is merged has no own names."""
    return {name: _numbers(value) for name, value in _effective(model)}


def same_weights(found: Float64, stored: NDArray[Any], precision: str) -> Bool:
    """`[P]` which of two sketches `[P, 3]` are of the same weights; raises ArtifactError on another shape, or NaN."""
    if stored.shape != found.shape or stored.dtype != np.float64 or not np.isfinite(stored).all():
        raise ArtifactError("the artifact's sketch of the weights is not one of this model; run `dubio fit` again")
    scale = np.maximum(found[:, :1], stored[:, :1])
    return np.asarray((np.abs(found - stored) <= CLOSE[precision] * scale).all(axis=1), dtype=np.bool_)


def _effective(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Each weight that the model computes with, under the name that it has without peft's wrappers."""
    modules = dict(model.named_modules())
    layers = {name: module for name, module in modules.items() if isinstance(module, BaseTunerLayer)}
    saved = {name for name, module in modules.items() if isinstance(module, ModulesToSaveWrapper)}
    merged = bool(layers) and all(layer.merged for layer in layers.values())
    for name, value in model.state_dict().items():
        parts = name.split(".")
        plain: list[str] = []
        own = True
        for at, part in enumerate(parts):
            above, before = ".".join(parts[:at]), ".".join(parts[: at - 1])
            if above in layers:
                own = own and (part == "base_layer" or not merged)
                plain += [] if part == "base_layer" else [part]
            elif above in saved:
                own = own and part == "modules_to_save"
            elif before not in saved:  # below modules_to_save comes the adapter's name
                plain.append(part)
        if own:
            peeled = plain[2:] if isinstance(model, PeftModel) and plain[:2] == ["base_model", "model"] else plain
            yield ".".join(peeled), value


def _numbers(value: Tensor) -> Float64:
    table = value.detach().reshape(-1, value.shape[-1] if value.ndim > 1 else max(value.numel(), 1))
    rows, width = table.shape
    signs = torch.from_numpy(np.stack([_signs(f"column {k}", width) for k in range(NUMBERS - 1)], axis=1))
    signs = signs.to(table.device)
    squares, sums = 0.0, np.zeros(NUMBERS - 1)
    step = max(1, _CHUNK // max(width, 1))
    for start in range(0, rows, step):
        part = table[start : start + step].float()
        squares += float(torch.linalg.vector_norm(part, dtype=torch.float64)) ** 2
        products = (part @ signs).double().cpu().numpy()
        for k in range(NUMBERS - 1):
            sums[k] += float(_signs(f"row {k}", rows)[start : start + step] @ products[:, k])
    return np.array([squares**0.5, *sums])


@cache
def _stream(name: str, count: int) -> NDArray[np.float32]:
    """Signs from a hash, which no library's next version deals in another order."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(name.encode()).digest(count // 8), np.uint8))
    return bits.astype(np.float32) * 2 - 1


def _signs(name: str, count: int) -> NDArray[np.float32]:
    whole = 1 << max(10, (count - 1).bit_length())  # few lengths, so that few are made
    return _stream(name, whole)[:count]
