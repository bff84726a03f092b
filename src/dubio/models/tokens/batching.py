"""Rows -> batches: token ids cut to the model's length, sorted by length, padded on either side."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dubio.errors import DubioError
from dubio.models.adapted import AdaptedModel
from dubio.models.adapter.embeddings import check_rows
from dubio.models.threads import alone


class Block(NamedTuple):
    """Rows that are extracted together; `start`: the number of the first in the whole table."""

    start: int
    texts: Sequence[str]
    pairs: Sequence[str] | None


def blocks_of(texts: Sequence[str], pairs: Sequence[str] | None, size: int) -> list[Block]:
    """The rows cut into shards; raises DubioError on no rows, or on pairs of another length."""
    if len(texts) == 0:
        raise DubioError("there are no rows to extract; give a table with at least one row")
    if pairs is not None and len(pairs) != len(texts):
        raise DubioError(f"{len(texts)} texts but {len(pairs)} pair texts; every row needs both")
    return [
        Block(start, texts[start : start + size], None if pairs is None else pairs[start : start + size])
        for start in range(0, len(texts), size)
    ]


def tokenize(model: AdaptedModel, texts: Sequence[str], pairs: Sequence[str] | None) -> dict[str, list[list[int]]]:
    """Token ids (and segment ids where the tokenizer makes them), truncated to the model's length, not padded."""
    with alone(model.tokenizer):  # which keeps the length of the last call
        encoded = model.tokenizer(
            list(texts), None if pairs is None else list(pairs),
            truncation=True, max_length=model.max_length, padding=False, return_attention_mask=False,
        )  # fmt: skip
    if model.unread:
        check_rows(model.tokenizer, model.unread, list(texts), encoded["input_ids"])
    return {key: encoded[key] for key in ("input_ids", "token_type_ids") if key in encoded}


def batches(lengths: NDArray[np.int64], budget: int) -> list[NDArray[np.int64]]:
    """Row numbers of each batch: longest first, as many rows as fit `budget` tokens when padded to the longest."""
    order = np.argsort(-lengths, kind="stable")
    out: list[NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        size = max(1, budget // int(lengths[order[start]]))
        out.append(order[start : start + size])
        start += size
    return out


def pad(tokens: dict[str, list[list[int]]], model: AdaptedModel, side: str = "right") -> dict[str, torch.Tensor]:
    """A padded batch of tensors `[n, longest]` with its attention mask, on the model's device."""
    longest = max(len(ids) for ids in tokens["input_ids"])
    filler = {"input_ids": model.tokenizer.pad_token_id or 0}
    batch: dict[str, torch.Tensor] = {}
    for key, rows in {**tokens, "attention_mask": [[1] * len(ids) for ids in tokens["input_ids"]]}.items():
        blank = filler.get(key, 0)
        padded = [
            row + [blank] * (longest - len(row)) if side == "right" else [blank] * (longest - len(row)) + row
            for row in rows
        ]
        batch[key] = torch.tensor(padded, dtype=torch.long, device=model.device)
    return batch
