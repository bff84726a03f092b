"""Training many AdUE heads side by side: one matrix product for all trials instead of one training run a trial.

Adam and the one-cycle schedule are elementwise over the stacked parameters, with a learning rate a trial; trials whose
epochs are over leave the stack. A stack equals one-by-one training: same batches, same steps.

In: features, logits and errors of the fitting rows, the head, the trials. Out: U of other rows after every epoch of
every trial, and the trained heads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dubio.arrays import Float32
from dubio.scores.learned.smoothmax import entropy_uncertainty, loss_slope, smoothmax_uncertainty, softmax_uncertainty
from dubio.scores.learned.stacked_head import StackedHead


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
    """What all trials share: lambda (None: entropy in SmoothMax's place), the division by 1 - 1/C, batch size, seed."""

    smoothness: float | None = 100.0
    scaled: bool = False
    batch_size: int = 128
    seed: int = 42


def one_cycle(step: Tensor, total: Tensor, peak: Tensor) -> Tensor:
    """Learning rate `[G]` at `step` of `total`: cosine from peak/25 up over 10 %, then down to peak/25e4.

    Matches torch.optim.lr_scheduler.OneCycleLR(pct_start=0.1) with its default divisors.
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
                moments[name] = value.index_select(self.head.copy_dim(name), copies)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Tensor) -> None:
        self.steps += 1
        correction = math.sqrt(1 - 0.999**self.steps)
        rates = -rates / (1 - 0.9**self.steps)
        for (name, parameter), gradient in zip(self.head.parameters.items(), gradients, strict=True):
            mean = self.first[name].lerp_(gradient, 0.1)
            square = self.second[name].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            scale = square.sqrt().div_(correction).add_(1e-8)
            parameter.addcdiv_(mean * self.head.shaped(rates, name), scale)


@dataclass
class _Anchored:
    """The stack with what its regularisers refer to: starting weights, and alpha and beta `[G]` of each copy."""

    stack: StackedHead
    start: dict[str, Tensor]
    alpha: Tensor
    beta: Tensor

    def keep(self, copies: Tensor) -> None:
        self.start = {n: p.index_select(self.stack.copy_dim(n), copies) for n, p in self.start.items()}
        self.alpha, self.beta = self.alpha[copies], self.beta[copies]
        self.stack.keep(copies)

    def gradients(self, features: Tensor, target: tuple[Tensor, Tensor, Tensor], recipe: Recipe, generator: Any) -> Any:
        """Of BCE + alpha MSE to softmax response + beta squared distance to the start, a copy each."""
        logits = self.stack.logits(features, generator)
        slope = loss_slope(logits.detach(), target, self.alpha.float(), recipe.smoothness, recipe.scaled)
        gradients = self.stack.gradients(features, logits, slope)
        for (name, p), gradient in zip(self.stack.parameters.items(), gradients, strict=True):
            yield (p.detach() - self.start[name]).mul_(self.stack.shaped(2 * self.beta, name)).add_(gradient)


def train_stack(
    head: nn.Module, rows: FitRows, trials: Sequence[Trial], recipe: Recipe, watch: Tensor | None = None,
    stop: int | None = None,
) -> tuple[dict[tuple[int, int], Float32], StackedHead]:  # fmt: skip
    """Trains one head a trial, all at once, and watches rows `watch` `[M, d]` after every epoch.

    Returns ({(trial index, epochs done): U `[M]`}, the stack as it stands at the end: the trials with most epochs).
    stop: leave after this many epochs, on the unchanged schedule (early stopping of a chosen trial).
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    alpha, beta, peak, epochs = (
        torch.tensor([getattr(t, key) for t in trials], dtype=torch.float64)
        for key in ("alpha", "beta", "learning_rate", "epochs")
    )
    stack = StackedHead(head, len(trials))
    anchored = _Anchored(stack, {n: p.detach().clone() for n, p in stack.parameters.items()}, alpha, beta)
    adam, alive = _Adam(stack), torch.arange(len(trials))
    batches = math.ceil(len(rows.features) / recipe.batch_size)
    base = softmax_uncertainty(rows.logits) / ((1 - 1 / rows.logits.shape[1]) if recipe.scaled else 1.0)
    weights = torch.ones(len(base)) if rows.resample else rows.weights
    seen: dict[tuple[int, int], Float32] = {}
    for epoch in range(int(epochs.max()) if stop is None else min(stop, int(epochs.max()))):
        if bool((epochs[alive] <= epoch).any()):
            kept = torch.nonzero(epochs[alive] > epoch).squeeze(1)
            alive = alive[kept]
            adam.keep(kept)
            anchored.keep(kept)
        for batch, chosen in enumerate(_order(rows, generator).split(recipe.batch_size)):
            target = (rows.errors[chosen], base[chosen], weights[chosen])
            gradients = anchored.gradients(rows.features[chosen], target, recipe, generator)
            at = torch.tensor(epoch * batches + batch, dtype=torch.float64)
            adam.step(list(gradients), one_cycle(at, epochs[alive] * batches, peak[alive]))
        if watch is not None:
            for index, u in zip(alive.tolist(), uncertainty(stack, watch, recipe), strict=True):
                seen[index, epoch + 1] = u
    return seen, stack


def uncertainty_of(logits: Tensor, recipe: Recipe) -> Tensor:
    """`[...]` U of logits `[..., C]`."""
    if recipe.smoothness is None:
        return entropy_uncertainty(logits)
    return smoothmax_uncertainty(logits, recipe.smoothness, recipe.scaled)


def uncertainty(stack: StackedHead, features: Tensor, recipe: Recipe, chunk: int = 8192) -> NDArray[np.float32]:
    """U `[G, M]` of rows `[M, d]` under every head of the stack, dropout off."""
    with torch.no_grad():
        parts = [uncertainty_of(stack.logits(part).transpose(1, 2), recipe) for part in features.split(chunk)]
    return torch.cat(parts).T.contiguous().numpy()


def _order(rows: FitRows, generator: torch.Generator) -> Tensor:
    if rows.resample:
        return torch.multinomial(rows.weights.double(), len(rows.features), replacement=True, generator=generator)
    return torch.randperm(len(rows.features), generator=generator)
