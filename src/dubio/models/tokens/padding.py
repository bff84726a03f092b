"""Which token rows are padded with, and which one a decoder passes over when it looks for the last token of a text.

In: a model and its tokenizer, as they come from disk. Out: both agree, as transformers' Trainer makes them agree before
it trains (`align_special_tokens`): the tokenizer's pad token goes into the config; if it has none, the config's stays.
"""

from typing import Any

NONE = -1  # of a config: equal to no token, so that the very last token of a text is read


def settle_padding(model: Any, tokenizer: Any, *, fresh: bool) -> None:
    """Sets the tokenizer's pad token and the config's `pad_token_id`, in place.

    A tokenizer without a pad token gets its eos token as one, to fill batches with. A decoder then goes on reading the
    last token that is not its config's pad token, or simply the last one (`NONE`), as it does for one text in
    transformers; unless it is `fresh`, still to be trained on batches that are filled so: eos is its pad token then.
    """
    named: int | None = tokenizer.pad_token_id
    if named is None:
        tokenizer.pad_token = tokenizer.eos_token
    filler: int | None = tokenizer.pad_token_id
    text = model.config.get_text_config()
    skipped = filler if fresh else named
    if not hasattr(model, "score"):  # an encoder looks for no last token
        skipped = filler or 0
    elif skipped is None:
        skipped = NONE if text.pad_token_id is None else text.pad_token_id
    for config in {id(config): config for config in (model.config, text)}.values():
        config.pad_token_id = skipped


def pad_fact(config: Any, tokenizer: Any) -> Any:
    """What stands for the config's `pad_token_id` in its hash: a decoder that passes over none counts by its filler."""
    return (tokenizer.pad_token_id or 0) if config.pad_token_id == NONE else config.pad_token_id
