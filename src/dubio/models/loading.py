"""A PEFT adapter (or a fine-tuned classifier) from disk or hub -> an `AdaptedModel` that has passed both proofs.

Safetensors only; a GGUF file works as base. Whatever does not fit is named: missing heads, merged or foreign adapters.
"""

import inspect
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel, PeftType
from torch import nn

from dubio.errors import DubioError
from dubio.files import sha256_json
from dubio.models.adapted import INPUTS, AdaptedModel
from dubio.models.adapter.attaching import put_on
from dubio.models.adapter.embeddings import fit_embeddings
from dubio.models.adapter.files import AdapterFiles, find_adapter, head_rows
from dubio.models.adapter.initialising import is_plain
from dubio.models.adapter.merging import merge_for_inference
from dubio.models.bases.base import base_hash, check_device, load_base, read_base
from dubio.models.bases.base_settings import moved
from dubio.models.bases.locating import at_revision, split_revision
from dubio.models.bases.problem import check_problem
from dubio.models.checks.load_checks import prove
from dubio.models.checks.second_load import merge_proven, prove_again
from dubio.models.head_location import find_site
from dubio.models.labels import class_names
from dubio.models.tokens.answer_letters import Choices, as_choices, choices_of
from dubio.models.tokens.lengths import length_of
from dubio.models.tokens.padding import pad_fact
from dubio.models.tokens.prompt_learning import is_prefix, virtual_tokens

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Layers that a letters' head is cut from, by their names in the families.
_EMBEDDINGS = frozenset({"lm_head", "embed_tokens", "wte", "embed_in", "embed_out", "word_embeddings", "embeddings"})
# Of a model's config: what changes no number.
_IDLE = ("_name_or_path", "transformers_version", "id2label", "label2id", "architectures", "dtype", "torch_dtype")


def load(
    path: str | Path, *, base: str | None = None, device: str = "cpu", precision: str = "float32",
    max_length: int | None = None, letters: str | Choices | None = None, labels: Sequence[str] | None = None,
) -> AdaptedModel:  # fmt: skip
    """Loads an adapter folder or hub id (or a fine-tuned classifier's folder) and proves it.

    base: overrides the adapter's base model (path, hub id, owner/name@revision, or .gguf file). precision: of the
    forward pass, `float32` or `bfloat16`. max_length: tokens a row (default: as `lengths` says). letters: of a
    causal LM's adapter that answers multiple-choice questions, such as "ABCD", or its whole prompt; one that dubio has
    trained knows its own. labels: names of the classes in the order of the logits, where neither the adapter's folder
    nor its base gives any.
    Raises DubioError or ProofError, one line, on anything missing, foreign, merged, damaged, or not provable.
    """
    check_device(device)
    if precision not in PRECISIONS:
        raise DubioError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    files, asked = find_adapter(path), as_choices(letters)
    if files is None:
        name, kind, record, choices, unread = str(path), "none", {}, asked, frozenset[int]()
        model, tokenizer = _whole(name, base, choices)
    else:
        if base is None and files.base is None:
            raise DubioError(f"{files.folder}/adapter_config.json names no base model; pass --base")
        name, kind, record = _base_of(files, base), files.kind, files.record
        choices = choices_of(record, asked, str(path))
        model, tokenizer, unread = _apply(files, name, choices)
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if inner.config.num_labels < 2:
        raise DubioError(f"{path} has a single output (a regression); dubio needs a classifier of two classes or more")
    site = find_site(inner)  # before the cast: the head stays in float32
    if virtual_tokens(model) and not is_prefix(model):
        site = replace(site, pad=-1)  # the base sees embeddings, in which it knows no pad token
    model = model.eval().requires_grad_(False)
    hashes = {**model_hashes(inner, tokenizer, base_hash(name), choices), "adapter": files.sha256 if files else "none"}
    if record.get("base_sha256", hashes["base"]) != hashes["base"]:
        raise DubioError(
            f"{path}: {name} is not the base that the adapter was trained on (its weights differ: another model, "
            "another revision, or the adapter merged into it)"
        )
    adapted = AdaptedModel(
        model, tokenizer, site, class_names(inner.config, files, labels, None if choices is None else choices.labels),
        "cpu", "float32", length_of(max_length, record, tokenizer, model), name, kind, inner.config.model_type,
        hashes, INPUTS & set(inspect.signature(inner.forward).parameters), choices, unread,
    )  # fmt: skip
    prove(adapted, files)
    if files is not None and not is_plain(files.settings):
        prove_again(adapted, files)
    merged = merge_proven(adapted, merge_for_inference)
    if merged or (device, precision) != ("cpu", "float32"):
        moved(model, name, device, PRECISIONS[precision])
        adapted = replace(adapted, device=device, precision=precision)
        prove(adapted, None)  # once more, as it will run
    return adapted


