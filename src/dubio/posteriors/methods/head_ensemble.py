"""A deep ensemble of heads on one adapter's features: the cheap cousin of an ensemble of adapters.

    p(y | x) = (1/M) sum_m softmax h_m(z(x)),     z: features of the adapter, h_m: heads trained apart

Each head has a start and a bootstrap sample of the rows of its own (N draws with replacement), and is kept as it was
at the epoch of its least NLL on the rows that it did not draw, about 37 % of them. The body is one, so all samples cost
one pass, and nothing below the head can disagree: what the features do not tell, no head doubts.

Papers: Lakshminarayanan et al. 2017 (arXiv 1612.01474); bootstrap, Breiman 1996. On features that the adapter has
memorised heads grow too sure: rows that it was not trained on are better. Cost: seconds; M heads to keep; one pass.
"""

import copy
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from dubio.arrays import Float32, Int64
from dubio.errors import DubioError
from dubio.posteriors.base import shared
from dubio.posteriors.methods.ensemble import Ensemble

EPOCHS, PATIENCE, BATCH, RATE, DECAY = 200, 15, 64, 1e-2, 1e-2


class HeadEnsemble(Ensemble):
    """tensors: the body's parameters, `mean|NAME` `[1, ...]`, and the heads', `member|head/NAME` `[M, ...]`."""

    kind: ClassVar[str] = "heads"

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """The first `samples` heads on one body; raises DubioError where there are fewer."""
        return shared(self.part("mean"), samples) | super().draw(samples, seed)


def fit_heads(
    values: Mapping[str, Tensor], head: nn.Sequential, features: Float32, labels: Int64,
    *, members: int = 10, seed: int = 0,
) -> HeadEnsemble:  # fmt: skip
    """From an adapter's parameters `[1, ...]`, its head, and features `[N, d]` and labels `[N]` of labelled rows.

    Raises DubioError where the rows are too few to leave some out, or fewer than two members are asked for.
    """
    if members < 2:
        raise DubioError(f"an ensemble needs at least 2 heads, not {members}")
    if len(features) < 20:
        raise DubioError(f"{len(features)} rows are too few to train heads on; give hundreds")
    g = np.random.default_rng(seed)
    drawn = g.integers(0, len(features), (members, len(features)))
    out = np.ones((members, len(features)), dtype=np.bool_)
    out[np.arange(members)[:, None], drawn] = False
    parameters = _starts(head, members, seed)
    table = torch.from_numpy(np.array(features)), torch.from_numpy(np.array(labels))
    best, epochs = _train(parameters, head, table, drawn, out)
    body = {f"mean|{name}": value for name, value in values.items() if not name.startswith("head/")}
    heads = {f"member|head/{name}": value for name, value in best.items()}
    facts = {"rows": len(features), "members": members, "best_epoch": epochs.tolist()}
    return HeadEnsemble({**body, **heads}, facts)


def _starts(head: nn.Sequential, members: int, seed: int) -> dict[str, Tensor]:
    """`[M, ...]` parameters of fresh heads, as torch starts such layers."""
    found: list[dict[str, Tensor]] = []
    with torch.random.fork_rng(devices=[]):
        for member in range(members):
            torch.manual_seed(1_000_003 * seed + member)
            fresh = copy.deepcopy(head)
            for layer in fresh.modules():
                if isinstance(layer, nn.Linear | nn.LayerNorm):
                    layer.reset_parameters()
            found.append({name: value.detach() for name, value in fresh.state_dict().items()})
    return {name: torch.stack([one[name] for one in found]) for name in found[0]}


def _train(
    parameters: dict[str, Tensor], head: nn.Sequential, table: tuple[Tensor, Tensor], drawn: Int64, out: np.ndarray
) -> tuple[dict[str, Tensor], np.ndarray]:  # fmt: skip
    """(each head at its best epoch, those epochs from 1): all heads side by side, no gradient between them."""
    features, labels = table
    members, rows = drawn.shape
    run = vmap(lambda own, z: functional_call(head, own, (z,)))
    every = vmap(lambda own: functional_call(head, own, (features,)))
    left_out, g = torch.from_numpy(out), np.random.default_rng(rows)
    for value in parameters.values():
        value.requires_grad_(True)
    optimiser = torch.optim.AdamW(parameters.values(), lr=RATE, weight_decay=DECAY)
    lowest, epochs = torch.full((members,), torch.inf), np.zeros(members, dtype=np.int64)
    best = {name: value.detach().clone() for name, value in parameters.items()}
    for epoch in range(1, EPOCHS + 1):
        order = np.stack([own[g.permutation(rows)] for own in drawn])
        for start in range(0, rows, BATCH):
            at = torch.from_numpy(order[:, start : start + BATCH])
            with torch.enable_grad():
                logits = run(parameters, features[at])
                cross_entropy(logits.flatten(0, 1), labels[at].flatten(), reduction="sum").div(at.shape[1]).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            nll = cross_entropy(every(parameters).transpose(1, 2), labels.expand(members, -1), reduction="none")
            mean = (nll * left_out).sum(dim=1) / left_out.sum(dim=1)
        better = mean < lowest
        lowest = torch.where(better, mean, lowest)
        epochs[better.numpy()] = epoch
        for name, value in parameters.items():
            best[name][better] = value.detach()[better]
        if epoch - epochs.max() >= PATIENCE:  # no head has improved for as long
            break
    return best, epochs
