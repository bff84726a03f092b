"""Bases in .gguf files, read once a process: parsing one takes ten seconds and more, and one job needs it repeatedly.

What was read last is kept, dequantised, until another file is read; a file that changed is read again.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

_LARGEST = 1 << 30  # bytes of float32 weights; a larger base is read each time rather than held twice
_LABELS = ("num_labels", "id2label", "label2id")


@dataclass(frozen=True)
class _Kept:
    """A classifier's class, config and weights without those that the file lacks; its tokenizer."""

    file: tuple[str, int, int]
    kind: Any
    config: Any
    weights: Mapping[str, torch.Tensor]
    tokenizer: Any


_kept: _Kept | None = None


def read_gguf(folder: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any], Any]:
    """(sequence classifier in float32, transformers' loading info, tokenizer), equal to what transformers reads.

    folder, options: as for transformers' `from_pretrained`: `gguf_file`, and the labels or none.
    """
    global _kept
    file = Path(folder) / options["gguf_file"]
    facts = file.stat()
    version = (str(file.resolve()), facts.st_size, facts.st_mtime_ns)
    named = any(name in options for name in _LABELS)
    kept = _kept
    if named and kept is not None and kept.file == version:
        return *_rebuilt(kept, folder, options), copy.deepcopy(kept.tokenizer)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name, trust_remote_code=False)
    model, info = classifier_from(folder, options)
    weights = {name: value for name, value in model.state_dict().items() if name not in info["missing_keys"]}
    plain = named and not info["mismatched_keys"]  # else the labels, or the size of the head, are the file's own
    if plain and sum(value.nbytes for value in weights.values()) <= _LARGEST:
        copies = {name: value.clone() for name, value in weights.items()}
        _kept = _Kept(version, type(model), copy.deepcopy(model.config), copies, copy.deepcopy(tokenizer))
    return model, info, tokenizer


def classifier_from(where: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(sequence classifier in float32, transformers' loading info).

    A head of another size in the base is replaced; it then counts as missing, and the adapter must bring it.
    """
    return AutoModelForSequenceClassification.from_pretrained(
        where, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )


def _rebuilt(kept: _Kept, folder: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model anew: a random head is drawn as if the file had been read."""
    config = copy.deepcopy(kept.config)
    quantised = config.__dict__.pop("quantization_config", None)  # the weights are not any more
    for name in _LABELS:
        if name in options:
            setattr(config, name, options[name])
    copies = {name: value.clone() for name, value in kept.weights.items()}  # adapters may be merged into them
    model, info = kept.kind.from_pretrained(
        None, config=config, state_dict=copies, dtype=torch.float32, output_loading_info=True
    )
    if quantised is not None:
        model.config.quantization_config = quantised
    model.name_or_path = model.config.name_or_path = folder  # peft writes it into adapters
    return model, info
