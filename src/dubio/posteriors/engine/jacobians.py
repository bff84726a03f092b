"""The curvature of one adapter by blocks, as rows come in: exact Jacobians of each row, a diagonal or two factors.

A block is one A `[r, w]` or one B' `[r, w]`. What they mean is said in `laplace_lora`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.stack import Layout

LoraStructure = Literal["kron", "diag"]
ROWS, TOKENS = 16, 2048  # that meet copies of the adapter at once, with the graph of their pass
_SPARE = 10  # directions besides those to be kept, while rows are gathered, so that truncation does not eat into them


def on_own_copies(
    engine: StackEngine, batch: Mapping[str, Tensor], trunk: Tensor | None = None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(features `[n, d]`, logits `[n, C]` with their graph, leaves by name of A or B `[n, ...]`) of a padded batch.

    Each row meets a copy of the engine's one adapter of its own, so that one pass back gives each row's gradient apart.
    """
    rows = len(batch["attention_mask"])
    values = {name: value.expand(rows, *value.shape[1:]) for name, value in engine.stack.tensors().items()}
    leaves = {name: values[name].detach().clone().requires_grad_(True) for name in names_of(values)}
    own = replace(engine, stack=engine.stack.with_tensors({**values, **leaves}))
    with torch.enable_grad():
        features = own.features(batch, Layout(rows), own_rows=True, trunk=trunk)
        return features[:, 0].detach(), own.logits(features)[:, 0], leaves


def row_jacobians(engine: StackEngine, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """(log-probabilities `[n, C]`, J_nc by name of A or B `[C, n, r, w]`) of a padded batch of n rows."""
    _, logits, leaves = on_own_copies(engine, batch)
    log_p = torch.log_softmax(logits.detach().double(), dim=1)
    p = log_p.exp()
    found: dict[str, list[Tensor]] = {name: [] for name in leaves}
    for c in range(p.shape[1]):
        column = -p * p[:, c : c + 1].sqrt()
        column[:, c] += p[:, c].sqrt()
        for name, grad in row_gradients(logits, column.to(logits), leaves, more=c + 1 < p.shape[1]).items():
            found[name].append(grad)
    return log_p.cpu(), {name: torch.stack(columns) for name, columns in found.items()}


def row_gradients(logits: Tensor, column: Tensor, leaves: Mapping[str, Tensor], *, more: bool) -> dict[str, Tensor]:
    """Each row's gradient `[n, r, w]` of its `column . logits` by each A and B; more: the graph is needed again."""
    with torch.enable_grad():
        grads = torch.autograd.grad((column * logits).sum(), list(leaves.values()), retain_graph=more)
    return {name: wide_of(name, grad) for name, grad in zip(leaves, grads, strict=True)}


@dataclass
class Block:
    """The curvature of one A or B' `[r, w]` as rows come in."""

    rank: int
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))
    small: Tensor = field(default_factory=lambda: torch.zeros(()))
    wide: Tensor | None = None

    def add(self, columns: Tensor, structure: LoraStructure) -> None:
        """J `[C, n, r, w]`."""
        flat = columns.flatten(0, 1)
        self.squares = self.squares + flat.double().pow(2).sum(dim=0).cpu()
        if structure == "kron":
            self.small = self.small + torch.einsum("nrw,nsw->rs", flat.double(), flat.double()).cpu()
            rows = flat.flatten(0, 1).cpu()
            self.wide = shortened(rows if self.wide is None else torch.cat([self.wide, rows]), self.rank + _SPARE)

    def tensors(self, structure: LoraStructure) -> dict[str, Tensor]:
        """As `LaplaceLora` keeps them."""
        if structure == "diag" or self.wide is None:
            return {"values": self.squares.float()}
        trace, width = float(self.squares.sum()), self.wide.shape[1]
        values, vectors = torch.linalg.eigh(self.small / max(trace, torch.finfo(torch.float32).tiny))
        _, s, v = torch.linalg.svd(self.wide.double(), full_matrices=False)
        kept = min(self.rank, len(s))
        rest = max(0.0, trace - float((s[:kept] ** 2).sum())) / max(1, width - kept)
        tensors = {"small": vectors, "small_values": values.clamp(min=0), "wide": v[:kept],
                   "wide_values": s[:kept] ** 2, "rest": torch.tensor([rest])}  # fmt: skip
        return {name: value.float().contiguous() for name, value in tensors.items()}


def shortened(rows: Tensor, rank: int) -> Tensor:
    """At most `rank` rows `[k, w]` of nearly the same Gram matrix `rows' rows`: its leading directions."""
    if len(rows) <= rank:
        return rows
    if rank >= min(rows.shape):
        return torch.linalg.qr(rows, mode="r").R
    with torch.random.fork_rng(devices=[]):  # a seed of its own: the same rows give the same factors
        torch.manual_seed(0)
        _, s, v = torch.svd_lowrank(rows, rank, niter=2)
    return s[:, None] * v.t()


def names_of(values: Mapping[str, Tensor]) -> list[str]:
    """Of the A's and B's, in their own order."""
    return [name for name in values if name.startswith("layer/") and name.endswith((".a", ".b"))]


def wide_of(name: str, value: Tensor) -> Tensor:
    """A as it is, B transposed, and back: `[..., r, w]`."""
    return value.transpose(-1, -2) if name.endswith(".b") else value
