"""Which layers of a base LoRA adapts, and which modules the base came without: names in, names out."""

from collections.abc import Sequence

import torch
from transformers import Conv1D

from dubio.errors import DubioError

# The projections that LoRA adapts, family by family: query, key, value (one fused module in GPT-2 and ModernBERT).
_TARGETS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("query_proj", "key_proj", "value_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("Wqkv",),
    ("c_attn",),
)
# Parts that a base without a classifier lacks, by their names in the nine families.
_FRESH = ("classifier", "score", "pre_classifier", "head", "pooler")


def top_indices(model: torch.nn.Module, top: int) -> list[int]:
    """Numbers of the last `top` blocks; raises DubioError where the model has fewer, or no blocks."""
    count = max((len(m) for m in model.modules() if isinstance(m, torch.nn.ModuleList)), default=0)
    if not 0 < top <= count:
        raise DubioError(f"this model has {count} blocks, so top_layers cannot be {top}")
    return list(range(count - top, count))


def layers_named(model: torch.nn.Module, ends: Sequence[str], top: int | None = None) -> list[str]:
    """Full names of the linear layers inside blocks whose names end so, in the model's order.

    top: of the last so many blocks only.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    inside = [name for name in names if any(part.isdigit() for part in name.split("."))]
    found = [name for name in inside if any(f".{name}".endswith(f".{end}") for end in ends)]
    if top is None:
        return found
    chosen = top_indices(model, top)
    return [name for name in found if any(part.isdigit() and int(part) in chosen for part in name.split("."))]


def lora_targets(model: torch.nn.Module, asked: str | None = None) -> list[str]:
    """Ends of names of the layers to adapt: those asked for, with commas, else query, key and value projections.

    Raises DubioError for an architecture whose projections are not known, or an end that no layer has.
    """
    if asked is not None:
        ends = [end.strip() for end in asked.split(",")]
        for end in ends:
            if not end or not layers_named(model, [end]):
                raise DubioError(f"no linear layer in the blocks of {type(model).__name__} ends with {end!r}")
        return ends
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    for group in _TARGETS:
        if names.issuperset(group):
            return list(group)
    raise DubioError(f"no query, key and value projections known in {type(model).__name__}; train it with peft itself")


def fresh_modules(missing: Sequence[str]) -> list[str]:
    """Modules that the base came without (new heads, poolers): they must be trained whole and saved.

    missing: parameter names that were initialised afresh. Returns the module names to pass as modules_to_save.
    Raises DubioError where something else is missing: a body that starts at random is no base.
    """
    for name in missing:
        if not set(_FRESH) & set(name.split(".")):
            raise DubioError(f"the base model lacks {name}; name a complete base")
    return [part for part in _FRESH if any(part in name.split(".") for name in missing)]
