"""Laplace over LoRA: a Gaussian over every A and B around a trained adapter, from the curvature on its training rows.

    precision = sum_n J_n' (diag p_n - p_n p_n') J_n + tau I,      J_n: Jacobian of row n's logits; block by block

A block is one A `[r, w]` or one B' `[r, w]`. With J_nc `[r, w]` the gradient of sqrt(p_nc) (f_nc - sum_k p_nk f_nk), a
column of the square root, back-propagated for each row and class (exact, C passes back):

    diag:  sum J_nc^2            kron:  G x H / trace,   G = sum J_nc J_nc' [r, r],   H = sum J_nc' J_nc [w, w]

Of H, `rank` directions are kept, and what they leave of its trace is spread evenly over the others. A row's tokens
share A and B, and J_nc sums over them; the paper's K-FAC multiplies covariances of tokens instead, as if they were rows
of their own, and gives the other directions no curvature. Both are exact for one row of one token.
tau, the prior precision, maximises the marginal likelihood, or minimises the NLL of held-out rows.

Samples are draws theta_s of A and B. They predict by the linearised network, f_s = f + J (theta_s - mean), as in the
paper. Draws of the weights themselves (`linear` false) leave the adapter where the posterior is wide, and by
the marginal likelihood it mostly is: their mean prediction then underfits to chance, so there tau is chosen by
held-out rows. The head stays a point (see `laplace`).

Paper: Yang et al. 2024 (arXiv 2308.13111). Cost: C passes back over train, and C for each scored row, whatever S is;
with held-out rows a search of minutes.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dubio.adapters.plan import LabelledTexts
from dubio.arrays import Float64
from dubio.errors import DubioError
from dubio.models.adapted import AdaptedModel
from dubio.models.tokens.batching import batches, pad, tokenize
from dubio.posteriors.base import Posterior, generator, shared
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.hooks import runs_together
from dubio.posteriors.engine.jacobians import ROWS, TOKENS, Block, LoraStructure, names_of, row_jacobians, wide_of
from dubio.posteriors.methods.laplace import best_precision, searched

RANK = 10  # directions of the wide side that are kept, as in the paper


class LaplaceLora(Posterior):
    """tensors: `mean|NAME` `[1, ...]`; of each A and B (transposed), by name: `values|` `[r, w]` for diag, or the
    factors `small|` `[r, r]`, `small_values|` `[r]`, `wide|` `[k, w]`, `wide_values|` `[k]` and `rest|` `[1]` for kron.

    facts: structure, tau, rows, linear.
    """

    kind: ClassVar[str] = "laplace_lora"

    @property
    def centre(self) -> dict[str, Tensor] | None:
        """The adapter, where draws predict by the linearised network."""
        return self.part("mean") if self.facts.get("linear", False) else None

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Draws of every A and B; the head is shared."""
        values, tau = shared(self.part("mean"), samples), float(self.fact("tau"))
        if not tau > 0:
            raise DubioError(f"the prior precision must be positive, not {tau}")
        for at, name in enumerate(names_of(values)):
            wide = wide_of(name, values[name])
            eps = torch.randn(wide.shape, generator=generator(seed, at))
            values[name] = values[name] + wide_of(name, self._coloured(name, eps, tau))
        return values

    def spectrum(self) -> Float64:
        """Eigenvalues of the curvature, one for each number in A and B."""
        found: list[Float64] = []
        for name in names_of(self.part("mean")):
            if self.fact("structure") == "diag":
                found.append(self.tensors[f"values|{name}"].double().numpy().ravel())
            else:
                wide, rest = self.tensors[f"wide|{name}"], float(self.tensors[f"rest|{name}"])
                values = self.tensors[f"wide_values|{name}"].double().numpy()
                values = np.concatenate([values, np.full(wide.shape[1] - len(values), rest)])
                found.append(np.outer(self.tensors[f"small_values|{name}"].double().numpy(), values).ravel())
        return np.concatenate(found)

    def searched(self, nlls: Callable[[Sequence["LaplaceLora"]], Sequence[float]]) -> "LaplaceLora":
        """With the tau of the least NLL of the samples' mean prediction on held-out rows: `nlls` of several posteriors.

        Between .03 and 3e7; where drawn weights predict, which a tau below 3 scatters, from there on.
        """
        return searched(self, nlls, range(1 if self.centre is None else -1, 8))

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
    if len(engine.stack) != 1 or not names_of(values):
        raise DubioError("Laplace over LoRA needs one adapter with A and B")
    blocks = {name: Block(rank) for name in names_of(values)}
    tokens = tokenize(host, rows.texts, rows.pairs)
    lengths, fit = np.array([len(ids) for ids in tokens["input_ids"]]), 0.0
    step = ROWS if runs_together(host.model) else 1
    for batch in batches(lengths, TOKENS):
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
