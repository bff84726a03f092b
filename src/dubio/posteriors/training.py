"""Training M members at once over one frozen base: a stacked run equals M separate ones.

The loss is the sum of the members' losses, so that no gradient crosses from one to another; AdamW works element by
element; gradients are clipped member by member. Each member sees its own batches: rows of its own permutation, in an
order of lengths that all share, so that padding is rare for all of them. The base's own dropouts stay off.

    loss_m = mean cross-entropy of member m's batch + penalty * sum over layers ||B_m A_m||_F^2    (arXiv 2402.12264)

with ||B A||_F^2 = tr((B'B)(A A')), never formed as a product. The best epoch by validation accuracy is kept, member by
member. A killed run resumes from its last finished epoch.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from dubio.adapters.training import LabelledTexts
from dubio.errors import DubioError
from dubio.files import atomic_path, sha256_json
from dubio.models.extraction import batches, pad, tokenize
from dubio.posteriors.engine import StackEngine, runs_together
from dubio.posteriors.parameters import Parameters
from dubio.posteriors.stack import AdapterStack, Layout, LowRank
from dubio.progress import progress

GROUP = 50  # batches whose rows are sorted by length together


@dataclass(frozen=True)
class StackPlan:
    """Settings of a stacked run. seeds: one a member. penalty: weight of ||BA||^2. decay_b: of B alone (else of all).

    constant: no decay of the learning rate. keep: epochs (from 1) after which the members are kept as well.
    """

    seeds: tuple[int, ...] = (0,)
    learning_rate: float = 5e-4
    head_learning_rate: float | None = None
    weight_decay: float = 0.1
    decay_b: float | None = None
    epochs: int = 10
    batch_size: int = 64
    dropout: float = 0.0
    penalty: float = 0.0
    warmup: float = 0.1
    constant: bool = False
    clip: float = 1.0
    keep: tuple[int, ...] = ()
    show: bool = True


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

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Becomes what they came from."""
        ...


Watcher = Callable[[int, int, Mapping[str, Tensor]], None]  # (epoch from 0, step of it from 1, parameters)


def train_stack(
    parameters: Parameters, train: LabelledTexts, validation: LabelledTexts, plan: StackPlan,
    *, work: Path | None = None, watch: Watcher | None = None, begin: Mapping[str, Tensor] | None = None,
    carried: Carried | None = None,
) -> Progress:  # fmt: skip
    """Trains len(plan.seeds) members; `best` holds each member's parameters at its best epoch.

    work: folder for the state after each epoch, from which a killed run resumes. watch: called after every step;
    carried: what it gathers, kept with the state. begin: parameters to start from instead of the members' own start.
    Raises DubioError where a loss is no number: the run has diverged, and nothing of that epoch is kept.
    """
    run = _Run(parameters, train, plan, {"validation": validation.sha256, "begin": _digest(begin)})
    state = run.begin(work, begin, carried)
    total = plan.epochs * run.steps
    with progress("training", total, "steps", plan.show) as advance:
        advance(len(state.history) * run.steps)
        for epoch in range(len(state.history), plan.epochs):
            losses, start = torch.zeros(len(plan.seeds)), time.perf_counter()
            for step, loss in enumerate(run.epoch(state.values, epoch), start=1):
                losses += loss
                if watch is not None:
                    watch(epoch, step, state.values)
                advance(1)
            accuracy, nll = validate(parameters, state.values, validation)
            if not (bool(torch.isfinite(losses).all()) and np.isfinite(nll).all()):
                raise DubioError(f"training diverged in epoch {epoch + 1}: its loss is no number; lower learning_rate")
            state.history.append({
                "train_loss": (losses / run.steps).tolist(), "accuracy": accuracy.tolist(), "nll": nll.tolist(),
                "seconds": round(time.perf_counter() - start, 2),
            })  # fmt: skip
            _keep_best(state, epoch, accuracy)
            if epoch + 1 in plan.keep:
                state.kept[epoch + 1] = {name: value.detach().clone() for name, value in state.values.items()}
            if work is not None:
                run.save(work, state, carried)
    return state


