"""A PEFT adapter (or a fine-tuned classifier) from disk or hub -> an `AdaptedModel` that has passed both proofs.

Safetensors only; a GGUF file works as base. Whatever does not fit is named: missing heads, merged or foreign adapters.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor, nn

from dubio.errors import DubioError
from dubio.models.adapter_files import AdapterFiles, find_adapter, head_rows
from dubio.models.base import base_hash, check_device, load_base
from dubio.models.sites import Site, find_site

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class AdaptedModel:
    """A proven classifier: frozen, in eval mode. labels: class names in the order of logits.

    hashes: what identifies base, adapter, head and tokenizer, for cache keys. kind: PEFT's name of the method, or none.
    """

    model: nn.Module
    tokenizer: Any
    site: Site
    labels: tuple[str, ...]
    device: str
    precision: str
    max_length: int
    base: str
    kind: str
    family: str
    hashes: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def head(self) -> nn.Sequential:
        """The classification head, an independent float32 copy: features -> logits."""
        return self.site.head

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features `[n, d]` and logits `[n, C]` of a padded batch, float32; logits are the float32 head's."""
        features, _ = self.run(batch)
        with torch.inference_mode():
            return features, self.head(features.cpu()).to(features.device)

    def run(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features `[n, d]` float32, and the logits `[n, C]` that the model itself computed."""
        seen: list[Tensor] = []
        inputs = dict(batch)
        if self.site.pooling == "last" and not _prompted(self.model):
            inputs["position_ids"] = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        hook = self.site.module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                logits = self.model(**inputs).logits
        finally:
            hook.remove()
        return self.site.pool(seen[-1], batch["attention_mask"]), logits.float()


def load(
    path: str | Path, *, base: str | None = None, device: str = "cpu", precision: str = "float32",
    max_length: int | None = None,
) -> AdaptedModel:  # fmt: skip
    """Loads an adapter folder or hub id (or a fine-tuned classifier's folder) and proves it.

    base: overrides the adapter's base model (path, hub id, or .gguf file). precision: of the forward pass, `float32`
    or `bfloat16`. max_length: tokens a row (default: as trained, at most 512).
    Raises DubioError or ProofError, one line, on anything missing, foreign, merged, damaged, or not provable.
    """
    from dubio.models.proofs import prove  # proofs run the model that this module defines

    check_device(device)
    if precision not in PRECISIONS:
        raise DubioError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    files = find_adapter(path)
    record = files.record if files else {}
    if files is None:
        name, labels = str(base or path), None
        model, tokenizer, missing = load_base(name, labels, "cpu")
        if missing:
            raise DubioError(f"{path} is no adapter and no classifier: {missing[0]} is missing; name a trained folder")
        kind = "none"
    else:
        name, kind = str(base or files.base), files.kind
        model, tokenizer = _apply(files, name)
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    model = model.to(device=device, dtype=PRECISIONS[precision]).eval().requires_grad_(False)
    site = find_site(inner)
    hashes = {"base": base_hash(name), "adapter": files.sha256 if files else "none", "tokenizer": _hash_of(tokenizer)}
    adapted = AdaptedModel(
        model, tokenizer, site, tuple(str(inner.config.id2label[i]) for i in range(inner.config.num_labels)),
        device, precision, _length(max_length, record, tokenizer, inner.config), name, kind, inner.config.model_type,
        hashes,
    )  # fmt: skip
    prove(adapted, files)
    return adapted


def _apply(files: AdapterFiles, base: str) -> tuple[nn.Module, Any]:
    """The base with the adapter on it; raises DubioError where keys or shapes do not fit."""
    rows = head_rows(files)
    labels = files.record.get("labels")
    if labels is not None and rows is not None and len(labels) != rows:
        raise DubioError(
            f"{files.folder}: {len(labels)} label names for a head of {rows} classes; retrain or mend them"
        )
    model, tokenizer, missing = load_base(base, labels or rows, "cpu")
    if rows is None and missing:
        raise DubioError(
            f"{files.folder}: the adapter holds no classification head and its base has none: {missing[0]} would be "
            "random; save it with modules_to_save"
        )
    recorded = files.record.get("base_sha256")
    if recorded is not None and recorded != base_hash(base):
        raise DubioError(
            f"{files.folder}: {base} is not the base that the adapter was trained on (its weights differ: another "
            "model, another revision, or the adapter merged into it)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = PeftConfig.from_pretrained(str(files.folder))
            adapted = PeftModel.from_pretrained(model, str(files.folder), config=config, is_trainable=False)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DubioError(
            f"{files.folder}: trained on {files.base}, does not fit {base}: {_first_line(error)}"
        ) from error
    return adapted, tokenizer


def _prompted(model: nn.Module) -> bool:
    """Prompt-learning adapters put virtual tokens in front and count positions themselves."""
    return isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning


def _length(asked: int | None, record: Mapping[str, Any], tokenizer: Any, config: Any) -> int:
    limits = [getattr(config, "max_position_embeddings", 512) or 512, int(min(tokenizer.model_max_length, 10**6))]
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        limits[0] -= 2  # positions start behind the padding index
    if asked is not None and asked < 1:
        raise DubioError(f"max length must be at least 1, not {asked}")
    return min(asked or int(record.get("max_length", 512)), *limits)


def _hash_of(tokenizer: Any) -> str:
    import hashlib

    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else (lines or [repr(error)])[0]
