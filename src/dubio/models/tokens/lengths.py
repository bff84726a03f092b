"""How many tokens of a row are read, and which rows are longer: nothing is cut in silence.

In: a model and its tokenizer, texts and pairs. Out: a length, and `[N]` whether each row has lost its end (its start,
where the tokenizer cuts on the left).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from peft import PeftModel
from torch import nn

from dubio.arrays import Bool
from dubio.errors import DubioError
from dubio.models.threads import alone
from dubio.models.tokens.prompt_learning import virtual_tokens

LONGEST = 8192  # tokens a row where nobody says how many: positions of decoders go to 128,000 and more
_BLOCK = 2048  # rows that are tokenised at once
_SPARE = 64  # tokens that a tokenizer may add to a text
_TOKENS = 4  # that one ASCII character may become, and more than it does: a space is three bytes in SentencePiece


class TruncatedWarning(UserWarning):
    """Rows are longer than the model reads."""


def length_of(asked: int | None, record: Mapping[str, Any], tokenizer: Any, model: nn.Module) -> int:
    """Tokens a row: as asked; else as dubio trained; else as many as the model reads, LONGEST at most.

    Raises DubioError where more is asked for than the model reads, or less than one word takes.
    """
    if asked is not None and asked > most(tokenizer, model):
        told = f"max length {asked:,} is more than this model reads"
        raise DubioError(f"{told}; give {most(tokenizer, model):,} tokens or less")
    return within(int(record.get("max_length", LONGEST)) if asked is None else asked, tokenizer, model)


def within(length: int, tokenizer: Any, model: nn.Module) -> int:
    """`length` tokens a row, or as many as the model reads. Raises DubioError where one word takes more."""
    least = 1 + tokenizer.num_special_tokens_to_add(pair=True)
    if length < least:
        raise DubioError(f"max length {length} leaves no room for text; this model needs {least} tokens or more")
    return min(length, most(tokenizer, model))


def most(tokenizer: Any, model: nn.Module) -> int:
    """The most tokens a row that a model's positions and its tokenizer allow."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    positions = getattr(inner.config.get_text_config(), "max_position_embeddings", 512) or 512
    for name, module in inner.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1  # RoBERTa and its kin count from behind the padding index
            break
    return min(positions - virtual_tokens(model), int(min(tokenizer.model_max_length, 10**6)))


def truncated_rows(tokenizer: Any, length: int, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Bool:
    """`[N]` whether a row has more than `length` tokens. ASCII rows too short for that are not looked at."""
    out = np.zeros(len(texts), dtype=np.bool_)
    rows: list[tuple[int, str, str | None]] = []
    for i, text in enumerate(texts):
        second = None if pairs is None else pairs[i]
        size = len(text) + len(second or "")
        if size * _TOKENS + _SPARE > length or not text.isascii() or not (second or "").isascii():
            rows.append((i, text, second))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        second = None if pairs is None else [str(pair) for _, _, pair in block]
        with alone(tokenizer):  # which keeps the length of the last call
            ids = tokenizer([text for _, text, _ in block], second, verbose=False)["input_ids"]
        for (i, _, _), found in zip(block, ids, strict=True):
            out[i] = len(found) > length
    return out


def told(what: str, truncated: Bool, length: int, side: str = "right") -> str | None:
    """A sentence about the rows that were cut, or None where there are none.

    what: the rows' table, by name. side: of a row, that is cut off.
    """
    count = int(truncated.sum())
    if not count:
        return None
    what = f"{what} " if what else ""
    lost = "start" if side == "left" else "end"
    return f"{count:,} of {len(truncated):,} {what}rows are longer than {length:,} tokens, and their {lost} is not read"
