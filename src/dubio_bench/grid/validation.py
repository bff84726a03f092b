"""Whether the settings of a run or a posterior mean something: names, types and ranges, before any work.

In: a mapping as it stands in a config, and where it stands. Out: nothing, or one line that says what is wrong there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from inspect import signature
from typing import Any, get_type_hints

from dubio.adapters.plan import range_of
from dubio.errors import DubioError
from dubio.posteriors.methods.head_ensemble import fit_heads
from dubio.posteriors.registry import PosteriorEntry
from dubio.posteriors.trained import PosteriorPlan, idle_settings

# Settings of the posteriors that are made from an adapter, by kind, or the words that are allowed.
_MADE: dict[str, dict[str, type | tuple[str, ...]]] = {
    "mc_dropout": {"rate": float, "masks": ("sample", "token")}, "heads": {"members": int}, "tfb": {"tolerance": float},
    "laplace": {"structure": ("kron", "diag", "full"), "evidence": bool},
    "laplace_lora": {"structure": ("kron", "diag"), "linear": bool, "evidence": bool},
}  # fmt: skip

# How many members an ensemble has, of which samples are the first so many, unless its plan says.
_DRAWN = {"ensemble": PosteriorPlan.members, "heads": int(signature(fit_heads).parameters["members"].default)}


def twice(names: Iterable[str]) -> str | None:
    """The first of the names, by alphabet, that is there more than once."""
    every = list(names)
    return min((name for name in every if every.count(name) > 1), default=None)


def whole_or_share(rows: float) -> float:
    """The same rows; raises ValueError where they are neither a share below 1 nor a number of at least 2."""
    if 0 < rows < 1 or (rows >= 2 and rows == int(rows)):
        return rows
    raise ValueError(f"{rows:g} is neither a share of the rows below 1 nor a whole number of at least 2")


def check_plan(where: str, entry: PosteriorEntry, plan: Mapping[str, Any], samples: int | None) -> None:
    """Of a posterior: its own settings, and how many samples are drawn; raises ValueError."""
    if "keep" in plan:
        raise ValueError(f"{where}.plan: keep gives its systems no names; use stages")
    if entry.trained:
        check_settings(f"{where}.plan", plan, PosteriorPlan)
        if idle := idle_settings(entry.name, plan):
            raise ValueError(f"{where}.plan: {idle[0]} has no effect on {entry.name}; leave it out")
    else:
        check_made(f"{where}.plan", entry.name, plan)
    if samples is None:
        return
    if entry.name == "kfold":
        raise ValueError(f"{where}.samples: all members of K-fold adapters are drawn; leave it out")
    members = plan.get("members", _DRAWN.get(entry.name, samples))
    if samples > members:
        raise ValueError(f"{where}.samples: there are {members} members, not {samples}; ask for at most so many")


def check_settings(where: str, settings: Mapping[str, Any], kind: type, also: tuple[str, ...] = ()) -> None:
    """Of a run: fields of `kind`, whose own checks are made too, and `also`; raises ValueError, as pydantic expects."""
    known = {field.name for field in fields(kind)} - {"seed", "device", "show", "precision"} | set(also)
    for name in settings:
        if name not in known:
            raise ValueError(f"{where}: no setting {name!r}; known: {', '.join(sorted(known))}")
    kinds = get_type_hints(kind)
    for name, value in settings.items():
        _check_value(f"{where}.{name}", name, value, kinds[name])
    try:
        kind(**settings)
    except DubioError as error:
        raise ValueError(f"{where}: {error}") from error


def check_made(where: str, posterior: str, settings: Mapping[str, Any]) -> None:
    """Of a posterior that is made from an adapter; raises ValueError."""
    for name, value in settings.items():
        if name not in _MADE[posterior]:
            raise ValueError(f"{where}: {posterior} has no setting {name!r}")
        wanted = _MADE[posterior][name]
        if not isinstance(wanted, tuple):
            _check_value(f"{where}.{name}", name, value, wanted)
        elif value not in wanted:
            raise ValueError(f"{where}.{name}: {value!r} is not one of {', '.join(wanted)}")


def _check_value(where: str, name: str, value: Any, wanted: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = (number and isinstance(0.0, wanted)) or (isinstance(value, wanted) and (number or wanted is not int))
    if not fits:
        told = getattr(wanted, "__name__", str(wanted))
        hint = "; YAML reads 5e-4 as text, write 5.0e-4" if isinstance(value, str) and wanted is float else ""
        raise ValueError(f"{where}: {value!r} is not a {told}{hint}")
    least, below = range_of(name, wanted is int)
    if number and not least <= value < below:
        raise ValueError(f"{where}: {value} is out of range")
