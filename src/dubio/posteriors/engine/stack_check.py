"""Whether a drawn stack can stand on a base: looked at before the first pass, which other shapes would break."""

from collections.abc import Mapping

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from dubio.errors import DubioError
from dubio.posteriors.engine.stack import AdapterStack, LowRank


def check_stack(stack: AdapterStack, model: nn.Module, head: nn.Module, name: str) -> None:
    """Raises DubioError where the stack of the posterior `name` adapts a layer that is not there, or does not fit it.

    model: the base, a classifier; head: its own (features -> logits).
    """
    modules, tensors = dict(model.named_modules()), stack.tensors()
    samples = {len(value) if value.dim() else 0 for value in tensors.values()}
    if len(samples) != 1 or 0 in samples:
        raise _misfit(name, "its tensors are of different numbers of samples")
    odd = next((key for key, value in tensors.items() if not value.is_floating_point()), None)
    if odd is not None:
        raise _misfit(name, f"{odd} holds no numbers with a point")
    for where, layer in stack.layers.items():
        sides = _sides(modules.get(where))
        if sides is None:
            raise _misfit(name, f"the base has no linear layer {where}")
        if isinstance(layer, LowRank):
            rank = layer.a.shape[1] if layer.a.dim() == 3 else -1
            fits = layer.a.shape[1:] == (rank, sides[1]) and layer.b.shape[1:] == (sides[0], rank)
        else:
            fits = layer.weight.shape[1:] == sides and (layer.bias is None or layer.bias.shape[1:] == sides[:1])
        if not fits:
            raise _misfit(name, f"its tensors for {where} are of other shapes than that layer")
    _check_head(stack.head, head, name)


def _check_head(tensors: Mapping[str, Tensor], head: nn.Module, name: str) -> None:
    held = head.state_dict()
    for key, value in tensors.items():
        if key not in held or value.shape[1:] != held[key].shape:
            raise _misfit(name, f"its head's {key} is not one of the base's")


def _sides(module: nn.Module | None) -> tuple[int, int] | None:
    """(outputs, inputs) of a linear layer."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if isinstance(module, Conv1D):
        return int(module.weight.shape[1]), int(module.weight.shape[0])
    return None


def _misfit(name: str, reason: str) -> DubioError:
    return DubioError(f"posterior {name} does not fit the base: {reason}; make it again")
