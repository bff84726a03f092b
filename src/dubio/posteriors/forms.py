"""From a posterior's parameters `[S, ...]` to a stack, as they are stored: plain LoRA, or the cores of LoRA-XS."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from dubio.errors import DubioError
from dubio.models.loading import AdaptedModel
from dubio.posteriors.parameters import Parameters, XsParameters
from dubio.posteriors.stack import AdapterStack, Dense, LowRank

Form = Callable[[Mapping[str, Tensor]], AdapterStack]


def facts_of(parameters: Parameters | AdapterStack) -> dict[str, Any]:
    """What `form_of` needs to know again, as JSON: of what was trained, or of a stack of plain LoRA."""
    if isinstance(parameters, XsParameters):
        return {"form": "lora-xs", "targets": list(parameters.targets), "rank": parameters.rank,
                "scale": parameters.scale, "fresh": list(parameters.fresh)}  # fmt: skip
    if isinstance(parameters, Parameters):
        return {"form": "lora", "scales": dict.fromkeys(parameters.targets, parameters.scale)}
    scales = {name: layer.scale for name, layer in parameters.layers.items() if isinstance(layer, LowRank)}
    return {"form": "lora", "scales": scales}


def form_of(facts: Mapping[str, Any], host: AdaptedModel) -> Form:
    """The map that such facts describe, on the base at hand; raises DubioError for an unknown form."""
    if facts.get("form") == "lora-xs":
        made = XsParameters(host, tuple(facts["targets"]), facts["rank"], facts["scale"], tuple(facts["fresh"]))
        return made.stack
    if facts.get("form") != "lora":
        raise DubioError(f"unknown form {facts.get('form')!r} of a stored posterior; fit it again")
    scales: Mapping[str, float] = facts["scales"]
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
