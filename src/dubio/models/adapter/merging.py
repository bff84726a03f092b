"""Merging a proven adapter into its frozen base: the same function without the adapter's own products in every layer.

On a CPU the small products of an unmerged LoRA cost half as much again as the base's large ones. Merging happens in
float32, before any cast: in bfloat16 an update below half a step of its weight would be lost.
"""

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn


def merge_for_inference(model: nn.Module) -> bool:
    """Merges the active adapter in place where that is exact and possible; returns whether it did.

    Left as they are: prompts and prefixes (no weights to merge into), bases that are not in float32, layers that share
    their weights (`layer_replication`: each would add its update to all), and methods of PEFT that cannot merge.
    """
    if not isinstance(model, PeftModel) or not isinstance(model.base_model, BaseTuner):
        return False
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    weights = [p for layer in layers for p in layer.get_base_layer().parameters()]
    if any(p.dtype != torch.float32 for p in weights) or len({p.data_ptr() for p in weights}) < len(weights):
        return False
    try:
        for layer in layers:
            layer.merge(safe_merge=True)  # pyright: ignore[reportCallIssue]
    except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError):
        take_apart(model)
        return False
    return True


def take_apart(model: nn.Module) -> None:
    """Unmerges what is merged."""
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer) and layer.merged:
            layer.unmerge()
