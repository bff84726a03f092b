"""Laplace over LoRA: a Gaussian over every A and B around a trained adapter, from the curvature on its training rows.

    precision = sum_n J_n' (diag p_n - p_n p_n') J_n + tau I,      J_n: Jacobian of row n's logits; block by block

A block is one A `[r, w]` or one B' `[r, w]`. With J_nc `[r, w]` the gradient of sqrt(p_nc) (f_nc - sum_k p_nk f_nk), a
column of the square root, back-propagated for each row and class (exact, C passes back):

    diag:  sum J_nc^2            kron:  G x H / trace,   G = sum J_nc J_nc' [r, r],   H = sum J_nc' J_nc [w, w]

Of H, `rank` directions are kept, and what they leave of its trace is spread evenly over the others. A row's tokens
share A and B, and J_nc sums over them; the paper's K-FAC multiplies covariances of tokens instead, as if they were rows
of their own, and gives the other directions no curvature. Both are exact for one row of one token.
tau, the prior precision, maximises the marginal likelihood, or minimises the NLL of held-out rows.

Samples are draws of A and B. The paper predicts by the linearised network, f + J (theta - mean), which stays near the
adapter; a draw of the weights themselves underfits where the posterior is wide: then choose tau by held-out rows. The
head stays a point (see `laplace`). Paper: Yang et al. 2024 (arXiv 2308.13111). Cost: C passes back over train.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from dubio.adapters.training import LabelledTexts
from dubio.arrays import Float64
from dubio.errors import DubioError
from dubio.models.extraction import batches, pad, tokenize
from dubio.models.loading import AdaptedModel
from dubio.posteriors.base import Posterior, generator, shared
from dubio.posteriors.engine import StackEngine, runs_together
from dubio.posteriors.laplace import best_precision
from dubio.posteriors.stack import Layout

LoraStructure = Literal["kron", "diag"]
RANK = 10  # directions of the wide side that are kept, as in the paper
_SPARE = 10  # more of them while rows are gathered, so that truncation does not eat into those
_ROWS = 16  # rows whose Jacobians are held at once


class LaplaceLora(Posterior):
    """tensors: `mean|NAME` `[1, ...]`; of each A and B (transposed), by name: `values|` `[r, w]` for diag, or the
    factors `small|` `[r, r]`, `small_values|` `[r]`, `wide|` `[k, w]`, `wide_values|` `[k]` and `rest|` `[1]` for kron.

    facts: structure, tau, rows.
    """

    kind: ClassVar[str] = "laplace_lora"

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Draws of every A and B; the head is shared."""
        values, tau = shared(self.part("mean"), samples), float(self.fact("tau"))
        if not tau > 0:
            raise DubioError(f"the prior precision must be positive, not {tau}")
        for at, name in enumerate(_names(values)):
            wide = _wide(name, values[name])
            eps = torch.randn(wide.shape, generator=generator(seed, at))
            values[name] = values[name] + _wide(name, self._coloured(name, eps, tau))
        return values

    def spectrum(self) -> Float64:
        """Eigenvalues of the curvature, one for each number in A and B."""
        found: list[Float64] = []
        for name in _names(self.part("mean")):
            if self.fact("structure") == "diag":
                found.append(self.tensors[f"values|{name}"].double().numpy().ravel())
            else:
                wide, rest = self.tensors[f"wide|{name}"], float(self.tensors[f"rest|{name}"])
                values = self.tensors[f"wide_values|{name}"].double().numpy()
                values = np.concatenate([values, np.full(wide.shape[1] - len(values), rest)])
                found.append(np.outer(self.tensors[f"small_values|{name}"].double().numpy(), values).ravel())
        return np.concatenate(found)

    def searched(self, nll: Callable[["LaplaceLora"], float]) -> "LaplaceLora":
        """With the tau in 1e1 ... 1e7 of the least `nll` (of the samples' mean prediction on held-out rows)."""
        trail: dict[float, float] = {}
        for steps in ((1, 2, 3, 4, 5, 6, 7), (-0.5, 0.5)):
            middle = 0.0 if not trail else min(trail, key=lambda power: trail[power])
            for power in (middle + step for step in steps):
                trail[power] = nll(self.with_facts(tau=10.0**power))
        best = min(trail, key=lambda power: trail[power])
        return self.with_facts(tau=10.0**best, search=[[10.0**power, found] for power, found in sorted(trail.items())])

    def _coloured(self, name: str, eps: Tensor, tau: float) -> Tensor:
        """`[S, r, w]` noise with the block's covariance from standard normal noise."""
        if self.fact("structure") == "diag":
            return eps / (self.tensors[f"values|{name}"] + tau).sqrt()
        parts = ("small", "small_values", "wide", "wide_values", "rest")
        small, small_values, wide, wide_values, rest = (self.tensors[f"{part}|{name}"] for part in parts)
        inside = eps @ wide.t()
        others = (eps - inside @ wide) / (small_values * rest + tau).sqrt()[:, None]
        return small @ (inside / (small_values[:, None] * wide_values + tau).sqrt() @ wide + others)


