"""Regular expressions of an adapter's settings, which peft runs over every layer's name: none may take for ever.

Python's `re` goes back and forth, so `(a+)+b` takes twice as long with each letter more. What can be seen to be cheap
is let pass; the rest, which ordinary adapters hardly have, is run once by a process of its own, within a time.
"""

import json
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dubio.errors import DubioError
from dubio.safe_reading import short

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from re import _parser  # pyright: ignore

SECONDS = 2.0  # for all names of layers; an ordinary adapter's take a few milliseconds
_LONGEST, _CHEAP, _NAME = 20_000, 1e5, 200  # characters of a pattern; ways to try it on a name of so many letters
_WHOLE = ("target_modules", "exclude_modules", "feedforward_modules")
_CHILD = """
import json, re, sys
patterns, names = json.load(sys.stdin)
for at, pattern in enumerate(patterns):
    print(at, flush=True)
    found = re.compile(pattern)
    for name in names:
        found.match(name)
        found.fullmatch(name)
"""


def check_patterns(folder: Path, settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises DubioError where a pattern is none, or takes more than SECONDS on the names of the base's layers."""
    where, doubtful = f"{folder}/adapter_config.json", dict[str, str]()
    for name, own, pattern in _patterns(settings):
        if len(pattern) > _LONGEST:
            raise DubioError(f"{where}: {name} holds a pattern of {len(pattern)} characters; list the layers' names")
        try:
            cost = _cost(_parser.parse(pattern))
        except (_parser.error, RecursionError, OverflowError, ValueError) as error:
            raise DubioError(
                f"{where}: {name} holds no regular expression: {short(own)} ({short(str(error))})"
            ) from error
        if not cost <= _CHEAP:
            doubtful[pattern] = f"{name} holds the pattern {short(own)}"
    tables = [name for name, table in settings.items() if name.endswith("_pattern") and isinstance(table, Mapping)]
    for name in tables:
        if len(settings[name]) > max(len(names), 512):
            raise DubioError(
                f"{where}: {name} has {len(settings[name])} entries for {len(names)} layers; save it again"
            )
    slow = _slow([*doubtful], names) if doubtful else None
    if slow is not None:
        raise DubioError(
            f"{where}: {doubtful[slow]}, which takes too long on the names of the base's layers; list the layers' names"
        )


def _patterns(settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(setting, pattern as written, pattern as peft puts it together)."""
    found = [(name, str(settings[name]), str(settings[name])) for name in _WHOLE if isinstance(settings.get(name), str)]
    for name, value in settings.items():
        if name.endswith("_pattern") and isinstance(value, Mapping):
            found += [(name, str(key), rf"(.*\.)?({key})$") for key in value]  # pyright: ignore
    layers, whole = settings.get("layers_pattern"), settings.get("modules_to_save")
    for own in [layers] if isinstance(layers, str) else layers if isinstance(layers, list) else []:  # pyright: ignore
        found.append(("layers_pattern", str(own), rf"(?:^|.*?\.){own}\.(?P<idx>\d+)\."))  # pyright: ignore
    for own in whole if isinstance(whole, list) else []:  # pyright: ignore
        found.append(("modules_to_save", str(own), rf"(^|.*\.){own}($|\..*)"))  # pyright: ignore
    return found


def _cost(parsed: Any) -> float:
    """An upper bound of the ways in which a matcher may try a name of `_NAME` letters."""
    total = 1.0
    for op, value in parsed:
        kind = str(op)
        if kind == "BRANCH":
            total *= sum(_cost(branch) for branch in value[1])
        elif kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high, inner = value
            times = min(int(high), _NAME)
            each = _cost(inner)
            total *= (times - min(int(low), times) + 1) * (each ** min(times, 60) if each > 1 else 1.0)
        elif kind == "SUBPATTERN":
            total *= _cost(value[3])
        elif kind in ("ASSERT", "ASSERT_NOT"):
            total *= _cost(value[1])
        elif kind == "ATOMIC_GROUP":
            total *= _cost(value)
        elif kind == "GROUPREF_EXISTS":
            total *= _cost(value[1]) + (_cost(value[2]) if value[2] is not None else 1.0)
        elif kind == "GROUPREF":
            total *= _NAME
        if total > 1e30:
            return total
    return total


def _slow(patterns: Sequence[str], names: Sequence[str]) -> str | None:
    """The first pattern that is not through with all names in time; None if all are."""
    asked = json.dumps([[*patterns], [*names]])
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CHILD], input=asked, capture_output=True, text=True, timeout=SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return _last(patterns, error.stdout)
    except OSError:  # no other process can be had: nothing is proven
        return patterns[0]
    return None if done.returncode == 0 else _last(patterns, done.stdout)


def _last(patterns: Sequence[str], said: bytes | str | None) -> str:
    lines = (said.decode() if isinstance(said, bytes) else said or "").split()
    return patterns[int(lines[-1])] if lines else patterns[0]
