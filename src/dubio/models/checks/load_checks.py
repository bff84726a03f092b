"""The two proofs without which no number is shown, and the fingerprint that ties an artefact to its adapter.

1. `head(features) == logits` on padded batches, on both padding sides for decoders.
2. The adapter is really applied: every stored key was loaded and none is missing, features (or the head) with it differ
   from those without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from dubio.arrays import Float32
from dubio.errors import ArtifactError, DubioError, ProofError
from dubio.models.adapted import AdaptedModel
from dubio.models.adapter.files import AdapterFiles
from dubio.models.adapter.keys import not_loaded, stored_name
from dubio.models.tokens.batching import pad, tokenize
from dubio.models.tokens.prompt_learning import is_prompted, virtual_tokens

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
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
_PADDING = 10  # times as much between a padded batch and lone rows, whose sums run in another order


def prove(model: AdaptedModel, files: AdapterFiles | None) -> None:
    """Runs both proofs; raises ProofError with the reason."""
    if files is not None:
        _prove_keys(
            model, files
        )  # before the first pass: reading the weights of a quantised base changes it afterwards
    try:
        _prove_head(model)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        if isinstance(error, DubioError):
            raise
        raise ProofError(
            f"{model.family}: a batch of {len(TEXTS)} texts does not run: {type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"
        ) from error
    if files is not None:
        _prove_effect(model)


def fingerprint(model: AdaptedModel) -> Float32:
    """`[8, C]` logits of eight fixed texts."""
    return model.forward(_batch(model, TEXTS, "right"))[1].cpu().numpy()


def logits_of(model: AdaptedModel) -> tuple[Tensor, Tensor]:
    """Features `[8, d]` and the model's own logits `[8, C]` of the eight fixed texts."""
    return model.run(_batch(model, TEXTS, "right"))


def check_fingerprint(model: AdaptedModel, stored: Float32, precision: str = "float32") -> None:
    """Raises ArtifactError where the model at hand does not give the logits stored with an artefact.

    precision: of the forward pass that gave the stored ones.
    """
    found = fingerprint(model)
    tolerance = max(TOLERANCE[model.precision], TOLERANCE[precision])
    limit = tolerance * max(1.0, float(np.abs(stored).max(initial=0.0)))
    gap = float(np.abs(found - stored).max()) if found.shape == stored.shape else float("inf")
    if not gap <= limit:
        raise ArtifactError(
            f"the artifact belongs to another adapter: its fingerprint rows differ by {gap:.3g}; run `dubio fit` again"
        )


def _prove_head(model: AdaptedModel) -> None:
    """Features of padded batches, put through the head, against the model's own logits of the same and of lone rows."""
    decoder, tolerance = model.site.pooling == "last", TOLERANCE[model.precision]
    tokens = _rows(model)
    singles = [
        {key: [row] for key, row in zip(tokens, values, strict=True)} for values in zip(*tokens.values(), strict=True)
    ]
    rows = [model.run(pad(row, model)) for row in singles]
    alone, lone_logits = torch.cat([z for z, _ in rows]), torch.cat([out for _, out in rows])
    if not bool(torch.isfinite(lone_logits).all()):
        raise ProofError(f"{model.family}: the logits hold NaN or infinity; the weights are damaged")
    for side in ("right", "left") if decoder else ("right",):
        batch = pad(tokens, model, side)
        features, logits = model.run(batch)
        if not _gap(features, alone) <= tolerance * _PADDING:
            raise ProofError(
                f"{model.family}: features change by {_gap(features, alone):.2g} of the largest with padding on the "
                f"{side}, so no score would be stable"
            )
        with torch.inference_mode():
            own = model.head(features.cpu()).to(logits.device)
        # Behind a learned prompt a decoder sees embeddings, not tokens, and takes padding on the right for text.
        misled = decoder and virtual_tokens(model.model) > 0 and side == "right"
        same = torch.zeros(len(own), dtype=torch.bool) if misled else _read_alike(model, batch).cpu()
        gap = max(_gap(own[same], logits[same]), _gap(own, lone_logits) / _PADDING)
        if not gap <= tolerance:
            raise ProofError(
                f"{model.family}: head(features) differs from the logits by {gap:.2g} of the largest on a batch padded "
                f"on the {side}; dubio does not read this head rightly, so it refuses to score it"
            )


def _rows(model: AdaptedModel) -> dict[str, list[list[int]]]:
    """Token ids of the texts, and of rows that end in, or are nothing but, tokens that are special in some way."""
    tokens = tokenize(model, TEXTS, None)
    known = (model.tokenizer.pad_token_id, model.tokenizer.eos_token_id, model.tokenizer.unk_token_id, model.site.pad)
    special = sorted({int(token) for token in known if token is not None and token >= 0})
    short = {key: rows[0][: model.max_length - 2] for key, rows in tokens.items()}
    for token in special:
        for key, rows in tokens.items():
            rows.append(short[key] + ([token] * 2 if key == "input_ids" else [short[key][-1]] * 2))
    filler = model.tokenizer.pad_token_id or 0
    for key, rows in tokens.items():
        rows.append([filler if key == "input_ids" else 0])
    return tokens


def _read_alike(model: AdaptedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """`[n]` whether the model itself reads a row of a batch at the token at which it reads that row alone.

    A decoder does not where it looks for another token than the batch is padded with, or finds no text in the row.
    """
    if model.site.pooling != "last":
        return torch.ones(len(batch["input_ids"]), dtype=torch.bool)
    ids = batch["input_ids"]
    last = (torch.arange(ids.shape[1], device=ids.device) * (ids != model.site.pad)).argmax(dim=1)
    return last == model.site.positions(batch)


def _gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest expected value (or of 1, if that is more); 0 of no rows."""
    if not len(found):
        return 0.0
    return float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def _prove_keys(model: AdaptedModel, files: AdapterFiles) -> None:
    """Compares the keys in the file with those that the loaded adapter is made of.

    What is stored besides them (embeddings that were saved too, other weights of the base) must be in the model as it
    is stored: peft puts it there where the names fit, and passes over it where they do not.
    """
    stored = set(files.shapes)
    # Said aloud: left to itself, peft asks the hub whether the vocabulary has grown.
    expected = set(get_peft_model_state_dict(model.model, save_embedding_layers=False))
    lost = not_loaded(model.model, files.folder / "adapter_model.safetensors", stored - expected)
    absent = expected - stored - {stored_name(key) for key in stored - set(lost)}
    for keys, what in ((absent, "are missing from"), (set(lost), "have no place in the model:")):
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
    if is_prompted(model.model):
        without = replace(model, model=model.model.get_base_model()).run(batch)
    else:
        with model.model.disable_adapter():
            without = model.run(batch)
        model.model.requires_grad_(False)  # peft thaws what it enables again
        if not _gap(model.run(batch)[0], with_it[0]) <= TOLERANCE[model.precision]:
            raise ProofError("the adapter, turned off and on again, is another model; its base cannot be scored")
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
    return pad(tokenize(model, texts, None), model, side)
