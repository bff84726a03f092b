"""From a posterior's parameters `[S, ...]` to a stack, as they are stored: plain LoRA, or the cores of LoRA-XS."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from dubio.errors import DubioError
from dubio.models.adapted import AdaptedModel
from dubio.posteriors.engine.stack import AdapterStack, Dense, LowRank
from dubio.posteriors.training.parameters import Parameters, XsParameters, frozen_head

Form = Callable[[Mapping[str, Tensor]], AdapterStack]


def facts_of(parameters: Parameters | AdapterStack, *, frozen: bool = False) -> dict[str, Any]:
    """What `form_of` needs to know again, as JSON: of what was trained, or of a stack of plain LoRA.

    frozen: whether the head is the base's own and not kept with the stack (what was trained knows by itself).
    """
    if isinstance(parameters, Parameters):
        frozen = parameters.frozen_head
    return {**_form(parameters), **({"frozen_head": True} if frozen else {})}


def _form(parameters: Parameters | AdapterStack) -> dict[str, Any]:
    if isinstance(parameters, XsParameters):
        return {"form": "lora-xs", "targets": list(parameters.targets), "rank": parameters.rank,
                "scale": parameters.scale, "fresh": list(parameters.fresh)}  # fmt: skip
    if isinstance(parameters, Parameters):
        return {"form": "lora", "scales": dict.fromkeys(parameters.targets, parameters.scale)}
    scales = {name: layer.scale for name, layer in parameters.layers.items() if isinstance(layer, LowRank)}
    return {"form": "lora", "scales": scales}


def form_of(facts: Mapping[str, Any], host: AdaptedModel) -> Form:
    """The map that such facts describe, on the base at hand; raises DubioError for an unknown form."""
    frozen = bool(facts.get("frozen_head", False))
    if facts.get("form") == "lora-xs":
        made = XsParameters(host, tuple(facts["targets"]), facts["rank"], facts["scale"], tuple(facts["fresh"]), frozen)
        return made.stack
    if facts.get("form") != "lora":
        raise DubioError(f"unknown form {facts.get('form')!r} of a stored posterior; fit it again")
    scales: Mapping[str, float] = facts["scales"]
    if frozen:
        return lambda values: replace(lora_stack(values, scales), head=frozen_head(host, values))
    return lambda values: lora_stack(values, scales)


def lora_stack(values: Mapping[str, Tensor], scales: Mapping[str, float]) -> AdapterStack:
    """Tensors named as those of a stack -> the stack."""
    layers: dict[str, LowRank | Dense] = {}
    for name, value in values.items():
        layer, _, part = name.removeprefix("layer/").rpartition(".")
        if name.startswith("layer/") and part == "a":
            layers[layer] = LowRank(value, values[f"layer/{layer}.b"], float(scales[layer]))
        elif name.startswith("layer/") and part == "weight":
            layers[layer] = Dense(value, values.get(f"layer/{layer}.bias"))
    return AdapterStack(layers, {name[5:]: value for name, value in values.items() if name.startswith("head/")})
