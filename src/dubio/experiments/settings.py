"""Whether the settings of a run or a posterior mean something: names, types and ranges, before any work.

In: a mapping as it stands in a config, and where it stands. Out: nothing, or one line that says what is wrong there.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from dubio.adapters.training import range_of
from dubio.errors import DubioError

# Settings of the posteriors that are made from an adapter, by kind, or the words that are allowed.
_MADE: dict[str, dict[str, type | tuple[str, ...]]] = {
    "mc_dropout": {"rate": float, "masks": ("sample", "token")}, "heads": {"members": int}, "tfb": {"tolerance": float},
    "laplace": {"structure": ("kron", "diag", "full"), "evidence": bool},
    "laplace_lora": {"structure": ("kron", "diag"), "linear": bool, "evidence": bool},
}  # fmt: skip


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
