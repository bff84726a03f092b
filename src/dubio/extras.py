"""What is not installed, and how to install it: libraries that only a part of dubio needs."""

from collections.abc import Mapping

_EXTRAS: Mapping[str, tuple[str, ...]] = {
    "models": ("torch", "transformers", "peft", "accelerate", "tokenizers", "sentencepiece", "google"),
    "bench": ("yaml", "matplotlib"),
}


def lacking(error: ModuleNotFoundError) -> str | None:
    """A line on a missing library that an extra of dubio brings; None where it is no such library."""
    name = (error.name or "").partition(".")[0]
    extra = next((extra for extra, names in _EXTRAS.items() if name in names), None)
    return None if extra is None else f"this needs {name}, which is not installed: pip install 'dubio[{extra}]'"
