"""Base models: from a folder, a hub id or a .gguf file to a sequence classifier and its tokenizer."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from dubio.errors import DubioError
from dubio.files import sha256_file


def load_base(base: str, labels: Sequence[str] | int | None, device: str) -> tuple[nn.Module, Any, list[str]]:
    """(model in eval mode, tokenizer, names of parameters that the base lacks and that start at random).

    labels: class names, a number of classes, or None to keep the base's own.
    Raises DubioError where the base is absent, holds no safetensors (or GGUF), or is damaged.
    """
    check_device(device)
    where, options = _locate(base)
    if isinstance(labels, int):
        options["num_labels"] = labels
    elif labels is not None:
        names = dict(enumerate(labels))
        options |= {"num_labels": len(names), "id2label": names, "label2id": {v: k for k, v in names.items()}}
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer: Any = AutoTokenizer.from_pretrained(
                where, **{k: options[k] for k in ("gguf_file",) if k in options}
            )
            model: Any
            # A head of another size in the base is replaced; it then counts as missing, and the adapter must bring it.
            model, info = AutoModelForSequenceClassification.from_pretrained(
                where, use_safetensors=True if "gguf_file" not in options else None, dtype=torch.float32,
                output_loading_info=True, ignore_mismatched_sizes=True, **options,
            )  # fmt: skip
    except Exception as error:  # transformers, safetensors and gguf raise many kinds for one thing: an unusable base
        raise DubioError(f"cannot load the base model {base}: {_reason(error)}") from error
    finally:
        transformers.logging.set_verbosity(level)
    missing = sorted(
        {*info["missing_keys"], *(key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"])}
    )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return model.to(device).eval(), tokenizer, missing


def check_device(device: str) -> None:
    """Raises DubioError for a device that is not there."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise DubioError(f"unknown device {device!r}; use cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise DubioError(f"device {device!r} was asked for, but this machine has no CUDA device; use cpu")
    if kind not in ("cpu", "cuda"):
        raise DubioError(f"device {device!r} is not supported; use cpu, cuda or cuda:N")


def base_hash(base: str) -> str:
    """Hex SHA-256 over the base's weight files, or over id and revision for one that lives on the hub."""
    path = Path(base)
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        digests = [f"{p.name}:{sha256_file(p)}" for p in sorted(path.glob("*.safetensors"))]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()
    revision = getattr(AutoConfig.from_pretrained(base), "_commit_hash", None)
    return hashlib.sha256(f"{base}@{revision}".encode()).hexdigest()


def _locate(base: str) -> tuple[str, dict[str, Any]]:
    path = Path(base)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise DubioError(f"there is no base model file {base}; name an existing .gguf file")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise DubioError(f"{base} holds no config.json; name the folder of a base model")
        if not list(path.glob("*.safetensors")):
            raise DubioError(f"{base} holds no safetensors weights; convert them with save_pretrained first")
    elif path.is_absolute() or base.startswith((".", "~")):
        raise DubioError(f"there is no base model folder {base}; name an existing one with --base")
    return base, {}


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
