"""Pydantic's errors about a grid's config, to one line: errors and the model that they are of in, words out."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from dubio.safe_reading import short

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


def in_words(errors: Iterable[Mapping[str, Any]], model: type[BaseModel]) -> str:
    """The first of pydantic's errors about a `model`, as a line: where, and what is wrong."""
    error = min(errors, key=lambda error: error["type"] == "missing")  # it may be there, but misspelt
    loc, found, kind = [*error["loc"]], error["input"], str(error["type"])
    if kind == "invalid_key" or (loc and loc[-1] == "[key]"):
        *before, name = loc if kind == "invalid_key" else loc[:-1]
        told = _NAMED if kind == "string_pattern_mismatch" else "should be text; put it in quotes"
        return f"{_place(before)}the name {short(name)} {told}"
    if kind == "extra_forbidden":
        known = _settings_at(model, loc[:-1])
        return (
            f"{_place(loc[:-1])}unknown setting {short(loc[-1])}{meant(str(loc[-1]), known)}; known: {', '.join(known)}"
        )
    told = _WORDS.get(kind) or str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    scalar = found is None or isinstance(found, str | int | float)
    given = f", not {'nothing' if found is None else short(found)}" if scalar and told.startswith("should be") else ""
    return f"{_place(loc)}{told}{given}"


def _place(loc: Sequence[Any]) -> str:
    return ".".join(short(part) if len(str(part)) > 60 else str(part) for part in loc) + ": " if loc else ""


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
