"""What an adapter folder holds, checked before any model is built: config, safetensors, training record."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dubio.errors import DubioError
from dubio.files import sha256_file

RECORD = "dubio_training.json"
_HEAD_WEIGHTS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")


@dataclass(frozen=True)
class AdapterFiles:
    """folder, the base model's name, PEFT's kind, tensor shapes by key, SHA-256 of the weights, training record."""

    folder: Path
    base: str
    kind: str
    shapes: Mapping[str, tuple[int, ...]]
    sha256: str
    record: Mapping[str, Any]


def find_adapter(path: str | Path) -> AdapterFiles | None:
    """The adapter at a local folder or hub id; None where the folder is a whole model instead.

    Raises DubioError where there is nothing, or weights are absent, not safetensors, cut short or damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = _download(str(path))
    config = folder / "adapter_config.json"
    if not config.is_file():
        if (folder / "adapter_model.safetensors").is_file():
            raise DubioError(f"{folder} holds adapter weights but no adapter_config.json; save the adapter again")
        if not (folder / "config.json").is_file():
            raise DubioError(f"{folder} holds neither an adapter nor a model; name a folder that peft has saved")
        return None
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        other = next(iter(sorted(folder.glob("adapter_model.*"))), None)
        reason = f"only {other.name}, which can run code" if other else "no adapter_model.safetensors"
        raise DubioError(f"{folder} holds {reason}; save it with safe_serialization=True")
    facts = _json(config)
    record = _json(folder / RECORD) if (folder / RECORD).is_file() else {}
    if "base_model_name_or_path" not in facts:
        raise DubioError(f"{config} names no base model; pass --base")
    return AdapterFiles(
        folder, str(facts["base_model_name_or_path"]), str(facts.get("peft_type", "")), _shapes(weights),
        sha256_file(weights), record,
    )  # fmt: skip


def head_rows(files: AdapterFiles) -> int | None:
    """Number of classes of the head that the adapter brings along, or None if it brings none."""
    rows = [shape[0] for key, shape in files.shapes.items() if key.endswith(_HEAD_WEIGHTS) and len(shape) == 2]
    return rows[0] if rows else None


def _shapes(weights: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(weights, framework="np") as opened:
            return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DubioError(f"{weights} is damaged or cut short ({error}); save the adapter again") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DubioError(f"{path} is not readable JSON ({error}); save the adapter again") from error
    if not isinstance(value, dict):
        raise DubioError(f"{path} is not a JSON object; save the adapter again")
    return value


def _download(name: str) -> Path:
    if name.startswith(("/", ".", "~")) or name.count("/") != 1:
        raise DubioError(f"there is no adapter folder {name}; name an existing folder or a hub id (owner/name)")
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # offline, absent and private all mean the same here: it is not at hand
        raise DubioError(f"{name} is no local folder and could not be fetched ({type(error).__name__})") from error
