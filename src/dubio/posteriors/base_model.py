"""The frozen base under a posterior, ready to be trained or sampled on: no adapter, a head of the right size."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dubio.models.adapted import AdaptedModel
from dubio.models.adapter.embeddings import resize
from dubio.models.bases.base import base_hash, check_device, load_base, read_base
from dubio.models.bases.base_settings import moved
from dubio.models.head_location import find_site
from dubio.models.loading import PRECISIONS, model_hashes
from dubio.models.tokens.answer_letters import Choices
from dubio.models.tokens.lengths import LONGEST, within


def load_host(
    base: str, labels: Sequence[str], *, device: str = "cpu", precision: str = "float32",
    max_length: int | None = 512, choices: Choices | None = None, tokenizer: Any = None,
) -> tuple[AdaptedModel, list[str]]:  # fmt: skip
    """(the base as a classifier of these labels, names of the parameters that it came without).

    Nothing is proven here: what such a model predicts without a stack means nothing. max_length: within what the base's
    positions allow. choices: of answer letters, which are then the labels. tokenizer: in place of the base's own.
    Raises DubioError where the base cannot be loaded, or the device is not there.
    """
    check_device(device)
    labels = labels if choices is None else choices.labels
    read = load_base if tokenizer is None else partial(read_base, known_tokenizer=tokenizer)
    loaded, tokenizer, missing = read(base, list(labels), "cpu", choices=choices)
    site = find_site(loaded)
    model: Any = moved(loaded.eval().requires_grad_(False), base, device, PRECISIONS[precision])
    inputs = frozenset({"input_ids", "attention_mask", "token_type_ids"}) & set(
        inspect.signature(model.forward).parameters
    )
    limit = within(LONGEST if max_length is None else max_length, tokenizer, model)
    hashes = model_hashes(model, tokenizer, base_hash(base), choices)
    host = AdaptedModel(
        model, tokenizer, site, tuple(labels), device, precision, limit, base, "none", model.config.model_type, hashes,
        inputs, choices,
    )  # fmt: skip
    return host, missing


def host_under(model: AdaptedModel) -> AdaptedModel:
    """The clean base under a loaded adapter, with the adapter's tokenizer, length, device and precision."""
    host, _ = load_host(
        model.base, model.labels, device=model.device, precision=model.precision, choices=model.choices,
        tokenizer=model.tokenizer,
    )  # fmt: skip
    inner: Any = model.model
    resize(host.model, inner.get_input_embeddings().num_embeddings)  # tokens may have been added
    site = replace(host.site, pad=model.site.pad)  # as the adapter reads its rows
    return replace(host, max_length=model.max_length, site=site, unread=model.unread)


def hashes_of(host: AdaptedModel) -> dict[str, str]:
    """What a posterior is tied to: the base's weights, the tokenizer, and the answer letters where there are some."""
    return {what: host.hashes[what] for what in ("base", "tokenizer", "letters") if what in host.hashes}
