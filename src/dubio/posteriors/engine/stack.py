"""S adapters as batched tensors over one frozen base: the container that every posterior yields, and what swaps it in.

    y_s = W x_s + b + scale * B_s A_s x_s        A [S, r, in], B [S, out, r], rows laid out sample-major: [S * n, ...]

`swapped` puts a stacked layer in the place of every adapted one and takes it out again, whatever happens inside; the
base itself is never written to. What lies below the first adapted block runs once, on n rows, and is expanded there.

Source of the layout: Wen et al. 2020 (BatchEnsemble, arXiv 2002.06715) for members side by side in one batch.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from dubio.errors import DubioError, ProofError

FOLD_TOKENS = 256  # tokens of one sample from which W + scale * B A costs less than the thin products with A and B


@dataclass(frozen=True)
class LowRank:
    """The updates of one linear layer: a `[S, r, in]`, b `[S, out, r]`; the update of sample s is scale * b[s] a[s].

    noise: `[S, r, in]` added to a under random signs of every row (flipout: `Layout.flipped`), in training; or None.
    """

    a: Tensor
    b: Tensor
    scale: float
    noise: Tensor | None = None


@dataclass(frozen=True)
class Dense:
    """A linear layer that adapters bring whole (a pooler, say): weight `[S, out, in]`, bias `[S, out]` or None."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class AdapterStack:
    """S adapters on one base.

    layers: name of a linear layer in the base -> what the adapters make of it. head: parameter name of the site's head
    (features -> logits) -> `[S, ...]`.
    """

    layers: Mapping[str, LowRank | Dense]
    head: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors().values())))

    @property
    def shared_body(self) -> bool:
        """Whether all samples adapt the body alike (one tensor, expanded), so that it need run but once."""
        body = [value for name, value in self.tensors().items() if name.startswith("layer/")]
        return all(value.stride(0) == 0 for value in body)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, `[S, ...]`: `layer/NAME.a`, `.b`, `.noise`, `.weight`, `.bias`, `head/NAME`."""
        found: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            parts = ("a", "b", "noise") if isinstance(layer, LowRank) else ("weight", "bias")
            found |= {f"layer/{name}.{part}": value for part in parts if (value := getattr(layer, part)) is not None}
        return found | {f"head/{name}": value for name, value in self.head.items()}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "AdapterStack":
        """The same layers with other numbers, of any S; `tensors` as from `tensors()`."""
        layers: dict[str, LowRank | Dense] = {}
        for name, layer in self.layers.items():
            if isinstance(layer, LowRank):
                noise = None if layer.noise is None else tensors[f"layer/{name}.noise"]
                layers[name] = replace(layer, a=tensors[f"layer/{name}.a"], b=tensors[f"layer/{name}.b"], noise=noise)
            else:
                bias = None if layer.bias is None else tensors[f"layer/{name}.bias"]
                layers[name] = Dense(tensors[f"layer/{name}.weight"], bias)
        return AdapterStack(layers, {name: tensors[f"head/{name}"] for name in self.head})

    def take(self, samples: slice) -> "AdapterStack":
        """Some of the samples."""
        return self.with_tensors({name: value[samples] for name, value in self.tensors().items()})

    def to(self, device: str) -> "AdapterStack":
        """On a device; what all samples share stays shared."""
        return self.with_tensors({name: moved(value, device) for name, value in self.tensors().items()})


def moved(value: Tensor, device: str) -> Tensor:
    """`[S, ...]` on a device, one copy of it where all S are one tensor expanded."""
    if len(value) > 1 and value.stride(0) == 0:
        return value[:1].to(device).expand_as(value)
    return value.to(device)


def concatenate(stacks: list[AdapterStack]) -> AdapterStack:
    """One stack of all samples; raises DubioError where the stacks adapt different layers or differ in scale."""
    scales = [[getattr(layer, "scale", None) for layer in stack.layers.values()] for stack in stacks]
    if any([*s.tensors()] != [*stacks[0].tensors()] for s in stacks) or any(scale != scales[0] for scale in scales):
        raise DubioError("the adapters change different layers, or by different scales; they are no ensemble")
    tables = [stack.tensors() for stack in stacks]
    try:
        return stacks[0].with_tensors({name: torch.cat([t[name] for t in tables]) for name in tables[0]})
    except RuntimeError as error:
        raise DubioError("the adapters are of different ranks, or of different bases; they are no ensemble") from error


@dataclass
class Layout:
    """How rows lie in the batch that is running: `samples` S, `rows` n, and whether it is `expanded` to S * n already.

    last: the token of each row of the batch that a decoder's head looks at.
    common: what the first adapted block takes, laid out for all samples and as the n rows that it is made of.
    dropout: share of the inputs of A that is dropped, one mask a token, from `generators`, one a sample; the signs of
    flipout come from them too.
    """

    samples: int
    rows: int = 0
    expanded: bool = False
    dropout: float = 0.0
    generators: list[torch.Generator] = field(default_factory=list[torch.Generator])
    common: tuple[Tensor, Tensor] | None = None
    last: Tensor | None = None

    def expand(self, value: Tensor) -> Tensor:
        """`[n, ...]` -> `[S * n, ...]`, sample-major."""
        return value.unsqueeze(0).expand(self.samples, *value.shape).reshape(-1, *value.shape[1:])

    def drop(self, flat: Tensor) -> Tensor:
        """Masks `[S, m, in]`, each sample by its own generator."""
        if not self.dropout:
            return flat
        keep = 1 - self.dropout
        masks = [torch.rand(flat.shape[1:], generator=g, device=flat.device) < keep for g in self.generators]
        return flat * torch.stack(masks) / keep

    def flipped(self, flat: Tensor, noise: Tensor) -> Tensor:
        """`[S, m, r]` from inputs `[S, m, in]`: t * (noise (x * s)), s and t random signs, of each row their own.

        So the rows of a batch see noise that is uncorrelated, at the price of one draw. The tokens of a row share their
        signs: each row meets one adapter, not another at every token. Source: Wen et al. 2018 (arXiv 1803.04386).
        """
        rows = self.rows if flat.shape[1] % self.rows == 0 else 1  # else a table that all rows share

        def signs(width: int) -> Tensor:
            drawn = [torch.randint(0, 2, (rows, 1, width), generator=g, device=flat.device) for g in self.generators]
            return (2 * torch.stack(drawn) - 1).to(flat.dtype)

        first, last = signs(flat.shape[2]), signs(noise.shape[1])
        tokens = (flat.reshape(len(flat), rows, -1, flat.shape[2]) * first).reshape(flat.shape)
        low = torch.bmm(tokens, noise.transpose(1, 2))
        return (low.reshape(len(flat), rows, -1, low.shape[2]) * last).reshape(low.shape)


class _Stacked(nn.Module):
    """Common to both stacked layers: rows in, sample-major rows out."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        """`[S * n, ..., in]` (or `[n, ..., in]` where nothing below was adapted) -> `[S * n, ..., out]`.

        Raises ProofError where a model sends something other than its rows through the layer.
        """
        if not self.layout.expanded:
            x = self.layout.expand(x)
            self.layout.expanded = True
        if self.layout.samples > 1 and x.shape[0] % (self.layout.samples * self.layout.rows):
            raise ProofError(f"an adapted layer met {x.shape[0]} rows instead of {self.layout.samples} samples' rows")
        common = self.layout.common
        if common is not None and x is common[0]:
            out = self._product_of_common(common[1].reshape(-1, x.shape[-1]))
        else:
            out = self._product(x.reshape(self.layout.samples, -1, x.shape[-1]))
        return out.reshape(*x.shape[:-1], out.shape[-1])

    def _product(self, flat: Tensor) -> Tensor:
        """`[S, m, in]` -> `[S, m, out]`."""
        raise NotImplementedError

    def _product_of_common(self, rows: Tensor) -> Tensor:
        """The same of rows `[m, in]` that all samples share."""
        return self._product(rows.expand(self.layout.samples, *rows.shape))


class StackedLinear(_Stacked):
    """A frozen linear layer under S low-rank updates."""

    def __init__(self, base: nn.Module, update: LowRank, layout: Layout) -> None:
        super().__init__(layout)
        own = cast(Any, base)
        # Views of the base's own tensors, kept out of the module's parameters; Conv1D holds its weight transposed.
        self.across: Tensor = own.weight if isinstance(base, Conv1D) else own.weight.t()
        self.bias: Tensor | None = own.bias
        self.a, self.b, self.scale = update.a.to(self.across.dtype), update.b.to(self.across.dtype), update.scale
        self.noise = None if update.noise is None else update.noise.to(self.across.dtype)

    def _product(self, flat: Tensor) -> Tensor:
        samples, tokens, _ = flat.shape
        a, b = self.a.transpose(1, 2), self.b.transpose(1, 2)
        exact = self.across.dtype == torch.float32  # in bfloat16 a folded update would be rounded away
        fixed = not torch.is_grad_enabled() and not self.layout.dropout and self.noise is None
        if exact and tokens >= FOLD_TOKENS and fixed:
            weight = torch.baddbmm(self.across.expand(samples, -1, -1), a, b, alpha=self.scale)
            return torch.bmm(flat, weight) if self.bias is None else torch.baddbmm(self.bias, flat, weight)
        rows = flat.reshape(samples * tokens, -1)
        out = rows @ self.across if self.bias is None else torch.addmm(self.bias, rows, self.across)
        dropped = self.layout.drop(flat)
        low = torch.bmm(dropped, a)
        if self.noise is not None:
            low = low + self.layout.flipped(dropped, self.noise)
        return torch.baddbmm(out.reshape(samples, tokens, -1), low, b, alpha=self.scale)

    def _product_of_common(self, rows: Tensor) -> Tensor:
        """W x once, and A x of all samples as one product."""
        if self.layout.dropout or self.noise is not None:
            return super()._product_of_common(rows)
        samples, rank, width = self.a.shape
        out = rows @ self.across if self.bias is None else torch.addmm(self.bias, rows, self.across)
        low = (rows @ self.a.reshape(samples * rank, width).t()).reshape(len(rows), samples, rank).transpose(0, 1)
        return torch.baddbmm(out.expand(samples, *out.shape), low, self.b.transpose(1, 2), alpha=self.scale)


class StackedDense(_Stacked):
    """A linear layer of S weights."""

    def __init__(self, base: nn.Module, layer: Dense, layout: Layout) -> None:
        super().__init__(layout)
        dtype = cast(Tensor, base.weight).dtype
        self.weight = layer.weight.to(dtype).transpose(1, 2)
        self.bias = None if layer.bias is None else layer.bias.to(dtype).unsqueeze(1)

    def _product(self, flat: Tensor) -> Tensor:
        return torch.bmm(flat, self.weight) if self.bias is None else torch.baddbmm(self.bias, flat, self.weight)


@contextmanager
def swapped(model: nn.Module, modules: Mapping[str, nn.Module]) -> Generator[None]:
    """Puts `modules` in the places of the named ones for as long as the context lasts, and the old ones back after."""
    old: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        for name, new in modules.items():
            parent, _, leaf = name.rpartition(".")
            place = model.get_submodule(parent)
            old.append((place, leaf, cast(nn.Module, getattr(place, leaf))))
            setattr(place, leaf, new)
        yield
    finally:
        for place, leaf, module in reversed(old):
            setattr(place, leaf, module)


def stacked_layers(
    model: nn.Module, stack: AdapterStack, layout: Layout
) -> dict[str, StackedLinear | StackedDense]:  # fmt: skip
    """A stacked layer for every adapted one; raises DubioError for one that the model lacks or that is not linear."""
    made: dict[str, StackedLinear | StackedDense] = {}
    for name, layer in stack.layers.items():
        try:
            base = model.get_submodule(name)
        except AttributeError as error:
            raise DubioError(f"the base has no layer {name}, which the stack adapts; it belongs to another") from error
        if not isinstance(base, nn.Linear | Conv1D):
            raise DubioError(f"{name} is no linear layer but {type(base).__name__}; a stack cannot adapt it")
        if isinstance(layer, LowRank):
            made[name] = StackedLinear(base, layer, layout)
        else:
            made[name] = StackedDense(base, layer, layout)
    return made
