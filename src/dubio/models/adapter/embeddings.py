"""Embeddings that an adapter stores or its tokenizer needs: the base gets as many rows before the adapter is put on.

Whoever adds tokens (a padding token for Llama, `[USER]` and `[URL]`) resizes the base's embeddings. What is trained of
them lies in the adapter's file; rows that lie nowhere would be drawn at random, so no text may hold their tokens.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dubio.errors import DubioError
from dubio.models.adapter.files import AdapterFiles

# Behind the embedding's own name: its weight, saved beside the adapter, trained whole, or under LoRA or new tokens.
_WHOLE = ("weight", "base_layer.weight", "modules_to_save.weight", "original_module.weight")
_WHOLE_TOO = ("token_adapter.base_layer.weight",)
_SHOWN = 3


def fit_embeddings(model: Any, tokenizer: Any, files: AdapterFiles) -> frozenset[int]:
    """Gives the base's input embeddings the rows that the adapter stores, or that its tokenizer has tokens for.

    Returns the ids of tokens whose row is stored nowhere and is never read: a new padding token. Raises DubioError
    where another token has no row, or the adapter stores rows of tokens that no tokenizer at hand knows.
    """
    known, tokens = int(model.get_input_embeddings().num_embeddings), len(tokenizer)
    name = name_of(model)
    stored = _stored_rows(files.shapes, name)
    rows = stored or _adapted_rows(files.shapes, name) or max(known, tokens)
    if rows > known >= tokens and not _own_tokenizer(files.folder):
        raise DubioError(
            f"{files.folder}: the adapter stores embeddings of {rows} tokens, and the base has {known} and its "
            f"tokenizer {tokens}: tokens were added; save the tokenizer that it was trained with into the folder"
        )
    if tokens > rows:
        raise DubioError(
            f"{files.folder}: the tokenizer has {tokens} tokens and the embeddings {rows} rows; they do not match"
        )
    resize(model, rows)
    if stored is not None:
        return frozenset()
    new = set(range(known, tokens)) - _trained_tokens(files.settings)
    lost = sorted(new - {tokenizer.pad_token_id})
    if lost:
        names = ", ".join(repr(token) for token in tokenizer.convert_ids_to_tokens(lost[:_SHOWN]))
        raise DubioError(
            f"{files.folder}: {len(lost)} tokens were added ({names}{', ...' if len(lost) > _SHOWN else ''}) and their "
            "embeddings are not in the adapter, so they would be random; save it with save_embedding_layers=True"
        )
    return frozenset(new)


def resize(model: Any, rows: int) -> None:
    """As many rows of input embeddings; new ones are zero, until an adapter fills them."""
    known = int(model.get_input_embeddings().num_embeddings)
    if rows != known:
        model.resize_token_embeddings(rows, mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[known:] = 0


def name_of(model: nn.Module) -> str:
    """The dotted name of the input embeddings."""
    embeddings = model.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    return next(name for name, module in model.named_modules() if module is embeddings)


def check_untouched(model: nn.Module, files: AdapterFiles) -> None:
    """Raises DubioError where the adapter stores anything of the input embeddings, which a stack does not hold."""
    front = f"base_model.model.{name_of(model)}."
    if any(key.startswith(front) for key in files.shapes):
        raise DubioError(
            f"{files.folder} stores embeddings of its own ({name_of(model)}), and a posterior over adapters holds "
            "none; score the adapter alone"
        )


def check_rows(tokenizer: Any, unread: frozenset[int], texts: list[str], ids: list[list[int]]) -> None:
    """Raises DubioError where a text holds a token whose embedding is stored nowhere."""
    for text, row in zip(texts, ids, strict=True):
        if not unread.isdisjoint(row):
            token = tokenizer.convert_ids_to_tokens(min(unread.intersection(row)))
            raise DubioError(
                f"the text {text[:60]!r} holds the token {token!r}, whose embedding the adapter does not store; remove "
                "it from the text"
            )


def _stored_rows(shapes: Mapping[str, tuple[int, ...]], name: str) -> int | None:
    for end in (*_WHOLE, *_WHOLE_TOO):
        shape = shapes.get(f"base_model.model.{name}.{end}")
        if shape is not None and len(shape) == 2:
            return shape[0]
    return None


def _adapted_rows(shapes: Mapping[str, tuple[int, ...]], name: str) -> int | None:
    """Of LoRA on the embeddings: A is `[r, rows]`."""
    shape = shapes.get(f"base_model.model.{name}.lora_embedding_A")
    return None if shape is None or len(shape) != 2 else shape[1]


def _trained_tokens(settings: Mapping[str, Any]) -> set[int]:
    """Ids of tokens whose rows the adapter replaces one by one."""
    found: set[int] = set()
    for key in ("trainable_token_indices", "token_indices"):
        value = settings.get(key) or []
        for ids in value.values() if isinstance(value, dict) else [value]:
            found |= {index for index in ids if isinstance(index, int)} if isinstance(ids, list) else set()
    return found


def _own_tokenizer(folder: Path) -> bool:
    """Whether a whole tokenizer lies beside the adapter: settings and a vocabulary."""
    words = ("tokenizer.json", "vocab.*", "*.model")
    return (folder / "tokenizer_config.json").is_file() and any(next(folder.glob(name), None) for name in words)
