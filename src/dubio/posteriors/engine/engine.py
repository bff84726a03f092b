"""The stack engine: S adapters over one base in one pass, rows and samples in chunks under a budget of tokens.

In: a base classifier without adapters, the site of its head, an `AdapterStack`. Out: features `[S, n, d]` and logits
`[S, n, C]`. Blocks below the first adapted one see n rows; from there on S * n rows, sample-major. Layers are swapped
in a context and hooks removed after it, so that the model is as it was, also after an exception; the threads that share
a base take turns.
"""

import hashlib
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dubio.errors import ProofError
from dubio.models.head_location import Site
from dubio.models.threads import alone, settle
from dubio.posteriors.engine.gradient_checkpointing import recomputed
from dubio.posteriors.engine.hooks import Skip, blocks_of, entering, expander, has_trunk, runs_together
from dubio.posteriors.engine.last_token import Tail, shortened, tail_of
from dubio.posteriors.engine.stack import AdapterStack, Layout, StackedDense, StackedLinear, stacked_layers, swapped


class Catch(nn.Module):
    """Stands where the head begins: keeps what comes in and spares what would follow."""

    seen: Tensor | None = None

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """What came in, kept."""
        self.seen = x
        return x


class _Places(NamedTuple):
    """Of a stack on its base: the head's name, the stacked layers below it, blocks below and from the first adapted on,
    and from where on one token is enough.
    """

    head: str
    layers: Mapping[str, StackedLinear | StackedDense]
    below: Mapping[str, nn.Module]
    blocks: Mapping[str, nn.Module]
    tail: Tail | None


