"""Texts -> representations: one forward pass in length-sorted batches under a token budget, resumable shard by shard.

Rows are cut into shards in their own order; inside a shard they are sorted by length, so that padding is rare, and
written back in order. Features and logits leave in float32 whatever the precision of the forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import torch
import transformers
from numpy.typing import NDArray

from dubio.arrays import Float32, Int64, check_finite
from dubio.containers import Representations, concatenate
from dubio.errors import DubioError
from dubio.files import sha256_json
from dubio.models.cache import StoredRepresentations, is_shard, save_shard
from dubio.models.cache_limit import use
from dubio.models.embeddings import check_rows
from dubio.models.loading import AdaptedModel
from dubio.models.threads import alone
from dubio.progress import progress


@dataclass(frozen=True)
class Extraction:
    """How to run the forward pass: tokens a batch (padding included), rows a shard, whether to show progress.

    token_budget: None takes what measured fastest on the device: a batch that fits a CPU's caches, a full GPU.
    """

    token_budget: int | None = None
    shard_rows: int = 2048
    show: bool = True

    def budget(self, model: AdaptedModel) -> int:
        """Tokens a batch on the model's device."""
        return self.token_budget or (32768 if model.device.startswith("cuda") else 2048)


def extract(
    model: AdaptedModel, texts: Sequence[str], pairs: Sequence[str] | None = None, *,
    labels: Int64 | None = None, how: Extraction | None = None,
) -> Representations:  # fmt: skip
    """Representations of all rows, in memory; see `extract_to` for tables larger than that.

    Raises DubioError on zero rows, on pairs of another length, and on features or logits that are not finite.
    """
    how = how or Extraction()
    blocks = blocks_of(texts, pairs, how.shard_rows)
    parts: list[Representations] = []
    with progress("extracting", len(texts), show=how.show) as advance:
        parts.extend(Representations.of(*forward_rows(model, block, how, advance)) for block in blocks)
    table = concatenate(parts)
    return Representations.of(table.features, table.logits, labels)


def extract_to(
    model: AdaptedModel, texts: Sequence[str], pairs: Sequence[str] | None, cache: Path, *,
    labels: Int64 | None = None, how: Extraction | None = None,
) -> StoredRepresentations:  # fmt: skip
    """As `extract`, into shards under `cache`; shards that are there already, and whole, are not computed again."""
    how = how or Extraction()
    paths: list[Path] = []
    counts: list[int] = []
    with progress("extracting", len(texts), show=how.show) as advance:
        for block in blocks_of(texts, pairs, how.shard_rows):
            path = cache / f"{shard_key(model, block, how)}.safetensors"
            rows = len(block.texts)
            if is_shard(path, features=(rows, width_of(model)), logits=(rows, len(model.labels))):
                use([path])
                advance(len(block.texts))
            else:
                save_shard(path, *forward_rows(model, block, how, advance))
                use([path], written=path.stat().st_size)
            paths.append(path)
            counts.append(len(block.texts))
    return StoredRepresentations(tuple(paths), tuple(counts), labels)


def width_of(model: AdaptedModel) -> int:
    """How many features `[n, d]` a row has."""
    return next(layer.in_features for layer in model.head.modules() if isinstance(layer, torch.nn.Linear))


class Block(NamedTuple):
    """Rows that are extracted together; `start`: the number of the first in the whole table."""

    start: int
    texts: Sequence[str]
    pairs: Sequence[str] | None


def shard_key(model: AdaptedModel, block: Block, how: Extraction) -> str:
    """Hex hash of all that determines a shard's numbers on one machine."""
    versions = {package.__name__: package.__version__ for package in (torch, transformers, peft)}
    versions |= {"layout": "4", "device": torch.device(model.device).type}
    if model.site.pooling == "last":
        versions["pad"] = str(model.site.pad)  # decides which token is read
    return sha256_json(
        {**model.hashes, **versions, "precision": model.precision, "max_length": model.max_length,
         "budget": how.budget(model), "texts": list(block.texts),
         "pairs": None if block.pairs is None else list(block.pairs)}
    )  # fmt: skip


def forward_rows(model: AdaptedModel, block: Block, how: Extraction, advance: Any = None) -> tuple[Float32, Float32]:
    """Features `[n, d]` and logits `[n, C]` of a block of rows, in the rows' own order.

    Raises DubioError naming a row without tokens, or with features or logits that are not finite.
    """
    tokens = tokenize(model, block.texts, block.pairs)
    lengths = np.array([len(ids) for ids in tokens["input_ids"]])
    if not lengths.all():
        raise DubioError(f"row {block.start + int(np.argmin(lengths))} has no tokens; remove empty texts")
    features: Float32 | None = None
    logits: Float32 | None = None
    for rows in batches(lengths, how.budget(model)):
        z, out = model.forward(pad({key: [values[i] for i in rows] for key, values in tokens.items()}, model))
        if features is None or logits is None:
            features = np.empty((len(lengths), z.shape[1]), dtype=np.float32)
            logits = np.empty((len(lengths), out.shape[1]), dtype=np.float32)
        features[rows], logits[rows] = z.cpu().numpy(), out.cpu().numpy()
        if advance is not None:
            advance(len(rows))
    assert features is not None
    assert logits is not None
    check_finite(features, "features", block.start)
    check_finite(logits, "logits", block.start)
    return features, logits


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
