"""PEFT's LoRA adapters <-> samples of a stack: read through peft itself, written as adapters that peft loads.

What a stack holds is A, B and alpha/r of each adapted linear layer (rsLoRA and ranks of single layers included), the
linear layers that an adapter brings whole, and the head. What is no such thing (DoRA, IA3, prompts) is refused by name.
"""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel, PeftType
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from dubio.errors import DubioError
from dubio.models.head_location import find_site
from dubio.posteriors.engine.stack import AdapterStack, Dense, LowRank, concatenate


def stack_of(model: PeftModel, adapters: Sequence[str] = ("default",)) -> AdapterStack:
    """The named adapters of a PEFT classifier, one sample each, float32, in that order; the model is left as it is.

    Raises DubioError for adapters that are not plain LoRA, or do not change the same layers by the same scale.
    """
    active = list(model.active_adapters)
    try:
        return concatenate([_one(model, name) for name in adapters])
    finally:
        model.set_adapter(active[0])
        model.requires_grad_(False)


def _one(model: PeftModel, adapter: str) -> AdapterStack:
    kind: Any = model.peft_config[adapter].peft_type
    if kind != PeftType.LORA:
        raise DubioError(f"a stack is made of LoRA adapters, and this one is {kind.value}; score it alone")
    model.set_adapter(adapter)
    inner: Any = model.get_base_model()
    site = find_site(inner)
    layers: dict[str, LowRank | Dense] = {}
    for name, module in inner.named_modules():
        if name.split(".")[0] in site.parts:
            continue  # the head, which is kept whole
        if isinstance(module, LoraLayer) and adapter in module.scaling:
            layers[name] = _low_rank(name, module, adapter)
        elif isinstance(module, ModulesToSaveWrapper) and adapter in module.modules_to_save:
            layers |= _dense(name, module.modules_to_save[adapter])
    head = {name: value.unsqueeze(0) for name, value in site.head.state_dict().items()}
    return AdapterStack(layers, head)


def _low_rank(name: str, layer: LoraLayer, adapter: str) -> LowRank:
    if adapter in layer.lora_embedding_A:
        raise DubioError(f"{name}: LoRA on an embedding cannot be stacked")
    a: Any = layer.lora_A[adapter]
    b: Any = layer.lora_B[adapter]
    if layer.use_dora.get(adapter) or b.bias is not None or not isinstance(a, nn.Linear):
        raise DubioError(f"{name}: only LoRA on linear layers, without DoRA and bias, can be stacked")
    return LowRank(_copy(a.weight), _copy(b.weight), float(layer.scaling[adapter]))


def _dense(name: str, whole: nn.Module) -> dict[str, LowRank | Dense]:
    """The linear layers inside a module that is saved whole; it may hold nothing else that learns."""
    found: dict[str, LowRank | Dense] = {}
    for inner, module in whole.named_modules():
        if isinstance(module, nn.Linear):
            bias = None if "bias" not in module.state_dict() else _copy(module.bias)
            found[f"{name}.{inner}".rstrip(".")] = Dense(_copy(module.weight), bias)
        elif list(module.parameters(recurse=False)):
            raise DubioError(f"{name}: {type(module).__name__} is saved whole with the adapter and cannot be stacked")
    return found


def _copy(value: Tensor) -> Tensor:
    return value.detach().to(torch.float32).clone().unsqueeze(0)
