"""Classification heads as plain, serialisable torch modules: a JSON spec of layers and arrays of float32.

A head is an `nn.Sequential` of the layers below (and `KeptAndRest`); any other module works in memory but must be
supplied again by the caller when it is restored (its spec says `custom`).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dubio.errors import DubioError

_PLAIN: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU, "identity": nn.Identity,
}  # fmt: skip


class KeptAndRest(nn.Module):
    """Logits of a vocabulary `[..., V]` -> those of K chosen tokens, and one of all others together `[..., K + 1]`.

    The last is their logsumexp, so that a softmax over K + 1 gives the probabilities of the softmax over V. size: V.
    """

    others: torch.Tensor

    def __init__(self, kept: Sequence[int], size: int) -> None:
        super().__init__()
        self.kept, self.size = [int(token) for token in kept], int(size)
        if not self.kept or not 0 <= min(self.kept) <= max(self.kept) < self.size or len(set(self.kept)) >= self.size:
            raise ValueError(f"the kept tokens must lie in [0, {size}) and leave others")
        mask = torch.zeros(self.size)
        mask[self.kept] = -torch.inf
        self.register_buffer("others", mask, persistent=False)  # follows from the spec

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """In the type of the logits, and where they are."""
        rest = (logits + self.others.to(logits)).logsumexp(dim=-1, keepdim=True)
        return torch.cat([logits[..., self.kept], rest], dim=-1)


def head_spec(head: nn.Module) -> list[dict[str, Any]]:
    """The layers of a head, as JSON; `[{"layer": "custom"}]` for a module of any other kind."""
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    specs = [_layer_spec(layer) for layer in layers]
    if any(spec is None for spec in specs):
        return [{"layer": "custom"}]
    return [spec for spec in specs if spec is not None]


def build_head(spec: Sequence[Mapping[str, Any]], like: nn.Module | None = None) -> nn.Module:
    """A fresh head in eval mode from its spec; a custom one is a deep copy of `like`.

    Raises DubioError for an unknown layer, or a custom head without `like`.
    """
    if any(layer.get("layer") == "custom" for layer in spec):
        if like is None:
            raise DubioError("this head is made of custom layers; pass the module as head=")
        return copy.deepcopy(like).float().eval()
    try:
        return nn.Sequential(*(_build_layer(layer) for layer in spec)).eval()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, DubioError):
            raise
        raise DubioError(f"a stored head's layers are damaged ({type(error).__name__}: {error})") from error


def head_arrays(head: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Copies of the head's parameters by name; a bare layer is named as in a Sequential of one."""
    whole = head if isinstance(head, nn.Sequential) or head_spec(head)[0]["layer"] == "custom" else nn.Sequential(head)
    return {name: value.detach().cpu().float().numpy().copy() for name, value in whole.state_dict().items()}


def stored_head(
    spec: Any, arrays: Mapping[str, NDArray[Any]], like: nn.Module | None = None
) -> nn.Module:  # fmt: skip
    """The head that a spec and its arrays describe, in eval mode; raises DubioError where they do not fit each other.

    Layers are built after their sizes were compared with the arrays: a spec may name any.
    """
    held = sum(np.asarray(value).size for value in arrays.values())
    if not isinstance(spec, list) or not all(isinstance(layer, dict) for layer in spec):
        raise DubioError("a stored head's layers are damaged (no list of layers)")
    for layer in spec:
        sides = [layer.get(name) for name in ("in", "out", "size")]
        if any(isinstance(side, int) and not 0 < side <= held for side in sides):
            raise DubioError(f"a stored head's layers are damaged (sizes beyond its {held} numbers)")
        if isinstance(sides[0], int) and isinstance(sides[1], int) and sides[0] * sides[1] > held:
            raise DubioError(f"a stored head's layers are damaged (sizes beyond its {held} numbers)")
    head = build_head(spec, like)
    load_head_arrays(head, arrays)
    return head


def load_head_arrays(head: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Fills a head built by `build_head`; raises DubioError on missing, unexpected or misshapen arrays."""
    odd = next((name for name, v in arrays.items() if v.dtype.kind not in "fiub" or not np.isfinite(v).all()), None)
    if odd is not None:
        raise DubioError(f"the stored head does not fit its layers: {odd} holds NaN, infinity, or no numbers")
    try:
        head.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    except (RuntimeError, TypeError) as error:
        raise DubioError(f"the stored head does not fit its layers: {str(error).splitlines()[-1].strip()}") from error


def _layer_spec(layer: nn.Module) -> dict[str, Any] | None:
    # By exact type: a subclass may compute something else.
    if type(layer) is nn.Linear:
        return {"layer": "linear", "in": layer.in_features, "out": layer.out_features, "bias": _has_bias(layer)}
    if type(layer) is nn.Dropout:
        return {"layer": "dropout", "p": layer.p}
    if type(layer) is nn.LayerNorm and len(layer.normalized_shape) == 1 and layer.elementwise_affine:
        return {"layer": "norm", "size": layer.normalized_shape[0], "eps": layer.eps, "bias": _has_bias(layer)}
    if type(layer) is KeptAndRest:
        return {"layer": "kept_and_rest", "kept": layer.kept, "size": layer.size}
    if type(layer) is nn.GELU:
        return {"layer": "gelu_tanh" if layer.approximate == "tanh" else "gelu"}
    names: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.SiLU: "silu", nn.Identity: "identity"}
    return {"layer": names[type(layer)]} if type(layer) in names else None


def _has_bias(layer: nn.Module) -> bool:
    return any(name == "bias" for name, _ in layer.named_parameters(recurse=False))


def _build_layer(spec: Mapping[str, Any]) -> nn.Module:
    match spec.get("layer"):
        case "linear":
            return nn.Linear(spec["in"], spec["out"], bias=spec["bias"])
        case "dropout":
            return nn.Dropout(spec["p"])
        case "norm":
            return nn.LayerNorm(spec["size"], eps=spec["eps"], bias=spec["bias"])
        case "kept_and_rest":
            return KeptAndRest(spec["kept"], spec["size"])
        case str(name) if name in _PLAIN:
            return _PLAIN[name]()
        case other:
            raise DubioError(f"unknown layer {other!r} in a stored head")
