"""Where an architecture's classification head begins: which module to watch, how its input is pooled, the head itself.

The features of a row are the very vector that enters the head: after the pooler for BERT, token 0 for RoBERTa, ELECTRA,
DistilBERT and DeBERTa, token 0 or the mean for ModernBERT, and for decoders the hidden state of the rightmost token
that is not the pad token: transformers passes over pad tokens of the text itself too, such as a final </s> where that
is what rows are padded with. (Never found by length: that is how padding leaks into scores.)
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from dubio.errors import ProofError

Pooling = Literal["vector", "first", "last"]


@dataclass(frozen=True)
class Site:
    """module: whose input is watched. pooling: of that input, [n, d], [n, T, d] at token 0, or at the last token.

    head: an independent float32 copy, features -> logits, in eval mode. parts: names of the model's head modules.
    pad: the token that a decoder passes over when it looks for the last one; -1: none.
    """

    module: nn.Module
    pooling: Pooling
    head: nn.Sequential
    parts: tuple[str, ...]
    pad: int = -1

    def positions(self, batch: Mapping[str, Tensor]) -> Tensor:
        """`[n]` where a decoder reads each row of a padded batch: its rightmost token that is not `pad`.

        A row of nothing but pad tokens is read at its first one, as transformers reads it alone.
        """
        real, steps = batch["attention_mask"] != 0, torch.arange(batch["attention_mask"].shape[1])
        words = real & (batch["input_ids"] != self.pad)
        last = (steps.to(real.device) * words).argmax(dim=1)
        return torch.where(words.any(dim=1), last, real.int().argmax(dim=1))

    def pool(self, seen: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Features `[n, d]` float32 from what entered the module, given the ids and mask `[n, T]` of the batch."""
        if self.pooling == "first":
            seen = seen[:, 0]
        elif self.pooling == "last":
            # Prefix tuning hands the head virtual tokens too, in front of the real ones.
            last = self.positions(batch) + (seen.shape[1] - batch["input_ids"].shape[1])
            seen = seen[torch.arange(len(seen), device=seen.device), last]
        return seen.float()


def find_site(model: nn.Module) -> Site:
    """The site of a transformers sequence classifier, PEFT-wrapped inside or not; raises ProofError if unknown."""
    parts = dict(model.named_children())
    for known in (_decoder, _dense_head, _distilbert, _modernbert, _deberta, _pooled):
        site = known(model, parts)
        if site is not None:
            return site
    raise ProofError(
        f"no classification head known in {type(model).__name__}; dubio reads those of BERT, RoBERTa, ELECTRA, "
        "DistilBERT, DeBERTa, ModernBERT and what is built like them, and the `score` of decoders"
    )


def effective(module: nn.Module) -> nn.Module:
    """A float32 deep copy with adapters merged and wrappers gone: what the module computes, the module untouched."""
    if isinstance(module, ModulesToSaveWrapper):
        active = module.active_adapters
        module = module.modules_to_save[active[0]] if active else module.original_module
    own = copy.deepcopy(module).float().cpu()
    if isinstance(own, BaseTunerLayer):
        own.merge(safe_merge=True)  # pyright: ignore[reportCallIssue]
        return own.get_base_layer()
    for name, child in own.named_children():
        setattr(own, name, effective(child))
    return own


def _sequence(*layers: nn.Module) -> nn.Sequential:
    plain: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            own = nn.Linear(layer.in_features, layer.out_features, bias="bias" in layer.state_dict())
            own.load_state_dict(layer.state_dict())
            plain.append(own)
        elif type(layer).__module__.startswith("transformers.activations"):
            plain.append(_activation(type(layer).__name__))
        else:
            plain.append(layer)
    return nn.Sequential(*plain).eval().requires_grad_(False)


