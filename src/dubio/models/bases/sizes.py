"""Whether the sizes that settings name can be those of the weights beside them: asked before anything is built.

A config of a billion layers is a few bytes, and whoever builds the model first runs out of time and memory. In: a
folder, and its settings. Out: nothing, or a refusal.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dubio.errors import DubioError
from dubio.safe_reading import FACTS, check_file, read_object, short

# What transformers and peft read from a folder, by the ends of its names.
_READ = {".json", ".safetensors", ".txt", ".model", ".jinja", ".py", ".bin", ".pt", ".gguf", ".tiktoken", ".spm"}
# Names of whole numbers in a config by what they count. The least bounds are far above what anybody builds by them.
_LAYERS = re.compile(
    r"(num_|n_?)?(hidden_|encoder_|decoder_|inner_)?(layers?|blocks|groups?|group_num)|num_hidden_groups|depth"
)
_WIDTHS = re.compile(
    r".*(size|dim|width|heads?|embd|inner|ctx|vocab|labels|channels|rank|experts|buckets|d_model|d_ff)"
)
_POSITIONS = re.compile(r".*(position|length|window|max_).*")
_FEW, _WIDE, _LONG = 64, 1 << 16, 1 << 25
_HIDDEN = ("hidden_size", "n_embd", "d_model")
# Of adapter_config.json: what peft makes tensors or layers of, and the most of it beyond what the weights have.
_OF_ADAPTERS = ("r", "init_r", "target_r", "num_virtual_tokens", "num_layers", "token_dim", "encoder_hidden_size",
                "num_attention_heads", "num_transformer_submodules", "n_frequency", "oft_block_size", "boft_block_size",
                "boft_block_num", "boft_n_butterfly_factor", "adapter_len", "adapter_layers", "block_size",
                "encoder_num_layers", "num_ranks", "vera_r")  # fmt: skip
_SPARE = 4096


def check_files(folder: Path) -> None:
    """Raises DubioError where one of a folder's files is a named pipe, a device, a link to nothing, or too large."""
    for path in sorted(folder.iterdir()):
        if path.suffix in _READ:
            check_file(path, remedy="remove it, or copy the folder again")


def shapes_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by key over all safetensors files of a folder; raises DubioError where one is damaged."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        check_file(path, remedy="copy the folder again")
        try:
            with safe_open(path, framework="np") as opened:
                found |= {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise DubioError(f"{path} is damaged or cut short ({short(str(error), 200)}); copy it again") from error
    return found


def check_base_sizes(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises DubioError where a base's config names more layers, or greater sizes, than its weights can have."""
    shapes = shapes_of(folder)
    if not shapes or not _all_here(folder):  # of a hub id, whose weights are still to come
        shapes = {f"of a large model {at}": (1 << 20,) for at in range(1024)}
    sides = {size for shape in shapes.values() for size in shape}
    widest = max(sides, default=0)
    for name, value in _numbers(config):
        bound = _bound(name, len(shapes), widest)
        if bound is not None and value > bound:
            raise _misfit(folder / "config.json", name, value, len(shapes), widest)
    for name in _HIDDEN:
        value = config.get(name)
        if isinstance(value, int) and value > _SPARE and value not in sides and widest < 1 << 20:
            raise _misfit(folder / "config.json", name, value, len(shapes), widest)


def check_adapter_sizes(folder: Path, settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises DubioError where an adapter's settings make peft build what its weights cannot have."""
    widest, path = max((size for shape in shapes.values() for size in shape), default=0), folder / "adapter_config.json"
    named = {name: settings.get(name) for name in _OF_ADAPTERS}
    for name, table in settings.items():
        if name.endswith("_pattern") and isinstance(table, Mapping):
            named |= {f"{name} of {short(key)}": value for key, value in table.items()}  # pyright: ignore
    for name, value in named.items():
        if isinstance(value, int) and value > max(widest, _SPARE):
            raise _misfit(path, name, value, len(shapes), widest)
    replicated = settings.get("layer_replication")
    for pair in replicated if isinstance(replicated, list) else []:
        if any(isinstance(end, int) and abs(end) > _SPARE for end in (pair if isinstance(pair, list) else [])):
            raise _misfit(path, "layer_replication", max(pair), len(shapes), widest)


def _all_here(folder: Path) -> bool:
    """Whether all the shards are in the folder that its index names."""
    path = folder / "model.safetensors.index.json"
    if not path.exists():
        return True
    named = read_object(path, limit=FACTS, remedy="copy the folder again").get("weight_map")
    names = {str(name) for name in named.values()} if isinstance(named, dict) else set[str]()  # pyright: ignore
    return all((folder / name).exists() for name in names)


def _bound(name: str, tensors: int, widest: int) -> int | None:
    """The most that a number of this name may be; None for what nothing is built of."""
    if _LAYERS.fullmatch(name):
        return max(tensors, _FEW)
    if _POSITIONS.fullmatch(name):
        return max(widest, _LONG)
    return max(widest, _WIDE) if _WIDTHS.fullmatch(name) else None


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """(name, whole number) at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():  # pyright: ignore
            yield from _numbers(inner, str(key))  # pyright: ignore
    elif isinstance(value, list):
        for inner in value:  # pyright: ignore
            yield from _numbers(inner, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


def _misfit(path: Path, name: str, value: int, tensors: int, widest: int) -> DubioError:
    return DubioError(
        f"{path} says {name} {short(value)}, and the weights beside it are {tensors} tensors of at most {widest} rows "
        "or columns: they do not belong together; copy the folder again"
    )
