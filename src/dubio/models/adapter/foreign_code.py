"""Settings by which peft or transformers would import, run or fetch something: refused before either sees them.

dubio runs the code of transformers and peft, and nothing that an adapter's or a base's folder names. Weights come from
safetensors, and nothing is read from a path or hub id that stands inside a config, except the base.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from dubio.errors import DubioError
from dubio.safe_reading import FACTS, SETTINGS, MissingFileError, read_object

# The files of a folder that transformers reads settings from.
FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
INDEX = "model.safetensors.index.json"
# Ways to compute attention and experts that transformers holds itself; all others it fetches, or imports.
_OWN_KERNELS = frozenset({None, "eager", "sdpa", "flex_attention", "batched_mm", "grouped_mm"})
_KERNELS = ("attn_implementation", "experts_implementation")
# Of adapter_config.json: what names a file, a model or a module that peft would open.
_OPENED = {
    "megatron_config": "Megatron layers", "shadow_model": "another model", "adapters": "other adapters",
    "prompt_tuning_init_state_dict_path": "another file",
}  # fmt: skip
_DEEPEST = 40  # dicts within dicts


def check_adapter_settings(folder: Path, facts: Mapping[str, Any]) -> None:
    """Raises DubioError where an adapter's settings make peft import, run or fetch something."""
    for name, what in _OPENED.items():
        if facts.get(name):
            raise DubioError(f"{folder}: the adapter's {name} makes peft read {what}; dubio takes adapters without it")
    module = facts.get("megatron_core")
    if module not in (None, "megatron.core"):
        raise DubioError(f"{folder}: the adapter's megatron_core names code to import ({_shown(module)}); remove it")
    options = facts.get("tokenizer_kwargs")
    if isinstance(options, Mapping) and any("remote_code" in str(name) for name in options):
        raise DubioError(f"{folder}: the adapter's tokenizer_kwargs ask to run code from elsewhere; remove them")
    mapping = facts.get("auto_mapping")
    if isinstance(mapping, Mapping):
        library, name = str(mapping.get("parent_library")), str(mapping.get("base_model_class"))
        if library.split(".")[0] not in ("transformers", "peft") and not hasattr(transformers, name):
            raise DubioError(
                f"{folder}: the adapter was trained on the class {_shown(name)} of {_shown(library)}, which dubio does "
                "not import; it reads the sequence classifiers of transformers"
            )


def check_model_settings(folder: Path, files: Sequence[str] = FILES) -> None:
    """Raises DubioError where a model's or tokenizer's settings make transformers import, run or fetch something.

    Code of its own beside a model that transformers knows itself is left unused, so it is no reason to refuse.
    """
    for name in files:
        facts = _read(folder / name)
        for key, value in _leaves(facts):
            if key.removeprefix("_").removesuffix("_internal") in _KERNELS and value not in _OWN_KERNELS:
                raise DubioError(
                    f"{folder}/{name} asks for {key} {_shown(value)}, which is code from elsewhere; set it to sdpa"
                )
        if "auto_map" in facts and not _known(name, facts):
            raise DubioError(
                f"{folder}/{name} names code of its own (auto_map), which dubio does not run; name a model whose "
                "architecture and tokenizer transformers itself knows"
            )


def check_shards(folder: Path) -> None:
    """Raises DubioError where the list of a model's shards names anything but safetensors files of its own folder."""
    shards = _read(folder / INDEX, FACTS).get("weight_map")
    for name in sorted({str(shard) for shard in shards.values()}) if isinstance(shards, Mapping) else ():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise DubioError(
                f"{folder}/{INDEX} names {_shown(name)}, which is no safetensors file beside it; convert the model "
                "with save_pretrained first"
            )


def _known(file: str, facts: Mapping[str, Any]) -> bool:
    """Whether transformers has the class by itself, and so leaves the code beside it alone."""
    if file == "config.json":
        return facts.get("model_type") in CONFIG_MAPPING_NAMES
    named = facts.get("tokenizer_class") if file == "tokenizer_config.json" else None
    return named is None or hasattr(transformers, str(named))


def _read(path: Path, limit: int = SETTINGS) -> Mapping[str, Any]:
    """A JSON object; of what is absent nothing. What is not read here must not be read by transformers either."""
    try:
        return read_object(path, limit=limit, finite=False, remedy="save the model again")
    except MissingFileError:
        return {}


def _leaves(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, str | None]]:
    """(key, value) of texts at any depth; a dict of implementations, one a part, under the key that holds it."""
    if isinstance(value, Mapping) and depth < _DEEPEST:
        for inner, found in value.items():
            implementation = key.removeprefix("_").removesuffix("_internal") in _KERNELS
            yield from _leaves(found, key if implementation else str(inner), depth + 1)
    elif isinstance(value, list):
        for found in value:
            yield from _leaves(found, key, depth + 1)
    elif isinstance(value, str):
        yield key, value


def _shown(value: Any) -> str:
    return repr(str(value)[:60])
