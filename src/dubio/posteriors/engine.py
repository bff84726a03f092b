"""The stack engine: S adapters over one base in one pass, rows and samples in chunks under a budget of tokens.

In: a base classifier without adapters, the site of its head, an `AdapterStack`. Out: features `[S, n, d]` and logits
`[S, n, C]`. Blocks below the first adapted one see n rows; from there on S * n rows, sample-major. Layers are swapped
in a context and hooks removed after it, so that the model is as it was, also after an exception.
"""

import hashlib
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dubio.errors import ProofError
from dubio.models.sites import Site
from dubio.posteriors.stack import AdapterStack, Layout, stacked_layers, swapped


class _Catch(nn.Module):
    """Stands where the head begins: keeps what comes in and spares what would follow."""

    seen: Tensor | None = None

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        self.seen = x
        return x


@dataclass(frozen=True)
class StackEngine:
    """A stack on its base, a classifier without adapters. inputs: what the base takes of a tokenizer's output.

    dropout: share of the inputs of A that `forward` drops, a mask for every token as peft draws them; the masks are
    fixed by `seed`, the sample, and the tokens that run together, so that they do depend on the batch.
    """

    model: nn.Module
    site: Site
    stack: AdapterStack
    inputs: frozenset[str] = frozenset({"input_ids", "attention_mask", "token_type_ids"})
    dropout: float = 0.0
    seed: int = 0

    @contextmanager
    def entered(self, layout: Layout, own_rows: bool = False) -> Generator[_Catch]:
        """The base with the stack in it. own_rows: the batch holds S * n rows already, n of each sample's own."""
        catch = _Catch()
        name = next(name for name, module in self.model.named_modules() if module is self.site.module)
        within = {n: m for n, m in stacked_layers(self.model, self.stack, layout).items() if not n.startswith(name)}
        with ExitStack() as leaving:
            leaving.enter_context(swapped(self.model, {**within, name: catch}))
            tail = first_token_tail(self.model)
            if tail is not None:
                leaving.callback(tail.register_forward_pre_hook(_first_token, with_kwargs=True).remove)
            if not own_rows:
                for block in _adapted_blocks(self.model, within):
                    hook = block.register_forward_pre_hook(_expander(layout), with_kwargs=True)
                    leaving.callback(hook.remove)
            yield catch

    def features(self, batch: Mapping[str, Tensor], layout: Layout, own_rows: bool = False) -> Tensor:
        """Features `[S, n, d]` float32 of a padded batch of n rows (of S * n, each sample's own, if `own_rows`)."""
        if not own_rows and getattr(self.model.config, "classifier_pooling", None) == "mean":
            # ModernBERT's mean is taken under the mask that came in, so that one must be of all rows: no shared trunk.
            batch, own_rows = {key: layout.expand(value) for key, value in batch.items()}, True
        inputs: dict[str, Any] = {key: value for key, value in batch.items() if key in self.inputs}
        mask = batch["attention_mask"]
        if self.site.pooling == "last":
            inputs |= {"position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0), "use_cache": False}
        layout.rows, layout.expanded = len(mask) // (layout.samples if own_rows else 1), own_rows
        with self.entered(layout, own_rows) as catch:
            self.model(**inputs)
            if catch.seen is None:
                raise ProofError("the model goes past its head, so dubio cannot see what enters it")
            seen = catch.seen
        if not layout.expanded:  # nothing below the head is adapted
            seen = layout.expand(seen)
        pooled = self.site.pool(seen, mask if own_rows else layout.expand(mask))
        return pooled.reshape(layout.samples, layout.rows, -1)

    def forward(self, batch: Mapping[str, Tensor], budget: int = 2048) -> tuple[Tensor, Tensor]:
        """Features `[S, n, d]` and logits `[S, n, C]`, float32, without gradients; see `pieces` for `budget`."""
        found: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for first, features, logits in self.pieces(batch, budget):
            found.setdefault(first, []).append((features, logits))
        whole = [[torch.cat([pair[k] for pair in chunk], dim=1) for chunk in found.values()] for k in (0, 1)]
        return torch.cat(whole[0]), torch.cat(whole[1])

    def averaged(self, batch: Mapping[str, Tensor], budget: int = 2048) -> tuple[Tensor, Tensor]:
        """Mean features `[n, d]` over the samples, and logits `[S, n, C]`; no more features are held at once."""
        sums: dict[int, list[Tensor]] = {}
        found: dict[int, list[Tensor]] = {}
        for first, features, logits in self.pieces(batch, budget):
            sums.setdefault(first, []).append(features.double().sum(dim=0))
            found.setdefault(first, []).append(logits)
        total = torch.stack([torch.cat(chunk) for chunk in sums.values()]).sum(dim=0)
        logits = torch.cat([torch.cat(chunk, dim=1) for chunk in found.values()])
        return (total / len(self.stack)).float(), logits

    def predict(self, batch: Mapping[str, Tensor], budget: int = 2048) -> Tensor:
        """Logits `[S, n, C]` alone."""
        return self.averaged(batch, budget)[1]

    @torch.inference_mode()
    def pieces(self, batch: Mapping[str, Tensor], budget: int) -> Generator[tuple[int, Tensor, Tensor]]:
        """(number of the first sample, features `[s, n, d]`, logits `[s, n, C]`) of parts of the batch, rows in order.

        budget: tokens that run at once, padding included; rows are cut first, so that what lies below the first
        adapted block runs once for each row, and samples only where a single row of all of them is too long.
        """
        rows, length = batch["attention_mask"].shape
        count = len(self.stack)
        once = count > 1 and self.stack.shared_body and not self.dropout  # then the samples differ in their heads alone
        together = 1 if once or not runs_together(self.model) else max(1, min(count, budget // length))
        step = max(1, budget // (together * length))
        for first in range(0, 1 if once else count, together):
            part = replace(self, stack=self.stack.take(slice(first, first + together)))
            for start in range(0, rows, step):
                piece = {key: value[start : start + step] for key, value in batch.items()}
                layout = Layout(len(part.stack), dropout=self.dropout, generators=self._generators(piece, first, part))
                features = part.features(piece, layout)
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


def runs_together(model: nn.Module) -> bool:
    """Whether several samples can share a pass. DeBERTa sends its table of relative positions through the adapted
    layers of all rows at once, so there samples run one after another.
    """
    return not str(getattr(model.config, "model_type", "")).startswith("deberta")


# Encoders that read the first token alone, block by block of `attention.self`, `attention.output`, and so on.
_FIRST_TOKEN = ("bert", "roberta", "electra", "xlm-roberta", "camembert")


def first_token_tail(model: nn.Module) -> nn.Module | None:
    """The module of the last block from which on no token but the first is looked at; None where that is not known.

    Up to there all tokens are needed, for keys and values; of 6 blocks that spares an eighth of all products.
    """
    if getattr(model.config, "model_type", "") not in _FIRST_TOKEN:
        return None
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) and hasattr(m[-1], "attention")]
    output: Any = getattr(cast(Any, lists[-1][-1]).attention, "output", None) if lists else None
    return output if isinstance(output, nn.Module) else None


def _first_token(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    """A hook that keeps the first token of hidden states `[n, T, d]`."""
    return tuple(a[:, :1] for a in args), {key: value[:, :1] for key, value in kwargs.items()}


def _adapted_blocks(model: nn.Module, names: Mapping[str, nn.Module]) -> list[nn.Module]:
    """The blocks from the first that holds an adapted layer to the last; none where only later layers are adapted."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    for name, blocks in lists.items():
        inside = [int(layer[len(name) + 1 :].split(".")[0]) for layer in names if layer.startswith(f"{name}.")]
        if inside:
            return list(blocks)[min(inside) :]
    return []


def _expander(layout: Layout) -> Any:
    """A hook that lays out a block's inputs for S samples: hidden states once, masks and positions at every block."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        first = not layout.expanded
        hidden = args[0] if args else kwargs["hidden_states"]
        done = layout.expand(hidden) if first else hidden
        if first and layout.samples > 1:
            layout.common = (done, hidden)
        layout.expanded = True

        def laid_out(value: Any) -> Any:
            if value is hidden:
                return done
            if isinstance(value, tuple | list):
                return type(value)(laid_out(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
            # One row's tensors broadcast over all samples as they are; of the others, those that are rows.
            if isinstance(value, Tensor) and layout.rows > 1 and len(value) == layout.rows and _by_row(value):
                return layout.expand(value)
            return value

        return tuple(laid_out(a) for a in args), {key: laid_out(value) for key, value in kwargs.items()}

    return hook


def _by_row(value: Tensor) -> bool:
    """Masks and positions of rows; a table of relative positions is a float matrix."""
    return value.dim() > 2 or (value.dim() == 2 and not value.is_floating_point())
