"""The adapted model made twice, and merged: each time it must be the same function, or it is not that model.

Rare adapters only: those whose initialisation changes the base, and kinds that draw numbers at load (`is_plain`).
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from peft import PeftConfig, get_peft_model
from torch import Tensor, nn

from dubio.errors import ProofError
from dubio.models.adapted import AdaptedModel
from dubio.models.adapter.attaching import put_on
from dubio.models.adapter.embeddings import fit_embeddings
from dubio.models.adapter.files import AdapterFiles
from dubio.models.adapter.initialising import check_again
from dubio.models.adapter.merging import take_apart
from dubio.models.bases.base import read_base
from dubio.models.checks.load_checks import TOLERANCE, logits_of
from dubio.models.head_location import find_site

_SEED = 8_191  # another stream of random numbers than the first load had


def prove_again(model: AdaptedModel, files: AdapterFiles) -> None:
    """Raises ProofError where a second load gives another model, or an untrained adapter the same."""
    second = _features(model, files, lambda base: put_on(base, files.folder, model.choices))
    try:
        untrained = _features(model, files, lambda base: _untrained(base, files))
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        untrained = None  # a kind that cannot be made without data
    check_again(files.folder, logits_of(model)[0], second, untrained)


def merge_proven(model: AdaptedModel, merge: Callable[[nn.Module], bool]) -> bool:
    """Merges where that leaves features and logits as they are, but for rounding; returns whether it did."""
    before = logits_of(model)
    if not merge(model.model):
        return False
    if _same(before, logits_of(model)):
        return True
    take_apart(model.model)
    if not _same(before, logits_of(model)):
        raise ProofError(f"{model.family}: merging the adapter changed the model, and so did taking it out again")
    return False


def _same(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(float((b - a).abs().max()) <= TOLERANCE["float32"] * max(1.0, float(a.abs().max())) for a, b in pairs)


def _features(model: AdaptedModel, files: AdapterFiles, make: Callable[[Any], nn.Module]) -> Tensor:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(_SEED)
        base, tokenizer, _ = read_base(
            model.base, list(model.labels), "cpu", files.folder, model.choices, known_tokenizer=model.tokenizer
        )
        fit_embeddings(base, tokenizer, files)
        made: Any = make(base)
    site = replace(find_site(made.get_base_model()), pad=model.site.pad)
    return logits_of(replace(model, model=made.eval().requires_grad_(False), site=site))[0]


def _untrained(base: Any, files: AdapterFiles) -> nn.Module:
    config: Any = PeftConfig.from_pretrained(str(files.folder))
    config.task_type = None
    return cast(nn.Module, get_peft_model(base, config))
