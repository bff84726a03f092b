"""One sample of a stack as a plain PEFT adapter folder, which any PEFT user loads without dubio.

peft writes it itself: a LoRA of the same layers, rank and scale is built on the base and filled. Layers of several
scales or ranks become peft's patterns.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from dubio.adapters.plan import LabelledTexts
from dubio.adapters.trainer import publish_adapter
from dubio.errors import DubioError
from dubio.models.adapted import AdaptedModel
from dubio.models.bases.locating import name_base
from dubio.posteriors.base_model import load_host
from dubio.posteriors.engine.stack import AdapterStack, LowRank


def export_member(
    host: AdaptedModel, stack: AdapterStack, member: int, out: Path, record: Mapping[str, Any], *,
    rows: tuple[LabelledTexts, LabelledTexts], dropout: float = 0.0, beside: Callable[[str], object] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Writes sample number `member` under `out`: adapter, tokenizer, and the training record; the config comes last.

    rows: (train, validation) of its training. beside: see `publish_adapter`. Returns the record as it is written.
    dropout: at which it was trained, for peft's config. A host of answer letters gives an adapter of the causal LM, and
    its head is the base's.
    """
    lettered = host.choices is not None
    fresh, _ = load_host(
        host.base, host.labels, max_length=host.max_length, choices=host.choices, tokenizer=host.tokenizer
    )
    model = fresh.model
    low = {name: layer for name, layer in stack.layers.items() if isinstance(layer, LowRank)}
    ranks = {name: layer.a.shape[1] for name, layer in low.items()}
    first = next(iter(low))
    whole = sorted(
        {name.split(".")[-2] for name in stack.layers if name not in low}
        | (set() if lettered else set(host.site.parts))
    )
    config = LoraConfig(
        task_type=None if lettered else TaskType.SEQ_CLS, r=ranks[first],
        lora_alpha=round(low[first].scale * ranks[first]), lora_dropout=dropout,
        target_modules=list(low), modules_to_save=whole or None, rank_pattern=ranks,
        alpha_pattern={name: layer.scale * ranks[name] for name, layer in low.items()},
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_model = get_peft_model(cast(Any, model), config)
    name_base(peft_model.peft_config["default"], host.base)
    inner: Any = peft_model.get_base_model()
    with torch.no_grad():
        for name, layer in low.items():
            module: Any = inner.get_submodule(name)
            module.lora_A["default"].weight.copy_(layer.a[member])
            module.lora_B["default"].weight.copy_(layer.b[member])
        for name, layer in stack.layers.items():
            if not isinstance(layer, LowRank):
                parent, _, leaf = name.rpartition(".")
                own = inner.get_submodule(parent).modules_to_save["default"].get_submodule(leaf)
                own.weight.copy_(layer.weight[member])
                if layer.bias is not None:
                    own.bias.copy_(layer.bias[member])
        head = {name: value[member] for name, value in stack.head.items()}
        if not lettered:
            _fill_head(inner, host, head)
        elif any(not torch.equal(head[name].cpu(), own) for name, own in host.head.state_dict().items()):
            raise DubioError("this sample changes the LM head, which an adapter of answer letters does not hold")
    work = out / ".posterior"
    work.mkdir(parents=True, exist_ok=True)
    return publish_adapter(peft_model, host.tokenizer, record, out, work, rows=rows, beside=beside)


def _fill_head(inner: Any, host: AdaptedModel, head: Mapping[str, torch.Tensor]) -> None:
    """The head's numbers into the model's own modules, in order: the site's copy lists the same layers."""
    own: list[torch.nn.Parameter] = []
    for part in host.site.parts:
        module = inner.get_submodule(part)
        saved = module.modules_to_save["default"] if hasattr(module, "modules_to_save") else module
        own += [p for m in cast(nn.Module, saved).modules() for p in m.parameters(recurse=False)]
    for parameter, name in zip(own, host.head.state_dict(), strict=True):
        parameter.copy_(head[name])
