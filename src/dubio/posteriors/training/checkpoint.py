"""Where a stacked run stands, and the file that keeps it after each epoch, from which a killed run goes on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dubio.files import atomic_path
from dubio.safe_reading import check_file, parse_json


@dataclass
class Progress:
    """Where a run stands: parameters, optimiser, best epochs, and what is told about each epoch."""

    values: dict[str, Tensor]
    best: dict[str, Tensor]
    best_epoch: list[int]
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    kept: dict[int, dict[str, Tensor]] = field(default_factory=dict[int, dict[str, Tensor]])


@runtime_checkable
class Carried(Protocol):
    """What a watcher gathers along a run, as tensors to keep."""

    @property
    def key(self) -> str:
        """What decides on what is gathered along a given run."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Becomes what they came from."""
        ...


def read_state(path: Path, state: Progress, device: str, carried: Carried | None) -> dict[str, dict[str, Tensor]]:
    """Sets `state` and `carried` to what is kept under `path`; returns the optimiser's moments by parameter."""
    check_file(path)
    with safe_open(path, "pt") as stored:
        parts = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        facts = parse_json(stored.metadata()["facts"], path)
    if carried is not None:
        carried.restore({k[8:]: v for k, v in parts.items() if k.startswith("carried|")})
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in parts.items():
        group, _, name = key.partition("|")
        if group in ("values", "best"):
            getattr(state, group)[name] = value.to(device)
        elif group.startswith("kept"):
            state.kept.setdefault(int(group[4:]), {})[name] = value.to(device)
        elif group != "carried":
            moments.setdefault(name, {})[group] = value if group == "step" else value.to(device)
    state.history, state.best_epoch = facts["history"], facts["best_epoch"]
    return moments


def write_state(path: Path, state: Progress, optimiser: torch.optim.Optimizer, carried: Carried | None) -> None:
    """The state after an epoch, by atomic rename."""
    parts = {f"values|{n}": v.detach() for n, v in state.values.items()}
    parts |= {f"best|{n}": v.detach() for n, v in state.best.items()}
    parts |= {f"carried|{n}": v for n, v in (carried.tensors() if carried is not None else {}).items()}
    parts |= {f"kept{epoch}|{n}": v for epoch, table in state.kept.items() for n, v in table.items()}
    for name, value in state.values.items():
        parts |= {f"{part}|{name}": moment for part, moment in optimiser.state[value].items()}
    facts = json.dumps({"history": state.history, "best_epoch": state.best_epoch})
    with atomic_path(path) as temporary:
        save_file({k: v.contiguous().cpu() for k, v in parts.items()}, temporary, {"facts": facts})
