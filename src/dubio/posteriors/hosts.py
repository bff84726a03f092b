"""The frozen base under a posterior, ready to be trained or sampled on: no adapter, a head of the right size."""

import inspect
from collections.abc import Sequence
from typing import Any

from dubio.models.base import base_hash, load_base
from dubio.models.loading import PRECISIONS, AdaptedModel, model_hashes
from dubio.models.sites import find_site


def load_host(
    base: str, labels: Sequence[str], *, device: str = "cpu", precision: str = "float32", max_length: int = 512
) -> tuple[AdaptedModel, list[str]]:
    """(the base as a classifier of these labels, names of the parameters that it came without).

    Nothing is proven here: what such a model predicts without a stack means nothing.
    Raises DubioError where the base cannot be loaded.
    """
    loaded, tokenizer, missing = load_base(base, list(labels), "cpu")
    site = find_site(loaded)
    model: Any = loaded.eval().requires_grad_(False).to(device=device, dtype=PRECISIONS[precision])
    inputs = frozenset({"input_ids", "attention_mask", "token_type_ids"}) & set(
        inspect.signature(model.forward).parameters
    )
    limit = min(max_length, int(min(tokenizer.model_max_length, 10**6)))
    hashes = model_hashes(model, tokenizer, base_hash(base))
    host = AdaptedModel(
        model, tokenizer, site, tuple(labels), device, precision, limit, base, "none", model.config.model_type, hashes,
        inputs,
    )  # fmt: skip
    return host, missing


def hashes_of(host: AdaptedModel) -> dict[str, str]:
    """What a posterior is tied to: the base's weights and the tokenizer."""
    return {what: host.hashes[what] for what in ("base", "tokenizer")}