@dataclass(frozen=True)
class StackEngine:
    """A stack on its base, a classifier without adapters. inputs: what the base takes of a tokenizer's output.

    dropout: share of the inputs of A that `forward` drops, a mask for every token as peft draws them; the masks are
    fixed by `seed`, the sample, and the tokens that run together, so that they do depend on the batch.
    recompute: keep only what enters each block for the backward pass, and run the block again there.
    """

    model: nn.Module
    site: Site
    stack: AdapterStack
    inputs: frozenset[str] = frozenset({"input_ids", "attention_mask", "token_type_ids"})
    dropout: float = 0.0
    seed: int = 0
    recompute: bool = False

    @cached_property
    def _places(self) -> "_Places":
        """Found once: what is looked up anew at every batch costs a small batch a tenth of its time."""
        with alone(self.site.module):  # while another engine is in, the base is not as it is
            name = next(name for name, module in self.model.named_modules() if module is self.site.module)
            layers = stacked_layers(self.model, self.stack, Layout(1))
            within = {n: layer for n, layer in layers.items() if not n.startswith(name)}
            return _Places(name, within, *blocks_of(self.model, within), tail_of(self.model))

    @cached_property
    def _device(self) -> str:
        return str(next(self.model.parameters()).device)

    @property
    def below(self) -> int:
        """How many blocks lie below the first adapted one; 0 where more than hidden states goes between blocks."""
        return len(self._places.below) if has_trunk(self.model) else 0

    @contextmanager
    def entered(self, layout: Layout, own_rows: bool = False, trunk: Tensor | None = None) -> Generator[Catch]:
        """The base with the stack in it. own_rows: the batch holds S * n rows already, n of each sample's own.

        trunk: what enters the first adapted block, `[rows, T, d]`; what lies below is then left out.
        """
        catch, (name, within, below, blocks, tail) = Catch(), self._places
        standing: dict[str, nn.Module] = {} if trunk is None else {which: Skip() for which in below}
        settle(self._device)
        with ExitStack() as leaving:
            leaving.enter_context(alone(self.site.module))
            for layer in within.values():
                layer.layout = layout
            if self.recompute:
                blocks, within = recomputed(blocks, within, tail, layout)
                standing, tail = {**standing, **blocks}, None
            leaving.enter_context(swapped(self.model, {**within, **standing, name: catch}))
            hooks = [] if trunk is None else [(next(iter(blocks.values())), entering(trunk))]
            hooks += [] if own_rows else [(block, expander(layout)) for block in blocks.values()]
            for module, hook in hooks:
                leaving.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            leaving.enter_context(shortened(tail, layout))
            yield catch

    def features(
        self, batch: Mapping[str, Tensor], layout: Layout, own_rows: bool = False, trunk: Tensor | None = None
    ) -> Tensor:
        """Features `[S, n, d]` float32 of a padded batch of n rows (of S * n, each sample's own, if `own_rows`).

        trunk: of `prefix_cache`, for these very rows, padded as the batch is.
        """
        if not own_rows and getattr(self.model.config, "classifier_pooling", None) == "mean":
            # ModernBERT's mean is taken under the mask that came in, so that one must be of all rows: no shared trunk.
            batch, own_rows = {key: layout.expand(value) for key, value in batch.items()}, True
        inputs: dict[str, Any] = {key: value for key, value in batch.items() if key in self.inputs}
        mask = batch["attention_mask"]
        if self.site.pooling == "last":
            inputs |= {"position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0), "use_cache": False}
        layout.last = self.site.positions(batch) if self.site.pooling == "last" else None
        layout.rows, layout.expanded = len(mask) // (layout.samples if own_rows else 1), own_rows
        with self.entered(layout, own_rows, trunk) as catch:
            self.model(**inputs)
            if catch.seen is None:
                raise ProofError("the model goes past its head, so dubio cannot see what enters it")
            seen = catch.seen
        if not layout.expanded:  # nothing below the head is adapted
            seen = layout.expand(seen)
        if not own_rows:
            batch = {key: layout.expand(batch[key]) for key in ("input_ids", "attention_mask")}
        pooled = self.site.pool(seen, batch)
        return pooled.reshape(layout.samples, layout.rows, -1)

    @torch.inference_mode(False)  # what trains, or takes Jacobians, goes on from it
    @torch.no_grad()
    def trunk(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """`[n, T, d]` what enters the first adapted block; None where no block lies below it, or blocks need more."""
        name, _, _, blocks, _ = self._places
        if not self.below:
            return None
        first, *rest = blocks
        catch = Catch()
        inputs: dict[str, Any] = {key: value for key, value in batch.items() if key in self.inputs}
        if self.site.pooling == "last":
            inputs |= {"position_ids": (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0), "use_cache": False}
        settle(self._device)
        with alone(self.site.module), swapped(
            self.model, {first: catch, **{other: Skip() for other in rest}, name: Catch()}
        ):  # fmt: skip
            self.model(**inputs)
        return catch.seen

    def forward(
        self, batch: Mapping[str, Tensor], budget: int = 2048, trunk: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features `[S, n, d]` and logits `[S, n, C]`, float32, without gradients; the rest: see `pieces`."""
        found: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for first, features, logits in self.pieces(batch, budget, trunk):
            found.setdefault(first, []).append((features, logits))
        whole = [[torch.cat([pair[k] for pair in chunk], dim=1) for chunk in found.values()] for k in (0, 1)]
        return torch.cat(whole[0]), torch.cat(whole[1])

    def averaged(
        self, batch: Mapping[str, Tensor], budget: int = 2048, trunk: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean features `[n, d]` over the samples, and logits `[S, n, C]`; no more features are held at once."""
        sums: dict[int, list[Tensor]] = {}
        found: dict[int, list[Tensor]] = {}
        for first, features, logits in self.pieces(batch, budget, trunk):
            sums.setdefault(first, []).append(features.double().sum(dim=0))
            found.setdefault(first, []).append(logits)
        total = torch.stack([torch.cat(chunk) for chunk in sums.values()]).sum(dim=0)
        logits = torch.cat([torch.cat(chunk, dim=1) for chunk in found.values()])
        return (total / len(self.stack)).float(), logits

    def predict(self, batch: Mapping[str, Tensor], budget: int = 2048, trunk: Tensor | None = None) -> Tensor:
        """Logits `[S, n, C]` alone."""
        return self.averaged(batch, budget, trunk)[1]

    @torch.inference_mode()
    def pieces(
        self, batch: Mapping[str, Tensor], budget: int, trunk: Tensor | None = None
    ) -> Generator[tuple[int, Tensor, Tensor]]:
        """(number of the first sample, features `[s, n, d]`, logits `[s, n, C]`) of parts of the batch, rows in order.

        budget: tokens that run at once, padding included; rows are cut first, so that what lies below the first
        adapted block runs once for each row, and samples only where a single row of all of them is too long.
        trunk: what enters that block, `[n, T, d]` (see `prefix_cache`); what lies below is then left out.
        """
        rows, length = batch["attention_mask"].shape
        count = len(self.stack)
        once = count > 1 and self.stack.shared_body and not self.dropout  # then the samples differ in their heads alone
        together = 1 if once or not runs_together(self.model) else max(1, min(count, budget // length))
        step = max(1, budget // (together * length))
        for first in range(0, 1 if once else count, together):
            part = self if together >= count else replace(self, stack=self.stack.take(slice(first, first + together)))
            for start in range(0, rows, step):
                piece = {key: value[start : start + step] for key, value in batch.items()}
                layout = Layout(len(part.stack), dropout=self.dropout, generators=self._generators(piece, first, part))
                known = None if trunk is None else trunk[start : start + step]
                features = part.features(piece, layout, trunk=known)
                if once:
                    features = features.expand(count, -1, -1)
                yield first, features, (self if once else part).logits(features)

    def _generators(self, piece: Mapping[str, Tensor], first: int, part: "StackEngine") -> list[torch.Generator]:
        if not self.dropout:
            return []
        ids = piece["input_ids"].cpu().numpy()
        salt = int.from_bytes(hashlib.sha256(ids.tobytes()).digest()[:6], "big")
        seeds = [
            np.random.SeedSequence([self.seed, first + s, salt]).generate_state(1)[0] for s in range(len(part.stack))
        ]
        return [torch.Generator(piece["input_ids"].device).manual_seed(int(seed)) for seed in seeds]

    def logits(self, features: Tensor) -> Tensor:
        """`[S, n, C]` from features `[S, n, d]`: each sample by its own head, in float32 on the head's device."""
        own = [{name: value[s] for name, value in self.stack.head.items()} for s in range(len(features))]
        return torch.stack([functional_call(self.site.head, h, (z,)) for h, z in zip(own, features, strict=True)])
