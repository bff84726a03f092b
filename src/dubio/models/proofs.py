"""The two proofs without which no number is shown (DESIGN 5), and the fingerprint that ties an artefact to its adapter.

1. `head(features) == logits` on padded batches, on both padding sides for decoders.
2. The adapter is really applied: every stored key was loaded and none is missing, features (or the head) with it differ
   from those without it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from dubio.arrays import Float32
from dubio.errors import ArtifactError, ProofError
from dubio.models.adapter_files import AdapterFiles
from dubio.models.loading import AdaptedModel

TEXTS = (
    "Yes.",
    "The delivery was two days late and nobody answered the phone.",
    "What a wonderful little film!",
    "Flight 417 to Boston is now boarding at gate 12.",
    "I would like to change the address on my account, please.",
    "No idea what this is supposed to mean",
    "The committee approved the budget after a long debate about schools, roads, hospitals and the price of water in "
    "the northern districts, although several members had left the room before the vote was called.",
    "42",
)
# Of the largest absolute logit: rounding of a float32 pass, and of a bfloat16 pass's own head.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


def prove(model: AdaptedModel, files: AdapterFiles | None) -> None:
    """Runs both proofs; raises ProofError with the reason."""
    for side in ("right", "left") if model.site.pooling == "last" else ("right",):
        _prove_head(model, side)
    if files is not None:
        _prove_keys(model, files)
        _prove_effect(model)


def fingerprint(model: AdaptedModel) -> Float32:
    """`[8, C]` logits of eight fixed texts."""
    return model.forward(_batch(model, TEXTS, "right"))[1].cpu().numpy()


def check_fingerprint(model: AdaptedModel, stored: Float32) -> None:
    """Raises ArtifactError where the model at hand does not give the logits stored with an artefact."""
    found = fingerprint(model)
    limit = _TOLERANCE[model.precision] * max(1.0, float(np.abs(stored).max(initial=0.0)))
    gap = float(np.abs(found - stored).max()) if found.shape == stored.shape else float("inf")
    if not gap <= limit:
        raise ArtifactError(
            f"the artefact belongs to another adapter: its fingerprint rows differ by {gap:.3g}; run `dubio fit` again"
        )


def _prove_head(model: AdaptedModel, side: str) -> None:
    features, logits = model.run(_batch(model, TEXTS, side))
    with torch.inference_mode():
        gap = float((model.head(features.cpu()) - logits.cpu()).abs().max())
    limit = _TOLERANCE[model.precision] * max(1.0, float(logits.abs().max()))
    if not gap <= limit:
        raise ProofError(
            f"{model.family}: head(features) differs from the logits by {gap:.3g} on a batch padded on the {side}; "
            "dubio does not read this head rightly, so it refuses to score it"
        )
    if side == "right":
        alone = torch.cat([model.run(_batch(model, [text], side))[0] for text in TEXTS])
        drift = float((alone - features).abs().max()) / max(1.0, float(features.abs().max()))
        if not drift <= 10 * _TOLERANCE[model.precision]:
            raise ProofError(
                f"{model.family}: features change by {drift:.3g} with padding, so no score would be stable"
            )


def _prove_keys(model: AdaptedModel, files: AdapterFiles) -> None:
    """Compares the keys in the file with those that the loaded adapter is made of."""
    expected = set(get_peft_model_state_dict(model.model))
    stored = set(files.shapes)
    for keys, what in ((expected - stored, "are missing from"), (stored - expected, "have no place in the model:")):
        if keys:
            named = ", ".join(sorted(keys)[:3]) + (", ..." if len(keys) > 3 else "")
            raise ProofError(f"{files.folder}: {len(keys)} adapter keys {what} adapter_model.safetensors: {named}")


def _prove_effect(model: AdaptedModel) -> None:
    assert isinstance(model.model, PeftModel)
    layers = [module for module in model.model.modules() if isinstance(module, BaseTunerLayer)]
    if any(layer.merged for layer in layers):
        raise ProofError("the adapter is merged into its base; load the unmerged adapter, or the merged model alone")
    batch = _batch(model, TEXTS, "right")
    with_it = model.run(batch)
    with model.model.disable_adapter():
        without = model.run(batch)
    same = [torch.equal(a, b) for a, b in zip(with_it, without, strict=True)]
    head_only = layers and all(_within_head(model, layer) for layer in layers)
    if same[0] and (same[1] or not head_only):
        raise ProofError(
            "features with the adapter equal those without it: it is untrained (all zero), empty, or already merged "
            "into its base"
        )


def _within_head(model: AdaptedModel, layer: torch.nn.Module) -> bool:
    return any(layer is inside for inside in model.site.module.modules())


def _batch(model: AdaptedModel, texts: Sequence[str], side: str) -> dict[str, Tensor]:
    from dubio.models.extraction import pad, tokenize

    return pad(tokenize(model, texts, None), model, side)
