"""Base models: from a folder, a hub id or a .gguf file to a sequence classifier and its tokenizer."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from torch import nn
from transformers.utils.hub import cached_file

from dubio.errors import DubioError
from dubio.files import sha256_file
from dubio.models.bases.base_settings import check_base, moved, reason_of
from dubio.models.bases.gguf import classifier_from, gguf_classifier
from dubio.models.bases.locating import locate_base
from dubio.models.tokens.answer_letters import Choices, fill_head
from dubio.models.tokens.padding import settle_padding
from dubio.models.tokens.tokenizers import check_words, find_tokenizer


def load_base(
    base: str, labels: Sequence[str] | int | None, device: str, tokenizer_folder: Path | None = None,
    choices: Choices | None = None, *, known_tokenizer: Any = None,
) -> tuple[nn.Module, Any, list[str]]:  # fmt: skip
    """(model in eval mode, tokenizer, names of parameters that the base lacks and that start at random).

    labels: class names, a number of classes, or None to keep the base's own.
    tokenizer_folder: an adapter's, whose own tokenizer is taken if it holds one: it is what the adapter was trained on.
    choices: for answer letters, in place of `labels`: the head is then the LM head's, and nothing of it is missing.
    known_tokenizer: one that was found before, to be taken in place of the base's.
    Raises DubioError where the base is absent, holds no safetensors (or GGUF), is damaged, asks to run code of its own,
    or has fewer rows of embeddings than its tokenizer has tokens.
    """
    model, tokenizer, missing = read_base(
        base, labels, device, tokenizer_folder, choices, known_tokenizer=known_tokenizer
    )
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise DubioError(f"{base}: the tokenizer has {len(tokenizer)} tokens and the model {known}; they do not match")
    return model, tokenizer, missing


def read_base(
    base: str, labels: Sequence[str] | int | None, device: str, tokenizer_folder: Path | None = None,
    choices: Choices | None = None, *, known_tokenizer: Any = None,
) -> tuple[Any, Any, list[str]]:  # fmt: skip
    """As `load_base`, of an adapter whose tokenizer may have tokens that the base has no embeddings for yet."""
    check_device(device)
    where, more = locate_base(base)
    check_base(base)
    gguf = more if "gguf_file" in more else {}
    safe = {"trust_remote_code": False}  # said aloud: left out, transformers asks the user on a terminal
    options: dict[str, Any] = {"use_safetensors": None if gguf else True, **more, **safe}
    source, labels = (where, dict(options)), labels if choices is None else choices.labels
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
            model: Any
            tokenizer: Any
            tokenizer = known_tokenizer or find_tokenizer(base, (where, more), tokenizer_folder)
            model, info = (gguf_classifier if gguf else classifier_from)(where, options)
            if choices is not None:
                tokenizer.truncation_side = "left"  # the end of a prompt asks for the letter
                fill_head(model, tokenizer, choices, source)
    except DubioError:
        raise
    except Exception as error:  # transformers, safetensors and gguf raise many kinds for one thing: an unusable base
        raise DubioError(f"cannot load the base model {base}: {reason_of(error)}") from error
    finally:
        transformers.logging.set_verbosity(level)
    if known_tokenizer is None:
        check_words(tokenizer, model.get_input_embeddings().num_embeddings, str(tokenizer_folder or base))
    absent = {*info["missing_keys"], *(key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"])}
    missing = sorted(absent if choices is None else {name for name in absent if not name.startswith("score.")})
    settle_padding(model, tokenizer, fresh=labels is not None and tokenizer_folder is None)
    return moved(model, base, device).eval(), tokenizer, missing


def check_device(device: str) -> None:
    """Raises DubioError for a device that is not there."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise DubioError(f"unknown device {device!r}; use cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise DubioError(f"device {device!r} was asked for, but this machine has no CUDA device; use cpu")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise DubioError(f"device {device!r} was asked for, but this machine has {torch.cuda.device_count()} of them")
    if kind not in ("cpu", "cuda"):
        raise DubioError(f"device {device!r} is not supported; use cpu, cuda or cuda:N")


def has_bfloat16(device: str) -> bool:
    """Whether bfloat16 products run in hardware: on a GPU of compute capability 8, on a CPU with AMX or AVX512-BF16."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: Any = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def base_hash(base: str) -> str:
    """Hex SHA-256 over the base's weight files: the same for a hub id, once loaded, as for a local copy of it.

    Raises DubioError where the base is not there and cannot be fetched.
    """
    path = Path(base)
    if path.is_file():
        return sha256_file(path)
    if not path.is_dir():
        name, more = locate_base(base)
        try:
            path = Path(str(cached_file(name, "config.json", **more))).parent
            if not any(path.glob("*.safetensors")):  # of a hub id, only the config has come so far
                path = Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json"], **more))
        except (OSError, ValueError) as error:  # huggingface_hub's errors are of these kinds
            raise DubioError(f"there is no base model {base} here or to fetch: {reason_of(error)}") from error
    digests = [f"{p.name}:{sha256_file(p)}" for p in sorted(path.glob("*.safetensors"))]
    if not digests:
        raise DubioError(f"{base} holds no safetensors weights; convert them with save_pretrained first")
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