def fit_laplace_lora(
    engine: StackEngine, host: AdaptedModel, rows: LabelledTexts, *, structure: LoraStructure = "kron",
    rank: int = RANK, tau: float | None = None,
) -> LaplaceLora:  # fmt: skip
    """From a stack of one and its training rows. tau: the prior precision; None: by the marginal likelihood.

    Raises DubioError where the stack is not of one adapter, or adapts nothing by A and B.
    """
    values = engine.stack.tensors()
    if len(engine.stack) != 1 or not _names(values):
        raise DubioError("Laplace over LoRA needs one adapter with A and B")
    blocks = {name: _Block(rank) for name in _names(values)}
    tokens = tokenize(host, rows.texts, rows.pairs)
    lengths, fit = np.array([len(ids) for ids in tokens["input_ids"]]), 0.0
    step = _ROWS if runs_together(host.model) else 1
    for batch in batches(lengths, 2048):
        for at in (batch[i : i + step] for i in range(0, len(batch), step)):
            padded = pad({key: [ids[i] for i in at] for key, ids in tokens.items()}, host)
            log_p, columns = row_jacobians(engine, padded)
            fit += float(log_p[range(len(at)), rows.labels[at]].sum())
            for name, block in blocks.items():
                block.add(columns[name], structure)
    tensors = {f"mean|{name}": value.cpu() for name, value in values.items()}
    for name, block in blocks.items():
        tensors |= {f"{part}|{name}": value for part, value in block.tensors(structure).items()}
    found = LaplaceLora(tensors, {"structure": structure, "tau": tau, "rows": len(lengths)})
    if tau is None:
        square = float(sum(values[name].double().pow(2).sum() for name in blocks))
        found = found.with_facts(tau=best_precision(found.spectrum(), square, fit))
    return found


def row_jacobians(engine: StackEngine, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """(log-probabilities `[n, C]`, J_nc by name of A or B `[C, n, r, w]`) of a padded batch of n rows.

    Each row meets a copy of the adapter of its own, so that one pass back gives every row's gradient apart.
    """
    rows = len(batch["attention_mask"])
    values = {name: value.expand(rows, *value.shape[1:]) for name, value in engine.stack.tensors().items()}
    leaves = {name: values[name].detach().clone().requires_grad_(True) for name in _names(values)}
    own = replace(engine, stack=engine.stack.with_tensors({**values, **leaves}))
    found: dict[str, list[Tensor]] = {name: [] for name in leaves}
    with torch.enable_grad():
        logits = own.logits(own.features(batch, Layout(rows), own_rows=True))[:, 0]
        log_p = torch.log_softmax(logits.detach().double(), dim=1)
        p = log_p.exp()
        for c in range(p.shape[1]):
            column = -p * p[:, c : c + 1].sqrt()
            column[:, c] += p[:, c].sqrt()
            grads = torch.autograd.grad(
                (column.to(logits) * logits).sum(), list(leaves.values()), retain_graph=c + 1 < p.shape[1]
            )
            for name, grad in zip(leaves, grads, strict=True):
                found[name].append(_wide(name, grad))
    return log_p.cpu(), {name: torch.stack(columns) for name, columns in found.items()}


@dataclass
class _Block:
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
            self.wide = _shortened(rows if self.wide is None else torch.cat([self.wide, rows]), self.rank + _SPARE)

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


def _shortened(rows: Tensor, rank: int) -> Tensor:
    """At most `rank` rows `[k, w]` of nearly the same Gram matrix `rows' rows`: its leading directions."""
    if len(rows) <= rank:
        return rows
    if rank >= min(rows.shape):
        return torch.linalg.qr(rows, mode="r").R
    with torch.random.fork_rng(devices=[]):  # a seed of its own: the same rows give the same factors
        torch.manual_seed(0)
        _, s, v = torch.svd_lowrank(rows, rank, niter=2)
    return s[:, None] * v.t()


def _names(values: Mapping[str, Tensor]) -> list[str]:
    """Of the A's and B's, in their own order."""
    return [name for name in values if name.startswith("layer/") and name.endswith((".a", ".b"))]


def _wide(name: str, value: Tensor) -> Tensor:
    """A as it is, B transposed, and back: `[..., r, w]`."""
    return value.transpose(-1, -2) if name.endswith(".b") else value
