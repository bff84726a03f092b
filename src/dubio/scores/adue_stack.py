"""Training many AdUE heads side by side: one matrix product for all trials instead of one training run a trial.

A linear head's G copies lie in one `[d, G*C]` matrix, so a step is one `addmm`; a dense head (RoBERTa style) continues
with one batched product a layer; any other module is mapped over its stacked parameters. Adam and the one-cycle
schedule are elementwise, with a learning rate a trial; trials whose epochs are over leave the stack.

In: features, logits and errors of the fitting rows, the head, the trials. Out: U of other rows after every epoch of
every trial, or the trained head of a single trial. A stack equals one-by-one training: same batches, same steps.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dubio.arrays import Float32
from dubio.scores.smoothmax import error_loss, smoothmax_uncertainty, softmax_uncertainty


@dataclass(frozen=True)
class Trial:
    """One point of the grid: peak learning rate, epochs of the schedule, weights of the two regularisers."""

    learning_rate: float
    epochs: int
    alpha: float
    beta: float


@dataclass(frozen=True)
class FitRows:
    """What the heads are fitted on: features `[N, d]`, the adapter's logits `[N, C]`, errors `[N]`, weights `[N]`.

    resample: draw each epoch's rows with replacement in proportion to the weights, instead of weighting the loss.
    """

    features: Tensor
    logits: Tensor
    errors: Tensor
    weights: Tensor
    resample: bool = False


@dataclass(frozen=True)
class Recipe:
    """What all trials share: lambda, the division by 1 - 1/C, batch size and seed of the row order."""

    smoothness: float = 100.0
    scaled: bool = False
    batch_size: int = 128
    seed: int = 42


class StackedHead:
    """G copies of a head as stacked parameters, each `[G, ...]`; `logits` maps `[n, d]` to `[n, G, C]`.

    The first linear layer is kept input-major, `[in, G, out]`, which makes it one `addmm` over all copies.
    """

    def __init__(self, head: nn.Module, copies: int) -> None:
        self.module = copy.deepcopy(head).float().train()
        layers = list(head) if isinstance(head, nn.Sequential) else [head]
        known = (nn.Linear, nn.Dropout, nn.Identity, nn.Tanh, nn.GELU, nn.ReLU, nn.SiLU)
        self.layers = layers if all(isinstance(layer, known) for layer in layers) else None
        self.first = next((i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)), -1)
        self.parameters: dict[str, Tensor] = {}
        prefix = isinstance(head, nn.Sequential)
        self.first_name = f"{self.first}.weight" if prefix else "weight"
        for name, value in self.module.named_parameters():
            start = value.detach().float()
            stacked = start.unsqueeze(0).expand(copies, *start.shape)
            if self.layers is not None and name == self.first_name:
                stacked = stacked.permute(2, 0, 1)
            self.parameters[name] = stacked.clone(memory_format=torch.contiguous_format).requires_grad_()
        self.prefix = prefix

    def trial_dim(self, name: str) -> int:
        """Which dimension of the stacked parameter counts the copies."""
        return 1 if self.layers is not None and name == self.first_name else 0

    def keep(self, copies: Tensor) -> None:
        """Drops all copies but the chosen ones (a LongTensor)."""
        for name, value in self.parameters.items():
            kept = value.detach().index_select(self.trial_dim(name), copies)
            self.parameters[name] = kept.contiguous().requires_grad_()

    def logits(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """`[n, G, C]`; dropout is active exactly when a generator is given."""
        if self.layers is None:
            return self._mapped(features, generator is not None)
        out = features
        for i, layer in enumerate(self.layers):
            name = f"{i}." if self.prefix else ""
            if isinstance(layer, nn.Linear):
                out = self._linear(out, name, i == self.first)
            elif isinstance(layer, nn.Dropout):
                if generator is not None and layer.p > 0:
                    keep = torch.rand(out.shape, generator=generator) >= layer.p
                    out = out * keep / (1 - layer.p)
            else:
                out = layer(out)
        return out

    def _linear(self, x: Tensor, name: str, first: bool) -> Tensor:
        weight, bias = self.parameters[f"{name}weight"], self.parameters.get(f"{name}bias")
        if first:
            size, copies, width = weight.shape
            flat = weight.view(size, copies * width)
            out = x @ flat if bias is None else torch.addmm(bias.view(-1), x, flat)
            return out.view(-1, copies, width)
        rows = x.transpose(0, 1)
        out = rows @ weight.transpose(1, 2) if bias is None else torch.baddbmm(bias[:, None], rows, weight.mT)
        return out.transpose(0, 1)

    def _mapped(self, features: Tensor, training: bool) -> Tensor:
        self.module.train(training)
        run = vmap(
            lambda parameters: functional_call(self.module, parameters, (features,)), randomness="different"
        )
        return run(self.parameters).transpose(0, 1)

    def single(self) -> dict[str, Tensor]:
        """The parameters of the only copy, in the head's own shapes."""
        return {
            name: (value[:, 0].T if self.trial_dim(name) else value[0]).detach().contiguous()
            for name, value in self.parameters.items()
        }


def one_cycle(step: Tensor, total: Tensor, peak: Tensor) -> Tensor:
    """Learning rate `[G]` at `step` of `total`: cosine from peak/25 up over 10 %, then down to peak/25e4.

    Matches torch.optim.lr_scheduler.OneCycleLR(pct_start=0.1) with its default divisors (METHODS 1b).
    """
    top = 0.1 * total - 1
    top = torch.where(top == 0, 1e-9, top)  # ten steps: the first is the top already
    up, down = step / top, (step - top) / (total - 1 - top)
    start, end = peak / 25, peak / 25e4
    rising = peak + (start - peak) / 2 * (1 + torch.cos(math.pi * up))
    falling = end + (peak - end) / 2 * (1 + torch.cos(math.pi * down))
    return torch.where(step <= top, rising, falling)


