"""A YAML file to plain values, in which no key stands twice, and pydantic's errors about them to one line.

In: a path, or errors and the model that they are of. Out: values, or words that say where and what is wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from dubio.errors import DubioError

_NAMED = "should be letters, digits and . _ + -, a letter or digit first"
# Of pydantic's kinds of error, what they are called here; others keep its words.
_WORDS = {
    "missing": "is missing", "too_short": "name at least one", "string_pattern_mismatch": _NAMED,
    "tuple_type": "should be a list", "dict_type": "should be a mapping of names",
    "model_type": "should be a mapping of settings", "string_type": "should be text",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
}  # fmt: skip


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: the last would win, and nobody would see it."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """The node, before `<<` is resolved: what is merged may be overridden."""
        node: Any = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                name, line = (str(key.tag), str(key.value)), key.start_mark.line + 1
                if name in first:
                    raise DubioError(f"line {line}: {key.value!r} stands in line {first[name]} already; keep one")
                first[name] = line
        return node


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; raises DubioError, one line, where it cannot be read or names a key twice."""
    try:
        return _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise DubioError(f"cannot read {path}: {error.strerror}") from error
    except DubioError as error:
        raise DubioError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError) as error:  # no UTF-8 and dates that are none, too
        raise DubioError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def in_words(errors: Iterable[Mapping[str, Any]], model: type[BaseModel]) -> str:
    """The first of pydantic's errors about a `model`, as a line: where, and what is wrong."""
    error = min(errors, key=lambda error: error["type"] == "missing")  # it may be there, but misspelt
    loc, found, kind = [*error["loc"]], error["input"], str(error["type"])
    if kind == "invalid_key" or (loc and loc[-1] == "[key]"):
        *before, name = loc if kind == "invalid_key" else loc[:-1]
        told = _NAMED if kind == "string_pattern_mismatch" else "should be text; put it in quotes"
        return f"{_place(before)}the name {name!r} {told}"
    if kind == "extra_forbidden":
        known = _settings_at(model, loc[:-1])
        return f"{_place(loc[:-1])}unknown setting {loc[-1]!r}{meant(str(loc[-1]), known)}; known: {', '.join(known)}"
    told = _WORDS.get(kind) or str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    scalar = found is None or isinstance(found, str | int | float)
    given = f", not {'nothing' if found is None else repr(found)}" if scalar and told.startswith("should be") else ""
    return f"{_place(loc)}{told}{given}"


def _place(loc: Sequence[Any]) -> str:
    return ".".join(str(part) for part in loc) + ": " if loc else ""


def _settings_at(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """Names of the settings that are known at a place of a config."""
    at: Any = model
    for part in loc:
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = at.model_fields[str(part)].annotation
            at = next((own for own in get_args(at) if own is not type(None)), at) if type(None) in get_args(at) else at
        else:
            at = get_args(at)[1 if get_origin(at) is dict else 0]
    return [*at.model_fields]


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
