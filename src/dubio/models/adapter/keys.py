"""Names and shapes of an adapter's stored tensors: what people save besides peft's own form, told by name.

peft loads what has its names and passes over the rest in silence, so that an adapter saved from a wrapped model, or by
`torch.save(model.state_dict())`, would be scored as its base.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from dubio.errors import DubioError

_PREFIX = "base_model.model."
_AGAIN = "save it again with peft's save_pretrained"
# A part of a key -> who puts it there, and how to do without.
_WRAPPERS = {
    "_orig_mod": ("torch.compile", "call save_pretrained of the model under it (model._orig_mod)"),
    "_fsdp_wrapped_module": ("FSDP", "gather the whole model, then call save_pretrained"),
    "_checkpoint_wrapped_module": ("activation checkpointing", "call save_pretrained of the model under it"),
    "module": ("DistributedDataParallel", "call save_pretrained of the model under it (model.module)"),
}
_NAMED = re.compile(r".*\.(?:lora_A|lora_B|lora_magnitude_vector)\.([^.]+)\.(?:weight|bias)")


def check_keys(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises DubioError for keys or shapes that peft has not written, with who wrote them and what to do."""
    empty = [key for key, shape in shapes.items() if 0 in shape]
    if empty:
        raise DubioError(
            f"{folder}: {len(empty)} tensors of the adapter are empty, such as {empty[0]}: DeepSpeed ZeRO-3 or FSDP "
            f"saved one shard of it; gather the weights, then {_AGAIN}"
        )
    for key in shapes:
        wrapper = _wrapper(key)
        if wrapper is not None:
            who, remedy = _WRAPPERS[wrapper]
            raise DubioError(
                f"{folder}: the adapter was saved from inside {who} ({wrapper} in {key}), so peft does not find its "
                f"weights; {remedy}"
            )
        _check_by_hand(folder, key, shapes)
    if shapes and any(".lora_A." in key for key in shapes) and not any(key.startswith(_PREFIX) for key in shapes):
        raise DubioError(
            f"{folder}: the adapter's keys, such as {min(shapes)}, lack peft's {_PREFIX[:-1]} in front; {_AGAIN}"
        )


def _wrapper(key: str) -> str | None:
    parts = key.split(".")
    own = parts[2:3] if key.startswith(_PREFIX) else []
    if "module" in (*parts[:1], *own):
        return "module"
    return next((part for part in parts if part in _WRAPPERS and part != "module"), None)


def _check_by_hand(folder: Path, key: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Keys as `state_dict()` names them: with the adapter's name inside."""
    named = _NAMED.fullmatch(key)
    if named is not None and named[1] != "default":  # which peft does find
        raise DubioError(f"{folder}: the adapter's keys hold its name, {named[1]!r}, as in {key}; {_AGAIN}")
    if ".modules_to_save." not in key:
        return
    before, _, after = key.partition(".modules_to_save.")
    if "." in after and f"{before}.{after.partition('.')[2]}" not in shapes:
        raise DubioError(
            f"{folder}: {key} is a name of the model in memory, and peft reads {before}.{after.partition('.')[2]}; "
            f"{_AGAIN}"
        )


def stored_name(key: str) -> str:
    """The key under which peft stores what is called `key` in a loaded model: without the adapter's name."""
    return key.replace(".default.", ".").removesuffix(".default")


def not_loaded(model: nn.Module, weights: Path, keys: set[str]) -> list[str]:
    """Those of the stored keys, besides peft's own, that are not in the model with the very values stored."""
    held = model.state_dict()
    by_name: dict[str, list[str]] = {}
    for name in held:
        by_name.setdefault(stored_name(name), []).append(name)
    found: list[str] = []
    with safe_open(weights, framework="pt") as opened:
        for key in sorted(keys):
            stored = opened.get_tensor(key)
            names = [name for name in {key, *by_name.get(key, [])} if name in held]
            if not any(held[name].shape == stored.shape and _same(held[name], stored) for name in names):
                found.append(key)
    return found


def _same(held: torch.Tensor, stored: torch.Tensor) -> bool:
    return torch.equal(held.cpu().float(), stored.float())