class _Adam:
    """Adam without decay over stacked parameters, one learning rate a copy (Kingma & Ba 2015, defaults)."""

    def __init__(self, head: StackedHead) -> None:
        self.head, self.steps = head, 0
        self.first = {name: torch.zeros_like(p) for name, p in head.parameters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in head.parameters.items()}

    def keep(self, copies: Tensor) -> None:
        for moments in (self.first, self.second):
            for name, value in moments.items():
                moments[name] = value.index_select(self.head.trial_dim(name), copies)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Tensor) -> None:
        self.steps += 1
        correction = math.sqrt(1 - 0.999**self.steps)
        rates = rates / (1 - 0.9**self.steps)
        for (name, parameter), gradient in zip(self.head.parameters.items(), gradients, strict=True):
            shape = [1] * parameter.dim()
            shape[self.head.trial_dim(name)] = -1
            mean = self.first[name].lerp_(gradient, 0.1)
            square = self.second[name].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            scale = square.sqrt().div_(correction).add_(1e-8)
            parameter.sub_(mean.mul(rates.view(shape).float()).div_(scale))


def train_stack(
    head: nn.Module, rows: FitRows, trials: Sequence[Trial], recipe: Recipe, watch: Tensor | None = None,
    stop: int | None = None,
) -> tuple[dict[tuple[int, int], Float32], StackedHead]:  # fmt: skip
    """Trains one head a trial, all at once, and watches rows `watch` `[M, d]` after every epoch.

    Returns ({(trial index, epochs done): U `[M]`}, the stack as it stands at the end: the trials with most epochs).
    stop: leave after this many epochs, on the unchanged schedule (early stopping of a chosen trial).
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    stack = StackedHead(head, len(trials))
    adam = _Adam(stack)
    start = {name: p.detach().clone() for name, p in stack.parameters.items()}
    batches = math.ceil(len(rows.features) / recipe.batch_size)
    alive = torch.arange(len(trials))
    alpha, beta, peak, epochs = (
        torch.tensor([getattr(t, key) for t in trials], dtype=torch.float64)
        for key in ("alpha", "beta", "learning_rate", "epochs")
    )
    base = softmax_uncertainty(rows.logits) / ((1 - 1 / rows.logits.shape[1]) if recipe.scaled else 1.0)
    seen: dict[tuple[int, int], Float32] = {}
    last = int(epochs.max()) if stop is None else min(stop, int(epochs.max()))
    for epoch in range(last):
        if bool((epochs[alive] <= epoch).any()):
            kept = torch.nonzero(epochs[alive] > epoch).squeeze(1)
            alive = alive[kept]
            stack.keep(kept)
            adam.keep(kept)
            start = {name: p.index_select(stack.trial_dim(name), kept) for name, p in start.items()}
        order = _order(rows, generator)
        for batch in range(batches):
            chosen = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
            gradients = _gradients(stack, start, rows, chosen, base, (alpha[alive], beta[alive], recipe, generator))
            at = torch.tensor(epoch * batches + batch, dtype=torch.float64)
            adam.step(gradients, one_cycle(at, epochs[alive] * batches, peak[alive]))
        if watch is not None:
            for index, u in zip(alive.tolist(), uncertainty(stack, watch, recipe), strict=True):
                seen[index, epoch + 1] = u
    return seen, stack


def uncertainty(stack: StackedHead, features: Tensor, recipe: Recipe, chunk: int = 8192) -> NDArray[np.float32]:
    """U `[G, M]` of rows `[M, d]` under every head of the stack, dropout off."""
    with torch.no_grad():
        parts = [
            smoothmax_uncertainty(stack.logits(part), recipe.smoothness, recipe.scaled)
            for part in features.split(chunk)
        ]
    return torch.cat(parts).T.contiguous().numpy()


def _order(rows: FitRows, generator: torch.Generator) -> Tensor:
    if rows.resample:
        return torch.multinomial(rows.weights.double(), len(rows.features), replacement=True, generator=generator)
    return torch.randperm(len(rows.features), generator=generator)


def _gradients(
    stack: StackedHead, start: dict[str, Tensor], rows: FitRows, chosen: Tensor, base: Tensor, settings: Any
) -> Sequence[Tensor]:
    """Gradient of BCE + alpha MSE to softmax response + beta squared distance to the start, a trial each."""
    alpha, beta, recipe, generator = settings
    logits = stack.logits(rows.features[chosen], generator)
    u = smoothmax_uncertainty(logits, recipe.smoothness, recipe.scaled)
    weights = torch.ones(len(chosen)) if rows.resample else rows.weights[chosen]
    bce = error_loss(u, rows.errors[chosen], weights)
    reg = ((u - base[chosen, None]) ** 2).mean(dim=0)
    # Trials share no parameter, so the gradient of the sum is each trial's own gradient.
    gradients = torch.autograd.grad((bce + alpha.float() * reg).sum(), list(stack.parameters.values()))
    out: list[Tensor] = []
    for (name, parameter), gradient in zip(stack.parameters.items(), gradients, strict=True):
        shape = [1] * parameter.dim()
        shape[stack.trial_dim(name)] = -1
        pull = (parameter.detach() - start[name]).mul_(2 * beta.float().view(shape))
        out.append(gradient + pull)
    return out
