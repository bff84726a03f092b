"""The network linearised around one adapter: the logits of S draws of its A and B, without a pass for each.

    f_s(x) = f(x) + J(x) (theta_s - theta),     J: Jacobian of the logits by A and B at the adapter theta

In: an engine with that adapter alone, and draws. Out: what `StackEngine.averaged` gives, with the adapter's features.
A pass back for each class gives every row's gradient exactly; a draw then costs one product, so S hardly matters.

Papers: Immer et al. 2021 (arXiv 2008.08217); for LoRA, Yang et al. 2024 (arXiv 2308.13111).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.hooks import runs_together
from dubio.posteriors.engine.jacobians import ROWS, TOKENS, names_of, on_own_copies, row_gradients, wide_of


@dataclass(frozen=True)
class LinearEngine:
    """engine: with the adapter alone. shifts: theta_s - theta by name of A or B' `[S, r, w]`, on its device."""

    engine: StackEngine
    shifts: Mapping[str, Tensor]

    @classmethod
    def around(cls, engine: StackEngine, draws: Mapping[str, Tensor]) -> Self:
        """From draws `[S, ...]` of the parameters of the engine's adapter; heads are not moved."""
        values = engine.stack.tensors()
        shifts = {name: wide_of(name, draws[name].to(values[name]) - values[name]) for name in names_of(values)}
        return cls(engine, {name: shift.float().contiguous() for name, shift in shifts.items()})

    def averaged(
        self, batch: Mapping[str, Tensor], budget: int = 2048, trunk: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features `[n, d]` of the adapter, and logits `[S, n, C]`, float32.

        budget: tokens that run at once, of which no more than TOKENS: the graph of the pass is kept for C passes back.
        trunk: what enters the first adapted block, `[n, T, d]`.
        """
        rows, length = batch["attention_mask"].shape
        together = max(1, min(ROWS, min(budget, TOKENS) // length))
        step = together if runs_together(self.engine.model) else 1
        parts = [
            self._piece(
                {key: value[start : start + step] for key, value in batch.items()},
                None if trunk is None else trunk[start : start + step],
            )
            for start in range(0, rows, step)
        ]
        return torch.cat([features for features, _ in parts]), torch.cat([logits for _, logits in parts], dim=1)

    @torch.inference_mode(False)
    def _piece(self, batch: Mapping[str, Tensor], trunk: Tensor | None) -> tuple[Tensor, Tensor]:
        known = None if trunk is None else trunk.clone()  # whatever mode it was padded in
        features, logits, leaves = on_own_copies(self.engine, batch, known)
        moved: list[Tensor] = []
        for c in range(logits.shape[1]):
            column = torch.zeros_like(logits)
            column[:, c] = 1
            grads = row_gradients(logits, column, leaves, more=c + 1 < logits.shape[1])
            terms = [torch.einsum("nrw,srw->sn", grad.float(), self.shifts[name]) for name, grad in grads.items()]
            moved.append(torch.stack(terms).sum(dim=0))
        return features.float(), logits.detach().float() + torch.stack(moved, dim=2)