def _activation(name: str) -> nn.Module:
    """A torch activation for transformers' names (functions or classes)."""
    known: dict[str, Any] = {
        "gelu": nn.GELU, "GELUActivation": nn.GELU, "tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU,
        "swish": nn.SiLU, "SiLUActivation": nn.SiLU, "gelu_new": lambda: nn.GELU(approximate="tanh"),
        "NewGELUActivation": lambda: nn.GELU(approximate="tanh"),
        "gelu_pytorch_tanh": lambda: nn.GELU(approximate="tanh"), "linear": nn.Identity,
    }  # fmt: skip
    if name not in known:
        raise ProofError(f"the head's activation {name!r} is not one that dubio can copy")
    return known[name]()


def _decoder(model: Any, parts: dict[str, nn.Module]) -> Site | None:
    if "score" not in parts:
        return None
    own = effective(parts["score"])
    layers = list(own) if isinstance(own, nn.Sequential) else [own]  # a head over the whole vocabulary has two
    pad = model.config.get_text_config().pad_token_id if hasattr(model, "config") else None
    return Site(parts["score"], "last", _sequence(*layers), ("score",), -1 if pad is None else int(pad))


def _dense_head(_: Any, parts: dict[str, nn.Module]) -> Site | None:
    """RoBERTa and ELECTRA: dense, activation, out_proj, in one module that picks token 0 itself."""
    head = parts.get("classifier")
    if head is None:
        return None
    own: Any = effective(head)
    if not hasattr(own, "dense") or not hasattr(own, "out_proj") or not hasattr(own, "dropout"):
        return None
    activation = _activation(type(own.activation).__name__) if hasattr(own, "activation") else nn.Tanh()
    drop = nn.Dropout(own.dropout.p)
    layers = _sequence(drop, own.dense, activation, copy.deepcopy(drop), own.out_proj)
    return Site(head, "first", layers, ("classifier",))


def _distilbert(_: Any, parts: dict[str, nn.Module]) -> Site | None:
    if not {"pre_classifier", "dropout", "classifier"} <= set(parts):
        return None
    layers = [effective(parts[name]) for name in ("pre_classifier", "dropout", "classifier")]
    head = _sequence(layers[0], nn.ReLU(), nn.Dropout(parts["dropout"].p), layers[2])  # pyright: ignore[reportArgumentType]
    return Site(parts["pre_classifier"], "vector", head, ("pre_classifier", "classifier"))


def _modernbert(model: Any, parts: dict[str, nn.Module]) -> Site | None:
    if "head" not in parts or "classifier" not in parts:
        return None
    own: Any = effective(parts["head"])
    if not hasattr(own, "dense") or not hasattr(own, "norm") or not hasattr(model.config, "classifier_activation"):
        return None
    drop = nn.Dropout(model.config.classifier_dropout)
    activation = _activation(model.config.classifier_activation)
    head = _sequence(own.dense, activation, own.norm, drop, effective(parts["classifier"]))
    return Site(parts["head"], "vector", head, ("head", "classifier"))


def _deberta(model: Any, parts: dict[str, nn.Module]) -> Site | None:
    if "pooler" not in parts or "classifier" not in parts:
        return None
    own: Any = effective(parts["pooler"])
    if not hasattr(own, "dense") or not hasattr(model.config, "pooler_hidden_act"):
        return None
    activation = _activation(model.config.pooler_hidden_act)
    drops = nn.Dropout(model.config.pooler_dropout), nn.Dropout(float(parts["dropout"].p))  # pyright: ignore
    head = _sequence(drops[0], own.dense, activation, drops[1], effective(parts["classifier"]))
    return Site(parts["pooler"], "first", head, ("pooler", "classifier"))


def _pooled(_: Any, parts: dict[str, nn.Module]) -> Site | None:
    """BERT and others whose classifier is one linear layer on a pooled vector."""
    classifier = parts.get("classifier")
    own = None if classifier is None else effective(classifier)
    if classifier is None or not isinstance(own, nn.Linear):
        return None
    return Site(classifier, "vector", _sequence(own), ("classifier",))
