"""How a stacked run is optimised: its settings, AdamW over the members' parameters, its schedule, clipping by member.

A posterior that is trained has a divergence KL(q || prior) besides the cross-entropy. It can be part of the loss, or be
descended apart after each step of AdamW (as BLoB's authors do, by SGD), which has no state to keep:

    loss_m = mean cross-entropy + kl_weight * w_i KL_m,          theta <- theta - kl_rate * schedule * w_i grad KL_m

w_i, the weight of mini-batch i = 1..M of an epoch: `blundell` 2^i / (2^(M + 1) - 1) (as BLoB prints it, later batches
weigh more; Blundell et al. 2015, arXiv 1505.05424, have it the other way round), `constant` 1 / M, `each` 1.
The evidence lower bound is `constant` with kl_weight 1 / batch_size; a smaller weight is a tempered posterior.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

KL_SCHEDULES = ("blundell", "constant", "each")


@dataclass(frozen=True)
class StackPlan:
    """Settings of a stacked run. seeds: one a member. folds: whether member m leaves out fold m of the rows.

    penalty: weight of ||BA||^2. decay_b: of B alone (else of all).
    constant: no decay of the learning rate. keep: epochs (from 1) after which the members are kept as well.
    recompute: less memory for a second forward pass, see `gradient_checkpointing`.
    kl_weight, kl_rate, kl_schedule: see above; idle where the parameters have no divergence, or no descent.
    """

    seeds: tuple[int, ...] = (0,)
    folds: bool = False
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
    recompute: bool = False
    kl_weight: float = 0.0
    kl_rate: float = 0.0
    kl_schedule: str = "constant"
    show: bool = True


def rate_at(plan: StackPlan, step: int, total: int) -> float:
    """Linear warm-up, then linear decay to 0, or no decay."""
    warm = int(np.ceil(plan.warmup * total))
    if step < warm:
        return step / max(1, warm)
    return 1.0 if plan.constant else max(0.0, (total - step) / max(1, total - warm))


def kl_share(schedule: str, step: int, steps: int) -> float:
    """w_i of step i = 1..M of an epoch."""
    if schedule == "blundell":
        return 2.0 ** (step - steps - 1) / (1 - 2.0 ** -(steps + 1))
    return 1.0 / steps if schedule == "constant" else 1.0


def optimiser_of(plan: StackPlan, values: Mapping[str, Tensor], spreads: tuple[str, ...] = ()) -> torch.optim.AdamW:
    """AdamW, element by element; biases, norms and what ends in one of `spreads` do not decay."""
    groups: list[dict[str, Any]] = []
    for name, value in values.items():
        own = plan.weight_decay if plan.decay_b is None else plan.decay_b if name.endswith(".b") else 0.0
        free = value.dim() < 3 or name.endswith(spreads)  # biases and norms of members side by side
        rate = plan.head_learning_rate if name.startswith("head/") and plan.head_learning_rate else None
        groups.append({"params": [value], "weight_decay": 0.0 if free else own, "lr": rate or plan.learning_rate})
    return torch.optim.AdamW(groups, lr=plan.learning_rate, foreach=False)


def clip(plan: StackPlan, values: Mapping[str, Tensor]) -> None:
    """Cuts each member's whole gradient down to a norm of `plan.clip`."""
    grads = [value.grad for value in values.values() if value.grad is not None]
    norms = torch.stack([g.flatten(1).pow(2).sum(dim=1) for g in grads]).sum(dim=0).sqrt()
    factor = (plan.clip / (norms + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(factor.reshape(-1, *[1] * (g.dim() - 1)))
