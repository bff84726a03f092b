"""What is trained, and how it becomes a stack: LoRA (A and B), or LoRA-XS (the r x r core between frozen factors).

    LoRA       y = W x + (alpha / r) B A x,      A [r, in], B [out, r] trained; A starts at random, B at 0
    LoRA-XS    y = W x + (alpha / r) B R A x,    W ~ U S V' of rank r;  B = U, A = S V' frozen; R [r, r] trained, ~ 0

Parameters are batched tensors `[M, ...]` of M members. Both bring the head, unless it is frozen (that of answer letters
is), and what else the base came without.
Sources: Hu et al. 2021 (arXiv 2106.09685); LoRA-XS, Balazy et al. 2024 (arXiv 2405.17604); arXiv 2502.12122.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from dubio.adapters.targets import fresh_modules, layers_named
from dubio.models.adapted import AdaptedModel
from dubio.posteriors.engine.stack import AdapterStack, Dense, LowRank

CORE_START = 1e-5  # standard deviation of R at its start: an update of almost nothing


@dataclass(frozen=True)
class Parameters(ABC):
    """What is trained on a base. targets: names of the adapted layers; rank r, scale alpha / r.

    fresh: names of the linear layers outside the head that the base came without, and that are trained whole.
    frozen_head: whether the host's own head is kept as it is, and shared by all members.
    """

    host: AdaptedModel
    targets: tuple[str, ...]
    rank: int
    scale: float
    fresh: tuple[str, ...] = ()
    frozen_head: bool = False

    spreads: ClassVar[tuple[str, ...]] = ()  # suffixes of the names that are no means

    @abstractmethod
    def start(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Parameters `[M, ...]` of M members at their start, each from its own seed."""

    @abstractmethod
    def stack(self, values: Mapping[str, Tensor]) -> AdapterStack:
        """The stack that these parameters are; differentiable."""

    def sampled(self, values: Mapping[str, Tensor], generators: Sequence[torch.Generator]) -> AdapterStack:
        """The stack of one training step, with the noise that is trained on it, one generator a member; here none."""
        return self.stack(values)

    def kl(self, values: Mapping[str, Tensor]) -> Tensor | None:
        """`[M]` divergences from a prior (nats) of the distributions that `values` describe; None: these are points."""
        return None

    def descend(self, values: Mapping[str, Tensor], amount: float) -> None:  # noqa: B027
        """A step of this length down the gradient of `kl`, in place, apart from the loss; here none."""

    def weight(self, name: str) -> Tensor:
        """`[out, in]` weight of a layer of the base."""
        layer: Any = self.host.model.get_submodule(name)
        return layer.weight.t() if isinstance(layer, Conv1D) else layer.weight

    def _common(self, seeds: Sequence[int], offset: int) -> dict[str, Tensor]:
        """Head and fresh layers: normal weights of the base's own spread, zero biases, everything else as built."""
        spread = float(getattr(self.host.model.config, "initializer_range", 0.02))
        own = {} if self.frozen_head else self.host.head.state_dict()
        shapes = {f"head/{name}": value for name, value in own.items()}
        for name in self.fresh:
            layer = cast(nn.Linear, self.host.model.get_submodule(name))
            shapes |= {f"layer/{name}.{part}": value for part, value in layer.state_dict().items()}
        found: dict[str, Tensor] = {}
        for at, (name, like) in enumerate(shapes.items()):
            rows: list[Tensor] = []
            for seed in seeds:
                matrix, bias = like.dim() > 1, name.endswith("bias")
                drawn = spread * torch.randn(like.shape, generator=_generator(seed, offset + at))
                rows.append(drawn if matrix else torch.zeros(like.shape) if bias else like.detach().float().cpu())
            found[name] = torch.stack(rows).to(self.host.device)
        return found

    def _assemble(self, values: Mapping[str, Tensor], low_rank: Mapping[str, LowRank]) -> AdapterStack:
        layers: dict[str, LowRank | Dense] = dict(low_rank)
        for name in self.fresh:
            layers[name] = Dense(values[f"layer/{name}.weight"], values.get(f"layer/{name}.bias"))
        if self.frozen_head:
            return AdapterStack(layers, frozen_head(self.host, values))
        return AdapterStack(layers, {name[5:]: value for name, value in values.items() if name.startswith("head/")})


