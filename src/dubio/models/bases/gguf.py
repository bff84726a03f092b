"""Bases in .gguf files. Parsing one takes ten seconds and more, and one job needs its base several times.

So the classifier and the tokenizer that were read last are kept, the weights dequantised, until another file is read or
the file changes; not a base of more than 1 GiB, nor one that was read for its own labels.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

_LARGEST = 1 << 30  # bytes of float32 weights


@dataclass(frozen=True)
class _Classifier:
    """Its class, its config, and its weights without those that the file lacks."""

    kind: Any
    config: Any
    weights: Mapping[str, torch.Tensor]


# What was read last, and from which version of which file.
_classifier: tuple[tuple[str, int, int], _Classifier] | None = None
_tokenizer: tuple[tuple[str, int, int], Any] | None = None


def gguf_classifier(folder: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(sequence classifier in float32, transformers' loading info), equal to what transformers reads.

    folder, options: as for transformers' `from_pretrained`: `gguf_file`, whole, and the labels or none.
    """
    global _classifier
    version, named = _version(options["gguf_file"]), "num_labels" in options
    kept = _classifier  # once, as other threads may read too
    if named and kept is not None and kept[0] == version:
        return _rebuilt(kept[1], folder, options)
    model, info = classifier_from(folder, options)
    # The weights are float32 by now, and transformers would refuse to train over quantised ones.
    model.hf_quantizer, model.is_quantized = None, False
    model.__dict__.pop("quantization_method", None)
    if getattr(model.config, "quantization_config", None) is not None:  # part of what a model is known by
        model.config.quantization_config.gguf_file = Path(options["gguf_file"]).name
    weights = {name: value for name, value in model.state_dict().items() if name not in info["missing_keys"]}
    # Without labels given, or with a head of another size, the file's own count is in it.
    if named and not info["mismatched_keys"] and sum(value.nbytes for value in weights.values()) <= _LARGEST:
        copies = {name: value.clone() for name, value in weights.items()}
        _classifier = version, _Classifier(type(model), copy.deepcopy(model.config), copies)
    return model, info


def gguf_tokenizer(folder: str, file: str) -> Any:
    """The file's tokenizer, equal to what transformers reads. file: whole."""
    global _tokenizer
    version, kept = _version(file), _tokenizer
    if kept is None or kept[0] != version:
        kept = version, AutoTokenizer.from_pretrained(folder, gguf_file=file, trust_remote_code=False)
        _tokenizer = kept
    return copy.deepcopy(kept[1])


def classifier_from(where: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(sequence classifier in float32, transformers' loading info).

    A head of another size in the base is replaced; it then counts as missing, and the adapter must bring it.
    """
    return AutoModelForSequenceClassification.from_pretrained(
        where, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )


def _version(file: str) -> tuple[str, int, int]:
    facts = Path(file).stat()
    return str(Path(file).resolve()), facts.st_size, facts.st_mtime_ns


def _rebuilt(kept: _Classifier, folder: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model anew: a random head is drawn as if the file had been read."""
    config = copy.deepcopy(kept.config)
    quantised = config.__dict__.pop("quantization_config", None)  # the weights are not any more
    count = options["num_labels"]
    names = options.get("id2label", {i: f"LABEL_{i}" for i in range(count)})  # not those of the last reading
    config.num_labels, config.id2label, config.label2id = count, dict(names), {v: k for k, v in names.items()}
    copies = {name: value.clone() for name, value in kept.weights.items()}  # adapters may be merged into them
    model, info = kept.kind.from_pretrained(
        None, config=config, state_dict=copies, dtype=torch.float32, output_loading_info=True,
        ignore_mismatched_sizes=True,
    )  # fmt: skip
    if quantised is not None:
        model.config.quantization_config = quantised
    model.config.name_or_path = folder
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.name_or_path = folder  # peft writes it into adapters
    model.hf_quantizer, model.is_quantized = None, False
    return model, info
