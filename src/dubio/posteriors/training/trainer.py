"""Training M members at once over one frozen base: a stacked run equals M separate ones.

The loss is the sum of the members' losses, so that no gradient crosses from one to another; AdamW works element by
element; gradients are clipped member by member. Each member sees its own batches: rows of its own permutation (K-fold
adapters: of the rows that are theirs), in an order of lengths that all share, so that padding is rare for all of them.
The base's own dropouts stay off; so what lies below the first adapted block gives each row the same in every epoch, and
runs once.

    loss_m = mean cross-entropy of member m's batch + penalty * sum over layers ||B_m A_m||_F^2    (arXiv 2402.12264)

with ||B A||_F^2 = tr((B'B)(A A')), never formed as a product. The best epoch by validation accuracy is kept, member by
member. A killed run resumes from its last finished epoch.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dubio.adapters.plan import LabelledTexts
from dubio.arrays import Int64
from dubio.errors import DubioError
from dubio.files import sha256_json
from dubio.models.tokens.batching import batches, pad, tokenize
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.hooks import runs_together
from dubio.posteriors.engine.prefix_cache import Trunk, Trunks, sharing_trunks
from dubio.posteriors.engine.stack import AdapterStack, Layout, LowRank
from dubio.posteriors.training.checkpoint import Carried, Progress, read_state, write_state
from dubio.posteriors.training.folds import fold_numbers, rows_of_members
from dubio.posteriors.training.optim import StackPlan, clip, kl_share, optimiser_of, rate_at
from dubio.posteriors.training.parameters import Parameters
from dubio.progress import progress

GROUP = 50  # batches whose rows are sorted by length together

Watcher = Callable[[int, int, Mapping[str, Tensor]], None]  # (epoch from 0, step of it from 1, parameters)


def train_stack(
    parameters: Parameters, train: LabelledTexts, validation: LabelledTexts, plan: StackPlan,
    *, work: Path | None = None, watch: Watcher | None = None, begin: Mapping[str, Tensor] | None = None,
    carried: Carried | None = None,
) -> Progress:  # fmt: skip
    """Trains len(plan.seeds) members; `best` holds each member's parameters at its best epoch.

    work: folder for the state after each epoch, from which a killed run resumes. watch: called after every step;
    carried: what it gathers, kept with the state. begin: parameters to start from instead of the members' own start.
    The seconds of the first epoch hold the reading of what lies below the adapted blocks.
    Raises DubioError where a loss is no number: the run has diverged, and nothing of that epoch is kept.
    """
    run = _Run(parameters, train, plan, {
        "validation": validation.sha256, "begin": _digest(begin), "carried": "" if carried is None else carried.key,
    })  # fmt: skip
    state = run.begin(work, begin, carried)
    total = plan.epochs * run.steps
    with sharing_trunks() as trunks, progress("training", total, "steps", plan.show) as advance:
        start = time.perf_counter()
        alone = run.read_trunks(trunks, validation)
        read = alone if begin is None else time.perf_counter() - start  # what a run before it has read is that one's
        advance(len(state.history) * run.steps)
        for epoch in range(len(state.history), plan.epochs):
            losses, start = torch.zeros(len(plan.seeds)), time.perf_counter()
            for step, loss in enumerate(run.epoch(state.values, epoch), start=1):
                losses += loss
                if watch is not None:
                    watch(epoch, step, state.values)
                advance(1)
            accuracy, nll = validate(parameters, state.values, validation, trunks)
            if not (bool(torch.isfinite(losses).all()) and np.isfinite(nll).all()):
                raise DubioError(f"training diverged in epoch {epoch + 1}: its loss is no number; lower learning_rate")
            state.history.append({
                "train_loss": (losses / run.steps).tolist(), "accuracy": accuracy.tolist(), "nll": nll.tolist(),
                "seconds": round(time.perf_counter() - start + (read if epoch == 0 else 0.0), 2),
            })  # fmt: skip
            _keep_best(state, epoch, accuracy)
            if epoch + 1 in plan.keep:
                state.kept[epoch + 1] = {name: value.detach().clone() for name, value in state.values.items()}
            if work is not None:
                run.save(work, state, carried)
    return state


def validate(
    parameters: Parameters, values: Mapping[str, Tensor], rows: LabelledTexts, trunks: Trunks | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy `[M]` and mean NLL `[M]` (nats) of the members on the same rows; trunks: where their trunk is kept."""
    host = parameters.host
    with torch.no_grad():
        stack = parameters.stack(values)
    engine = StackEngine(host.model, host.site, stack, host.inputs)
    tokens = tokenize(host, rows.texts, rows.pairs)
    trunk = None if trunks is None else trunks.read(engine, host, tokens)
    logits = np.empty((len(stack), len(rows.labels), len(host.labels)), dtype=np.float32)
    for at in batches(np.array([len(ids) for ids in tokens["input_ids"]]), 4096):
        known = None if trunk is None else trunk.of(at)
        logits[:, at] = engine.predict(_batch(parameters, tokens, at), trunk=known).cpu().numpy()
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
        everything = [np.arange(len(train.texts))] * len(plan.seeds)
        self.own = rows_of_members(_folds_of(train, plan), len(plan.seeds)) if plan.folds else everything
        self.rows = min(len(rows) for rows in self.own)  # what folds have more than the others waits for another epoch
        self.steps = -(-self.rows // plan.batch_size)
        self.trunk: Trunk | None = None
        host = parameters.host
        self.key = sha256_json({
            **{name: value for name, value in plan.__dict__.items() if name != "recompute"},
            "show": 0, "train": train.sha256,
            **{f.name: getattr(parameters, f.name) for f in fields(parameters) if f.name != "host"},
            "kind": type(parameters).__name__, "max_length": host.max_length, "labels": list(host.labels),
            "torch": torch.__version__, **host.hashes, **(about or {}),
        })  # fmt: skip

    def read_trunks(self, trunks: Trunks, validation: LabelledTexts) -> float:
        """What enters the first adapted block, once for all epochs and members, where memory allows.

        Returns the seconds that this takes alone: also where another run has read it before.
        """
        host = self.parameters.host
        with torch.no_grad():
            stack = self.parameters.stack({n: v[:1] for n, v in self.parameters.start(self.plan.seeds[:1]).items()})
        engine = StackEngine(host.model, host.site, stack, host.inputs)
        self.trunk = trunks.read(engine, host, self.tokens)
        held = trunks.read(engine, host, tokenize(host, validation.texts, validation.pairs))
        return sum(trunk.seconds for trunk in (self.trunk, held) if trunk is not None)

    def begin(
        self, work: Path | None, start: Mapping[str, Tensor] | None = None, carried: Carried | None = None
    ) -> Progress:
        """From the start, or from the last epoch under `work`."""
        values = dict(start) if start is not None else self.parameters.start(self.plan.seeds)
        values = {name: value.detach().clone() for name, value in values.items()}
        state = Progress(values, {n: v.clone() for n, v in values.items()}, [0] * len(self.plan.seeds))
        moments: dict[str, dict[str, Tensor]] = {}
        if work is not None and self._path(work).exists():
            moments = read_state(self._path(work), state, self.parameters.host.device, carried)
        for value in state.values.values():
            value.requires_grad_(True)
        self.optimiser = optimiser_of(self.plan, state.values, self.parameters.spreads)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._rate)
        with warnings.catch_warnings():  # of a step of the optimiser that came before the kill
            warnings.simplefilter("ignore")
            for _ in range(len(state.history) * self.steps):
                self.schedule.step()
        for name, parts in moments.items():
            self.optimiser.state[state.values[name]] = parts
        return state

    def epoch(self, values: dict[str, Tensor], epoch: int) -> Iterator[Tensor]:
        """One pass over the rows for every member; yields each step's losses `[M]`."""
        plan = self.plan
        for step, chosen in enumerate(self.order(epoch), start=1):
            share = kl_share(plan.kl_schedule, step, self.steps)
            with torch.enable_grad():
                losses = self.losses(values, chosen, epoch)
                if plan.kl_weight and (kl := self.parameters.kl(values)) is not None:
                    losses = losses + plan.kl_weight * share * kl
                losses.sum().backward()
            clip(plan, values)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            if plan.kl_rate:
                self.parameters.descend(values, plan.kl_rate * share * self._rate(epoch * self.steps + step - 1))
            self.schedule.step()
            yield losses.detach().cpu()

    def order(self, epoch: int) -> list[np.ndarray]:
        """Row numbers `[M, n]` of each step: every member's own permutation, lengths in an order that all share."""
        size, rows = self.plan.batch_size, self.rows
        own: list[np.ndarray] = []
        for seed, seen in zip(self.plan.seeds, self.own, strict=True):
            dealt = seen[np.random.default_rng([seed, epoch]).permutation(len(seen))[:rows]]
            groups = [dealt[i : i + GROUP * size] for i in range(0, rows, GROUP * size)]
            own.append(np.concatenate([g[np.argsort(-self.lengths[g], kind="stable")] for g in groups]))
        starts = np.random.default_rng([7, epoch]).permutation(np.arange(0, rows, size))
        return [np.stack([member[i : i + size] for member in own]) for i in starts]

    def losses(self, values: Mapping[str, Tensor], chosen: np.ndarray, epoch: int) -> Tensor:
        """`[M]` losses of the members on their own rows `[M, n]`."""
        host, members = self.parameters.host, len(chosen)
        step = members if runs_together(host.model) else 1
        found: list[Tensor] = []
        generators = self._generators(chosen, epoch)
        whole = self.parameters.sampled(values, generators)
        for first in range(0, members, step):
            part = slice(first, first + step)
            stack, rows = whole.take(part), chosen[part]
            layout = Layout(len(rows), dropout=self.plan.dropout, generators=generators[part])
            engine = StackEngine(host.model, host.site, stack, host.inputs, recompute=self.plan.recompute)
            trunk = None if self.trunk is None else self.trunk.of(rows.ravel())
            batch = _batch(self.parameters, self.tokens, rows.ravel())
            logits = engine.logits(engine.features(batch, layout, True, trunk))
            labels = self.labels[torch.from_numpy(rows)]
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").reshape(rows.shape).mean(1)
            found.append(loss + self.plan.penalty * product_penalty(stack) if self.plan.penalty else loss)
        return torch.cat(found)

    def save(self, work: Path, state: Progress, carried: Carried | None) -> None:
        """The state after an epoch."""
        write_state(self._path(work), state, self.optimiser, carried)

    def _path(self, work: Path) -> Path:
        return work / f"{self.key[:16]}.safetensors"

    def _rate(self, step: int) -> float:
        return rate_at(self.plan, step, self.plan.epochs * self.steps)

    def _generators(self, rows: np.ndarray, epoch: int) -> list[torch.Generator]:
        """Noise of each member by its seed and its own rows, so that neither the others nor a resumption matter."""
        seeds = [
            np.random.SeedSequence([seed, epoch, int(own[0]), int(own[-1])]).generate_state(1, np.uint64)[0]
            for seed, own in zip(self.plan.seeds, rows, strict=True)
        ]
        device = self.parameters.host.device
        return [torch.Generator(device).manual_seed(int(seed >> np.uint64(1))) for seed in seeds]


def _folds_of(train: LabelledTexts, plan: StackPlan) -> Int64:
    return fold_numbers(train.texts, train.pairs, len(plan.seeds))


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
