"""Forward passes of prompt-learning adapters (prefix tuning, prompt tuning, P-tuning), padding counted rightly.

PEFT's own pass drops position numbers, so that a row's features would depend on padding to its left, and its prefix
tuning asks for an argument that transformers has since renamed. What PEFT has learned is read through its own
`get_prompt`; only the call of the base is ours.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel, PeftType
from torch import Tensor, nn

from dubio.errors import ProofError


def virtual_tokens(model: nn.Module) -> int:
    """Tokens that a prompt-learning adapter puts in front of every row; 0 for every other kind of model."""
    config: Any = model.active_peft_config if is_prompted(model) else None
    return 0 if config is None else int(config.num_virtual_tokens)


def is_prompted(model: nn.Module) -> bool:
    """Whether the adapter is a learned prompt rather than changed layers."""
    return isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning


def is_prefix(model: nn.Module) -> bool:
    """Whether the learned prompt is keys and values in front of every layer's, and not tokens."""
    config: Any = model.active_peft_config if is_prompted(model) else None
    return config is not None and config.peft_type == PeftType.PREFIX_TUNING


def run_prompted(model: PeftModel, batch: Mapping[str, Tensor], positions: Tensor | None) -> Any:
    """The base's output on a batch behind the learned prompt.

    positions: `[n, T]` numbers of the real tokens counted from 0, or None where the base numbers them itself.
    Raises ProofError where the architecture takes no prefix.
    """
    base: Any = model.get_base_model()
    config: Any = model.active_peft_config
    mask, count = batch["attention_mask"], config.num_virtual_tokens
    inputs: dict[str, Any] = {"attention_mask": torch.cat([mask.new_ones(len(mask), count), mask], dim=1)}
    prompt: Any = model.get_prompt(len(mask))
    if config.peft_type == PeftType.PREFIX_TUNING:
        inputs |= {"input_ids": batch["input_ids"], _cache_name(base): prompt}
        if positions is not None:
            inputs["position_ids"] = positions + count
    else:
        words: Tensor = base.get_input_embeddings()(batch["input_ids"])
        inputs["inputs_embeds"] = torch.cat([prompt.to(words.dtype), words], dim=1)
        if positions is not None:
            front = torch.arange(count, device=mask.device).expand(len(mask), -1)
            inputs["position_ids"] = torch.cat([front, positions + count], dim=1)
    if "token_type_ids" in batch:
        kinds = batch["token_type_ids"]
        added = 0 if "input_ids" in inputs else count
        inputs["token_type_ids"] = torch.cat([kinds.new_zeros(len(kinds), added), kinds], dim=1)
    return base(**inputs)


def _cache_name(base: Any) -> str:
    """How the architecture calls a prefix of keys and values."""
    body = inspect.signature(base.base_model.forward).parameters
    for name in ("cache", "past_key_values"):
        if name in body:
            return name
    raise ProofError(f"{type(base).__name__} takes no prefix of keys and values, so prefix tuning cannot be applied")
