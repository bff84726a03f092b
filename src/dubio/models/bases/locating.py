"""Where adapters and bases lie: a folder, a .gguf file, or a hub id, with a revision where one is named.

The hub is asked only for what can be an id of it: a name that it allows, and no path into a folder that lies here.
A revision is written behind the id, `owner/name@revision`, and travels inside the name: whatever takes a base by name
takes it at that revision. A path that exists is a path, whatever signs it holds.
"""

import re
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dubio.errors import DubioError

# owner/name or name, as the hub allows them, and behind @ a branch, a tag or a commit.
_PINNED = re.compile(r"([\w.-]+(?:/[\w.-]+)?)@([\w.][\w./+-]*)")
_OTHER_MACHINE = re.compile(r"[A-Za-z]:[\\/]|.*\\")  # a drive, or Windows' separator
_SHOWN = 8  # folders in a message


def split_revision(name: str) -> tuple[str, str | None]:
    """(path or hub id, revision or None) of a name such as `owner/name@revision`."""
    found = None if Path(name).exists() else _PINNED.fullmatch(name)
    return (name, None) if found is None else (found[1], found[2])


def at_revision(name: str, revision: str | None) -> str:
    """The name with its revision behind it; of a path, or where one is in the name already, the name as it is."""
    return name if revision is None or is_path(name) or split_revision(name)[1] else f"{name}@{revision}"


def name_base(config: Any, base: str) -> None:
    """Writes a base into an adapter's settings as peft reads them: its name, and its revision apart."""
    config.base_model_name_or_path, config.revision = split_revision(base)


def is_path(name: str) -> bool:
    """Whether a name can only be a path here: one that exists, or that no hub id looks like."""
    if Path(name).exists() or name.startswith(("/", ".", "~")):
        return True
    return bool(_OTHER_MACHINE.match(name)) or split_revision(name)[0].count("/") > 1


def may_be_hub_id(name: str) -> bool:
    """Whether the hub could know it: owner/name or name as the hub allows them, and no folder `owner` lies here."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    known = split_revision(name)[0]
    try:
        validate_repo_id(known)
    except HFValidationError:
        return False
    return not is_path(name) and not ("/" in known and Path(known).parent.is_dir())


def no_folder(name: str, what: str, remedy: str) -> DubioError:
    """Of a path that leads to nothing: names the one beside it that is spelt nearly so, if there is one.

    what: of a model, an adapter, ... remedy: what to do, in words.
    """
    path, beside = Path(name), list[str]()
    with suppress(OSError, ValueError):
        beside = sorted(found.name for found in path.parent.iterdir() if found.is_dir())
    near = get_close_matches(path.name, beside, n=1, cutoff=0.75)
    guess = f" (did you mean {path.with_name(near[0])}?)" if near else ""
    return DubioError(f"there is no {what} folder {name}{guess}; {remedy}")


def locate_base(base: str) -> tuple[str, dict[str, Any]]:
    """(folder or hub id, what transformers is to be told besides: `gguf_file`, or a hub id's `revision`).

    Raises DubioError where a path leads to nothing, or to no base model.
    """
    path = Path(base)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise DubioError(f"there is no base model file {base}; name an existing .gguf file")
        # Whole: a bare name would be looked for in the current folder first.
        return str(path.parent), {"gguf_file": str(path.absolute())}
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise DubioError(f"{base} holds no config.json; name the folder of a base model")
        if not list(path.glob("*.safetensors")):
            raise DubioError(f"{base} holds no safetensors weights; convert them with save_pretrained first")
        return base, {}
    if not may_be_hub_id(base):
        raise no_folder(base, "base model", "name where the base lies on this machine with --base")
    name, revision = split_revision(base)
    return name, {} if revision is None else {"revision": revision}


def not_at_hand(base: str, error: BaseException) -> DubioError:
    """Of a hub id that could not be fetched: offline, absent and private all mean the same here."""
    return DubioError(
        f"cannot load the base model {base}: there is no such folder here, and the hub did not give it "
        f"({type(error).__name__}); name where the base lies on this machine with --base"
    )


def find_folder(name: str) -> Path:
    """The local folder of an adapter or model: as named, or as downloaded from a hub id.

    Raises DubioError where there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    known, revision = split_revision(name)
    if "/" not in known or not may_be_hub_id(name):
        raise no_folder(name, "adapter", "name an existing one, or a hub id (owner/name, or owner/name@revision)")
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    try:
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
        return Path(snapshot_download(known, allow_patterns=patterns, **options))
    except Exception as error:  # offline, absent and private all mean the same here: it is not at hand
        raise DubioError(f"{name} is no local folder and could not be fetched ({type(error).__name__})") from error


def nothing_in(folder: Path) -> DubioError:
    """Of a folder that is neither adapter nor model: names those right under it, if there are some."""
    files = ("adapter_config.json", "config.json")
    inside = [path for path in folder.iterdir() if path.is_dir() and any((path / name).is_file() for name in files)]
    if not inside:
        return DubioError(f"{folder} holds neither an adapter nor a model; name a folder that peft has saved")
    ordered = sorted(inside, key=_in_order)
    names = ", ".join(path.name for path in ordered[:_SHOWN]) + (", ..." if len(ordered) > _SHOWN else "")
    # Of a training's checkpoints, which count up, the last is named.
    return DubioError(
        f"{folder} is itself neither an adapter nor a model, but holds {names}; name one of them, such as {ordered[-1]}"
    )


def _in_order(path: Path) -> tuple[Any, ...]:
    """checkpoint-500 before checkpoint-1000."""
    return tuple((part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path.name))
