"""An artifact is bound to all that it was fitted with: weights, tokenizer, config, head, label names in their order.

    facts of the fit ──► manifest `model`: hashes of files, and "bound": what they do where the files were written again
    the model at hand ──► each of them compared; a difference is named

A few texts cannot tell this: eight of them did not see another tokenizer, another base, or label names turned round.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray

from dubio.artifacts.store import BOUND, Artifact
from dubio.models.adapted import AdaptedModel
from dubio.models.checks.identity import config_changes, config_facts, head_of, table_of, tokens_sha256, weights_of
from dubio.models.checks.sketch import same_weights

_FILES = {"base": "the weights of the base", "adapter": "the adapter"}


def bound_facts(model: AdaptedModel) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """(for the manifest, arrays by name): what the model at hand is, apart from the files that it came in."""
    found = {"weights": table_of(weights_of(model)), "head": table_of(head_of(model))}
    facts = {
        "transformers": transformers.__version__, "config": config_facts(model), "tokens_sha256": tokens_sha256(model),
        **{f"{what}_names": names for what, (names, _) in found.items()},
    }  # fmt: skip
    return {BOUND: facts}, {what: numbers for what, (_, numbers) in found.items()}


def is_bound(artifact: Artifact) -> bool:
    """Whether the artifact tells what it was fitted with; those of older versions know hashes of files only."""
    return isinstance(artifact.model.get(BOUND), dict)


def changes(artifact: Artifact, model: AdaptedModel) -> list[str]:
    """What of the model at hand differs from what the artifact was fitted with, in words; of an older one, the labels.

    Raises ArtifactError where the artifact's own facts are not of the kind that they should be.
    """
    found = _labels(artifact.labels, model.labels)
    if not is_bound(artifact):
        return found
    facts: Mapping[str, Any] = artifact.model[BOUND]
    files = other_files(artifact, model)
    weights = [what for what in ("base", "adapter") if what in files]
    if weights and not _same(artifact, model, "weights"):
        found += [_FILES[what] for what in weights]
    elif not _same(artifact, model, "head"):
        found.append("the classification head")
    if "tokenizer" in files and facts.get("tokens_sha256") != tokens_sha256(model):
        found.append("the tokenizer (it cuts texts into other tokens)")
    config = facts.get("config")
    differing = config_changes(config if isinstance(config, dict) else {}, facts.get("transformers"), model)
    if differing:
        found.append(f"the config ({', '.join(differing[:3])}{', ...' if len(differing) > 3 else ''})")
    return found


def other_files(artifact: Artifact, model: AdaptedModel) -> list[str]:
    """Which of base, adapter and tokenizer are not, to the byte, those whose hashes the artifact keeps."""
    hashes = {what: artifact.model.get(f"{what}_sha256") for what in ("base", "adapter", "tokenizer")}
    return [what for what, digest in hashes.items() if digest != model.hashes.get(what)]


def _same(artifact: Artifact, model: AdaptedModel, what: str) -> bool:
    """Whether the weights, or the head, are those of the fit, up to rounding."""
    names, numbers = table_of(weights_of(model) if what == "weights" else head_of(model))
    stored = artifact.bound.get(what)
    if stored is None or artifact.model[BOUND].get(f"{what}_names") != names:
        return False
    return bool(same_weights(numbers, stored, model.precision).all())


def _labels(fitted: Sequence[str], found: Sequence[str]) -> list[str]:
    if tuple(fitted) == tuple(found):
        return []
    if sorted(fitted) == sorted(found):
        return [f"the order of the label names ({_listed(fitted)}; now {_listed(found)})"]
    return [f"the label names ({_listed(fitted)}; now {_listed(found)})"]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