def validate(
    parameters: Parameters, values: Mapping[str, Tensor], rows: LabelledTexts
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy `[M]` and mean NLL `[M]` (nats) of the members on the same rows."""
    host = parameters.host
    with torch.no_grad():
        stack = parameters.stack(values)
    engine = StackEngine(host.model, host.site, stack, host.inputs)
    tokens = tokenize(host, rows.texts, rows.pairs)
    logits = np.empty((len(stack), len(rows.labels), len(host.labels)), dtype=np.float32)
    for at in batches(np.array([len(ids) for ids in tokens["input_ids"]]), 4096):
        logits[:, at] = engine.predict(_batch(parameters, tokens, at)).cpu().numpy()
    labels = torch.from_numpy(rows.labels)
    nll = [float(cross_entropy(torch.from_numpy(table).double(), labels)) for table in logits]
    return (logits.argmax(axis=2) == rows.labels).mean(axis=1), np.array(nll)


def product_penalty(stack: AdapterStack) -> Tensor:
    """`[M]` sum over layers of ||B A||_F^2, without the scale, in trace form. Source: arXiv 2402.12264."""
    terms = [
        ((layer.b.transpose(1, 2) @ layer.b) * (layer.a @ layer.a.transpose(1, 2))).sum(dim=(1, 2))
        for layer in stack.layers.values()
        if isinstance(layer, LowRank)
    ]
    return torch.stack(terms).sum(dim=0)


class _Run:
    """One run's rows, optimiser and schedule."""

    def __init__(
        self, parameters: Parameters, train: LabelledTexts, plan: StackPlan, about: Mapping[str, Any] | None = None
    ) -> None:
        self.parameters, self.train, self.plan = parameters, train, plan
        self.tokens = tokenize(parameters.host, train.texts, train.pairs)
        self.lengths = np.array([len(ids) for ids in self.tokens["input_ids"]])
        self.labels = torch.from_numpy(train.labels).to(parameters.host.device)
        self.steps = -(-len(train.texts) // plan.batch_size)
        host = parameters.host
        self.key = sha256_json({
            **plan.__dict__, "show": 0, "train": train.sha256, "targets": list(parameters.targets),
            "fresh": list(parameters.fresh), "rank": parameters.rank, "scale": parameters.scale,
            "kind": type(parameters).__name__, "frozen_head": parameters.frozen_head,
            "max_length": host.max_length, "labels": list(host.labels),
            "torch": torch.__version__, **host.hashes, **(about or {}),
        })  # fmt: skip

    def begin(
        self, work: Path | None, start: Mapping[str, Tensor] | None = None, carried: Carried | None = None
    ) -> Progress:
        """From the start, or from the last epoch under `work`."""
        values = dict(start) if start is not None else self.parameters.start(self.plan.seeds)
        values = {name: value.detach().clone() for name, value in values.items()}
        state = Progress(values, {n: v.clone() for n, v in values.items()}, [0] * len(self.plan.seeds))
        moments: dict[str, dict[str, Tensor]] = {}
        path = None if work is None else self._path(work)
        if path is not None and path.exists():
            with safe_open(path, "pt") as stored:
                parts = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
                facts = json.loads(stored.metadata()["facts"])
            device = self.parameters.host.device
            if carried is not None:
                carried.restore({k[8:]: v for k, v in parts.items() if k.startswith("carried|")})
            for key, value in parts.items():
                group, _, name = key.partition("|")
                if group in ("values", "best"):
                    getattr(state, group)[name] = value.to(device)
                elif group.startswith("kept"):
                    state.kept.setdefault(int(group[4:]), {})[name] = value.to(device)
                elif group != "carried":
                    moments.setdefault(name, {})[group] = value if group == "step" else value.to(device)
            state.history, state.best_epoch = facts["history"], facts["best_epoch"]
        for value in state.values.values():
            value.requires_grad_(True)
        self.optimiser = self._optimiser(state.values)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._rate)
        for _ in range(len(state.history) * self.steps):
            self.schedule.step()
        for name, parts in moments.items():
            self.optimiser.state[state.values[name]] = parts
        return state

    def epoch(self, values: dict[str, Tensor], epoch: int) -> Iterator[Tensor]:
        """One pass over the rows for every member; yields each step's losses `[M]`."""
        for chosen in self.order(epoch):
            with torch.enable_grad():
                losses = self.losses(values, chosen, epoch)
                losses.sum().backward()
            self._clip(values)
            self.optimiser.step()
            self.schedule.step()
            self.optimiser.zero_grad(set_to_none=True)
            yield losses.detach().cpu()

    def order(self, epoch: int) -> list[np.ndarray]:
        """Row numbers `[M, n]` of each step: every member's own permutation, lengths in an order that all share."""
        size, rows = self.plan.batch_size, len(self.lengths)
        own: list[np.ndarray] = []
        for seed in self.plan.seeds:
            dealt = np.random.default_rng([seed, epoch]).permutation(rows)
            groups = [dealt[i : i + GROUP * size] for i in range(0, rows, GROUP * size)]
            own.append(np.concatenate([g[np.argsort(-self.lengths[g], kind="stable")] for g in groups]))
        starts = np.random.default_rng([7, epoch]).permutation(np.arange(0, rows, size))
        return [np.stack([member[i : i + size] for member in own]) for i in starts]

    def losses(self, values: Mapping[str, Tensor], chosen: np.ndarray, epoch: int) -> Tensor:
        """`[M]` losses of the members on their own rows `[M, n]`."""
        host, members = self.parameters.host, len(chosen)
        step = members if runs_together(host.model) else 1
        found: list[Tensor] = []
        whole = self.parameters.stack(values)
        for first in range(0, members, step):
            part = slice(first, first + step)
            stack, rows = whole.take(part), chosen[part]
            layout = Layout(len(rows), dropout=self.plan.dropout, generators=self._generators(rows, epoch, part))
            engine = StackEngine(host.model, host.site, stack, host.inputs)
            logits = engine.logits(engine.features(_batch(self.parameters, self.tokens, rows.ravel()), layout, True))
            labels = self.labels[torch.from_numpy(rows)]
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").reshape(rows.shape).mean(1)
            found.append(loss + self.plan.penalty * product_penalty(stack) if self.plan.penalty else loss)
        return torch.cat(found)

    def save(self, work: Path, state: Progress, carried: Carried | None) -> None:
        """The state after an epoch, by atomic rename."""
        parts = {f"values|{n}": v.detach() for n, v in state.values.items()}
        parts |= {f"best|{n}": v.detach() for n, v in state.best.items()}
        parts |= {f"carried|{n}": v for n, v in (carried.tensors() if carried is not None else {}).items()}
        parts |= {f"kept{epoch}|{n}": v for epoch, table in state.kept.items() for n, v in table.items()}
        for name, value in state.values.items():
            parts |= {f"{part}|{name}": moment for part, moment in self.optimiser.state[value].items()}
        facts = json.dumps({"history": state.history, "best_epoch": state.best_epoch})
        with atomic_path(self._path(work)) as temporary:
            save_file({k: v.contiguous().cpu() for k, v in parts.items()}, temporary, {"facts": facts})

    def _path(self, work: Path) -> Path:
        return work / f"{self.key[:16]}.safetensors"

    def _rate(self, step: int) -> float:
        """Linear warm-up, then linear decay to 0, or no decay."""
        total = self.plan.epochs * self.steps
        warm = int(np.ceil(self.plan.warmup * total))
        if step < warm:
            return step / max(1, warm)
        return 1.0 if self.plan.constant else max(0.0, (total - step) / max(1, total - warm))

    def _optimiser(self, values: Mapping[str, Tensor]) -> torch.optim.AdamW:
        plan = self.plan
        groups: list[dict[str, Any]] = []
        for name, value in values.items():
            own = plan.weight_decay if plan.decay_b is None else plan.decay_b if name.endswith(".b") else 0.0
            vector = value.dim() < 3  # biases and norms of members side by side
            rate = plan.head_learning_rate if name.startswith("head/") and plan.head_learning_rate else None
            groups.append({"params": [value], "weight_decay": 0.0 if vector else own, "lr": rate or plan.learning_rate})
        return torch.optim.AdamW(groups, lr=plan.learning_rate, foreach=False)

    def _clip(self, values: Mapping[str, Tensor]) -> None:
        grads = [value.grad for value in values.values() if value.grad is not None]
        norms = torch.stack([g.flatten(1).pow(2).sum(dim=1) for g in grads]).sum(dim=0).sqrt()
        factor = (self.plan.clip / (norms + 1e-6)).clamp(max=1.0)
        for g in grads:
            g.mul_(factor.reshape(-1, *[1] * (g.dim() - 1)))

    def _generators(self, rows: np.ndarray, epoch: int, part: slice) -> list[torch.Generator]:
        """Dropout of each member by its seed and its own rows, so that neither the others nor a resumption matter."""
        if not self.plan.dropout:
            return []
        seeds = [
            np.random.SeedSequence([seed, epoch, int(own[0]), int(own[-1])]).generate_state(1, np.uint64)[0]
            for seed, own in zip(self.plan.seeds[part], rows, strict=True)
        ]
        device = self.parameters.host.device
        return [torch.Generator(device).manual_seed(int(seed >> np.uint64(1))) for seed in seeds]


def _digest(values: Mapping[str, Tensor] | None) -> str:
    """Of the parameters that a run begins from."""
    return sha256_json({n: v.detach().double().sum().item() for n, v in values.items()}) if values else ""


def _batch(parameters: Parameters, tokens: Mapping[str, list[list[int]]], rows: np.ndarray) -> dict[str, Tensor]:
    return pad({key: [values[i] for i in rows] for key, values in tokens.items()}, parameters.host)


def _keep_best(state: Progress, epoch: int, accuracy: Sequence[float] | np.ndarray) -> None:
    """Members that are better than ever before are remembered."""
    for m, value in enumerate(accuracy):
        if epoch == 0 or value > max(entry["accuracy"][m] for entry in state.history[:-1]):
            state.best_epoch[m] = epoch + 1
            for name, table in state.values.items():
                state.best[name][m] = table[m].detach()
