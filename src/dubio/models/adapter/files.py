"""What an adapter folder holds, checked before any model is built: config, safetensors, training record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dubio.errors import DubioError
from dubio.files import sha256_file, sha256_json
from dubio.models.adapter.foreign_code import check_adapter_settings, check_model_settings
from dubio.models.adapter.initialising import check_initialisation
from dubio.models.adapter.keys import check_keys
from dubio.models.adapter.training_record import RECORD, read_record
from dubio.models.bases.locating import at_revision, find_folder, nothing_in
from dubio.models.bases.sizes import check_adapter_sizes, check_files
from dubio.safe_reading import check_file, read_object

_HEADS = (["classifier"], ["classifier", "out_proj"], ["score"])
# Of adapter_config.json: what says where an adapter came from, not what it computes.
_IDLE = ("base_model_name_or_path", "revision", "peft_version", "inference_mode", "auto_mapping", "parent_library")


@dataclass(frozen=True)
class AdapterFiles:
    """folder, the base model's name (None where the config names none), PEFT's kind, tensor shapes by key, SHA-256 of
    weights and settings, training record, PEFT's task type, all of adapter_config.json.

    base: with the revision that the config names behind it, as in owner/name@revision.
    """

    folder: Path
    base: str | None
    kind: str
    shapes: Mapping[str, tuple[int, ...]]
    sha256: str
    record: Mapping[str, Any]
    task: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


def find_adapter(path: str | Path) -> AdapterFiles | None:
    """The adapter at a local folder or hub id; None where the folder is a whole model instead.

    Raises DubioError where there is nothing, or weights are absent, not safetensors, cut short or damaged.
    """
    folder = find_folder(str(path))
    check_files(folder)
    config = folder / "adapter_config.json"
    if not config.is_file():
        if (folder / "adapter_model.safetensors").is_file():
            raise DubioError(f"{folder} holds adapter weights but no adapter_config.json; save the adapter again")
        if not (folder / "config.json").is_file():
            raise nothing_in(folder)
        return None
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        other = next(iter(sorted(folder.glob("adapter_model.*"))), None)
        reason = f"only {other.name}, which can run code" if other else "no adapter_model.safetensors"
        raise DubioError(f"{folder} holds {reason}; save it with safe_serialization=True")
    facts = _json(config)
    check_adapter_settings(folder, facts)
    check_model_settings(folder)  # a tokenizer, and a config for its label names, often lie beside an adapter
    check_initialisation(folder, facts)
    record = read_record(folder)
    shapes = _shapes(weights)
    check_keys(folder, shapes)
    check_adapter_sizes(folder, facts, shapes)
    settings = settings_of(facts)
    base, kind, revision = facts.get("base_model_name_or_path"), str(facts.get("peft_type")), facts.get("revision")
    weights_sha256 = sha256_file(weights)
    _check_record(folder, record, weights_sha256, settings)
    digest = sha256_json([weights_sha256, settings])
    task = facts.get("task_type")
    named = at_revision(str(base), str(revision) if revision else None) if base else None
    return AdapterFiles(folder, named, kind, shapes, digest, record, None if task is None else str(task), facts)


def head_rows(files: AdapterFiles) -> int | None:
    """Number of classes of the head that the adapter brings along, or None if it brings none."""
    for key, shape in files.shapes.items():
        *path, leaf = key.split(".")  # by whole names: DistilBERT's pre_classifier is no head
        if leaf == "weight" and len(shape) == 2 and any(path[-len(head) :] == head for head in _HEADS):
            return shape[0]
    return None


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an adapter's config says of its numbers: whoever edits lora_alpha has another adapter."""
    return {key: _ordered(value) for key, value in config.items() if key not in _IDLE}


def _check_record(folder: Path, record: Mapping[str, Any], weights: str, settings: Mapping[str, Any]) -> None:
    """Raises DubioError where the record is that of other weights or settings: its labels and rows are not these.

    Settings that only one of the two knows come of another peft, which wrote the config again.
    """
    told = record.get("settings")
    known: Mapping[str, Any] = told if isinstance(told, dict) else {}
    changed = [name for name in sorted(known) if name in settings and settings[name] != known[name]]
    if record.get("weights_sha256", weights) == weights and not changed:
        return
    what = "weights" if record.get("weights_sha256", weights) != weights else f"settings ({changed[0]})"
    raise DubioError(
        f"{folder}: {RECORD} was written with other {what} than the adapter has; put back the files that belong "
        f"together, or delete {RECORD} where you changed the adapter on purpose"
    )


def _ordered(value: Any) -> Any:
    """Lists of names sorted: peft writes sets of them in any order."""
    names = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return sorted(value) if names else value


def _shapes(weights: Path) -> dict[str, tuple[int, ...]]:
    check_file(weights, remedy="save the adapter again")
    try:
        with safe_open(weights, framework="np") as opened:
            return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DubioError(f"{weights} is damaged or cut short ({error}); save the adapter again") from error


def _json(path: Path) -> dict[str, Any]:
    return read_object(path, remedy="save the adapter again")