class LoraParameters(Parameters):
    """A and B of every target: names `layer/NAME.a` `[M, r, in]` and `layer/NAME.b` `[M, out, r]`."""

    def start(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """As peft starts them: A uniform in +-1/sqrt(in) (Kaiming with a = sqrt 5), B zero."""
        found: dict[str, Tensor] = {}
        for at, name in enumerate(self.targets):
            out, width = self.weight(name).shape
            drawn = [2 * torch.rand(self.rank, width, generator=_generator(seed, at)) - 1 for seed in seeds]
            found[f"layer/{name}.a"] = (torch.stack(drawn) / sqrt(width)).to(self.host.device)
            found[f"layer/{name}.b"] = torch.zeros(len(seeds), out, self.rank, device=self.host.device)
        return found | self._common(seeds, len(self.targets))

    def stack(self, values: Mapping[str, Tensor]) -> AdapterStack:
        """The very tensors."""
        return self._assemble(values, {
            name: LowRank(values[f"layer/{name}.a"], values[f"layer/{name}.b"], self.scale) for name in self.targets
        })  # fmt: skip


class XsParameters(Parameters):
    """The core R of every target: name `layer/NAME.core` `[M, r, r]`; the outer factors follow from the base."""

    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name -> (A `[r, in]` with the singular values, B `[out, r]`), B A being the rank-r truncation of W.

        Signs are fixed (the largest entry of each column of B is positive), so that a stored core means the same later.
        """
        if not hasattr(self, "_factors"):
            found: dict[str, tuple[Tensor, Tensor]] = {}
            for name in self.targets:
                u, s, v = torch.linalg.svd(self.weight(name).detach().double().cpu(), full_matrices=False)
                u, s, v = u[:, : self.rank], s[: self.rank], v[: self.rank]
                sign = torch.sign(u.gather(0, u.abs().argmax(dim=0, keepdim=True)))
                pair = (sign.t() * s[:, None] * v, sign * u)
                found[name] = (pair[0].float().to(self.host.device), pair[1].float().to(self.host.device))
            object.__setattr__(self, "_factors", found)
        return cast(dict[str, tuple[Tensor, Tensor]], object.__getattribute__(self, "_factors"))

    def start(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """R normal with a standard deviation of 1e-5."""
        found: dict[str, Tensor] = {}
        for at, name in enumerate(self.targets):
            drawn = [CORE_START * torch.randn(self.rank, self.rank, generator=_generator(seed, at)) for seed in seeds]
            found[f"layer/{name}.core"] = torch.stack(drawn).to(self.host.device)
        return found | self._common(seeds, len(self.targets))

    def stack(self, values: Mapping[str, Tensor]) -> AdapterStack:
        """B R and A as a plain LoRA of rank r."""
        low_rank: dict[str, LowRank] = {}
        for name, (a, b) in self.factors().items():
            core = values[f"layer/{name}.core"]
            low_rank[name] = LowRank(a.expand(len(core), -1, -1), b @ core, self.scale)
        return self._assemble(values, low_rank)


def targets_of(host: AdaptedModel, suffixes: Sequence[str], top: int | None = None) -> tuple[str, ...]:
    """Full names of the layers in blocks whose names end with one of the suffixes, in the model's order.

    top: of the last so many blocks only.
    """
    return tuple(layers_named(host.model, suffixes, top))


def fresh_layers(host: AdaptedModel, missing: Sequence[str]) -> tuple[str, ...]:
    """Linear layers outside the head inside the modules that the base lacks; `missing`: names of its parameters."""
    modules = fresh_modules(missing)
    return tuple(
        name for name, module in host.model.named_modules()
        if isinstance(module, nn.Linear)
        and name.split(".")[0] not in host.site.parts
        and any(part in modules for part in name.split("."))
    )  # fmt: skip


def frozen_head(host: AdaptedModel, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The host's own head, one tensor expanded to as many samples as `values` `[S, ...]` hold."""
    samples = len(next(iter(values.values())))
    own = {name: value.detach().to(host.device) for name, value in host.head.state_dict().items()}
    return {name: value.expand(samples, *value.shape) for name, value in own.items()}


def _generator(seed: int, index: int) -> torch.Generator:
    """A stream of its own for each tensor of each member, whatever the number of members."""
    return torch.Generator().manual_seed(1_000_003 * seed + index)