def model_hashes(model: Any, tokenizer: Any, base: str, choices: Choices | None = None) -> dict[str, str]:
    """What identifies a base with its config and tokenizer, for cache keys; `base`: the hash of its weights.

    choices: of a model that answers by letters: they say which rows of the base are its head.
    """
    facts = {**model.config.to_dict(), "pad_token_id": pad_fact(model.config, tokenizer)}
    config = sha256_json({k: str(v) for k, v in facts.items() if k not in _IDLE})
    found = {"base": base, "config": config, "tokenizer": _hash_of(tokenizer)}
    return found if choices is None else {**found, "letters": sha256_json(choices.facts())}


def _whole(path: str, base: str | None, choices: Choices | None) -> tuple[Any, Any]:
    """(a fine-tuned classifier, its tokenizer); raises DubioError where it is none, or a base is named for it."""
    if base is not None:
        raise DubioError(f"{path} is a whole model, not an adapter, so it takes no base; leave --base out")
    model, tokenizer, missing = load_base(path, None, "cpu", choices=choices)
    check_problem(cast(Any, model).config, path, None)
    if missing:
        raise DubioError(f"{path} is no adapter and no classifier: {missing[0]} is missing; name a trained folder")
    return model, tokenizer


def _base_of(files: AdapterFiles, asked: str | None) -> str:
    """The base by name, at the adapter's revision of it unless another base or another revision is asked for."""
    named, revision = split_revision(str(files.base))
    return at_revision(asked, revision) if asked and asked == named else str(asked or files.base)


def _apply(files: AdapterFiles, base: str, choices: Choices | None) -> tuple[nn.Module, Any, frozenset[int]]:
    """(the base with the adapter on it, tokenizer, tokens without embedding); raises DubioError where kind, keys or
    shapes do not fit.
    """
    if files.kind not in {kind.value for kind in PeftType}:
        raise DubioError(f"{files.folder}: this peft knows no adapter of kind {files.kind!r}; upgrade peft")
    rows = head_rows(files)
    labels = files.record.get("labels")
    if labels is not None and rows is not None and len(labels) != rows:
        raise DubioError(
            f"{files.folder}: {len(labels)} label names for a head of {rows} classes; retrain or mend them"
        )
    if choices is not None:
        _check_letters(files, rows)
    model, tokenizer, missing = read_base(base, labels or rows, "cpu", files.folder, choices)
    if choices is None:
        check_problem(model.config, str(files.folder), files)
    unread = fit_embeddings(model, tokenizer, files)
    children = {name for name, _ in model.named_children()}
    foreign = {key.split(".")[2] for key in files.shapes if key.startswith("base_model.model.")} - children
    if foreign:
        raise DubioError(
            f"{files.folder}: trained on {files.base}, does not fit {base}: {type(model).__name__} has no "
            f"{min(foreign)}, which the adapter changes; it belongs to another kind of model or head"
        )
    random = [name for name in missing if not any(key.endswith(f".{name}") for key in files.shapes)]
    if random and files.task == "CAUSAL_LM":
        raise DubioError(
            f"{files.folder} adapts a causal LM, which has no classes; name the letters that it answers "
            "multiple-choice questions with (--letters ABCD)"
        )
    if random:
        what = "no classification head and its base has none" if rows is None else "not all that its base lacks"
        raise DubioError(
            f"{files.folder}: the adapter holds {what}: {random[0]} would be random; save it with modules_to_save"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = put_on(model, files.folder, choices)
    except Exception as error:  # peft raises many kinds for one thing: an adapter that does not fit
        raise DubioError(
            f"{files.folder}: trained on {files.base}, does not fit {base}: {_first_line(error)}"
        ) from error
    return adapted, tokenizer, unread


def _check_letters(files: AdapterFiles, rows: int | None) -> None:
    """Raises DubioError where the adapter brings a head, or changes the layers that the letters' head is cut from."""
    if rows is not None:
        raise DubioError(f"{files.folder} is a classifier with a head of its own, so it takes no answer letters")
    changed = next((part for key in files.shapes for part in key.split(".") if part in _EMBEDDINGS), None)
    if changed is not None:
        raise DubioError(
            f"{files.folder} adapts {changed}, and answer letters are read from the base's own; train one without"
        )


def _hash_of(tokenizer: Any) -> str:
    """SHA-256 of all that decides on token ids; a tokenizer without a fast backend is told by its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # Truncation and padding are what the last call left there.
    facts = None if backend is None else {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    return sha256_json([
        facts if facts is not None else sorted(tokenizer.get_vocab().items()), type(tokenizer).__name__,
        tokenizer.truncation_side, tokenizer.pad_token_id,
    ])  # fmt: skip


def _first_line(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else (lines or [repr(error)])[0]
