"""Adapters whose initialisation changes the base's weights (PiSSA, OLoRA, ...): which of them loading can repeat.

PiSSA takes the largest singular vectors of a weight out of the base and trains them; what is left in the base must be
made again at each load. That is exact where it follows from the base alone. It is not where the initialisation drew
random numbers (`pissa_niter_N`), or looked at data or gradients that the adapter does not hold (CorDA, LoRA-GA).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dubio.errors import DubioError, ProofError

_CONVERT = (
    "convert it to plain LoRA, by peft's save_pretrained(..., path_initial_model_for_weight_conversion=FOLDER), FOLDER "
    "being the adapter as it was saved before training, and copy the head, which peft leaves out of it, from the "
    "adapter as it is"
)
# The start of an initialisation's name -> why a second load gives another model, and what to do.
_LOST = {
    "pissa_niter": ("draws random numbers", _CONVERT),
    "corda": ("looks at data that the adapter does not hold", _CONVERT),
    "lora_ga": ("looks at gradients that the adapter does not hold", _CONVERT),
    "loftq": (
        "quantises the base",
        "save the base as LoftQ left it (unload().save_pretrained), set init_lora_weights to true, and name that base "
        "with --base",
    ),
}
# Initialisations that leave the base alone and whose numbers the stored ones replace; kinds of which the same holds.
_PLAIN = (True, False, None, "gaussian", "eva", "mica")
_PLAIN_KINDS = ("LORA", "ADALORA", "IA3", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING")
_VARIANTS = ("kasa_config", "monteclora_config", "arrow_config", "velora_config", "use_bdlora")
_ROUNDING = 1e-5  # of the largest feature: two ways to sum the same product


def check_initialisation(folder: Path, facts: Mapping[str, Any]) -> None:
    """Raises DubioError where the adapter's initialisation changed the base in a way that loading cannot repeat."""
    name = facts.get("init_lora_weights")
    for start, (reason, remedy) in _LOST.items():
        if isinstance(name, str) and name.lower().startswith(start):
            raise DubioError(
                f"{folder} was initialised by {name[:30]!r}, which {reason} and changes the base's weights, so that it "
                f"loads as another model than was trained; {remedy}"
            )


def is_plain(facts: Mapping[str, Any]) -> bool:
    """Whether the base stays as it is at load, and all that is drawn at random is replaced by what is stored."""
    ordinary = facts.get("init_lora_weights") in _PLAIN and not any(facts.get(name) for name in _VARIANTS)
    return facts.get("peft_type") in _PLAIN_KINDS and ordinary


def check_again(folder: Path, features: Tensor, second: Tensor, untrained: Tensor | None) -> None:
    """Raises ProofError where a second load differs from the first, or an untrained adapter does not.

    Features `[n, d]` of the same texts: as loaded, loaded once more with other random numbers, and with the adapter as
    it is initialised, nothing stored put into it (None: that cannot be made).
    """
    scale = max(1e-12, float(features.abs().max()))
    if not float((features - second).abs().max()) <= _ROUNDING * scale:
        raise ProofError(
            f"{folder}: two loads give two models, because what is drawn at random is not stored; {_CONVERT}"
        )
    if untrained is not None and float((features - untrained).abs().max()) <= _ROUNDING * scale:
        raise ProofError(f"{folder}: the adapter is as it was initialised, that is, untrained; name a trained one")
