"""BLoB, Bayesian low-rank adaptation by backpropagation: a Gaussian over A is trained together with its mean.

    q(A) = N(M, Omega^2) element by element, Omega = rho^2;     prior N(0, beta^2);     B and the head are points
    KL(q || prior) = sum of log(beta / Omega) + (Omega^2 + M^2) / (2 beta^2) - 1/2      (nats)

A step of training sees one draw of the noise for all its rows, under random signs of each row (flipout, see
`Layout.flipped`; `flipout=False`: the same A for all rows, plain reparametrisation). The divergence is descended apart
(`kl_rate`) or as part of the loss (`kl_weight`), see `optim`. Prediction averages the probabilities of S draws.

Paper: Wang et al. 2024 (arXiv 2406.11675). Cost: one training, half as long again; |A| more numbers; S passes a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log, sqrt
from typing import ClassVar

import torch
from torch import Tensor

from dubio.errors import DubioError
from dubio.posteriors.base import Posterior, generator, shared
from dubio.posteriors.engine.stack import AdapterStack, LowRank
from dubio.posteriors.training.parameters import LoraParameters

_SPREAD_SEED = 7_919  # rho's stream lies apart from that of A and the head


@dataclass(frozen=True)
class BlobParameters(LoraParameters):
    """Means `layer/NAME.a` `[M, r, in]`, `layer/NAME.b` `[M, out, r]`; `layer/NAME.rho` `[M, r, in]`.

    beta: of the prior. eps: rho starts uniform in [eps / sqrt 2, eps].
    """

    beta: float = 0.2
    eps: float = 0.05
    flipout: bool = True

    spreads: ClassVar[tuple[str, ...]] = (".rho",)

    def start(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """As LoRA, and the spreads."""
        found = super().start(seeds)
        for at, name in enumerate(self.targets):
            like = found[f"layer/{name}.a"]
            drawn = [torch.rand(like.shape[1:], generator=generator(seed + _SPREAD_SEED, at)) for seed in seeds]
            low = self.eps / sqrt(2)
            found[f"layer/{name}.rho"] = (low + (self.eps - low) * torch.stack(drawn)).to(like)
        return found

    def sampled(self, values: Mapping[str, Tensor], generators: Sequence[torch.Generator]) -> AdapterStack:
        """A draw of Omega * noise for each member: beside A for flipout, or on it."""
        whole = self.stack(values)
        layers = dict(whole.layers)
        for name in self.targets:
            layer, rho = layers[name], values[f"layer/{name}.rho"]
            assert isinstance(layer, LowRank)
            noise = torch.stack([torch.randn(rho.shape[1:], generator=g, device=rho.device) for g in generators])
            noise = rho**2 * noise.to(rho)
            layers[name] = replace(layer, noise=noise) if self.flipout else replace(layer, a=layer.a + noise)
        return AdapterStack(layers, whole.head)

    def kl(self, values: Mapping[str, Tensor]) -> Tensor:
        """`[M]`, nats."""
        pairs = [(values[f"layer/{name}.a"], values[f"layer/{name}.rho"]) for name in self.targets]
        return torch.stack([gaussian_kl(mean, rho**2, self.beta).flatten(1).sum(dim=1) for mean, rho in pairs]).sum(0)

    @torch.no_grad()
    def descend(self, values: Mapping[str, Tensor], amount: float) -> None:
        """An implicit step, with the gradient of where it arrives: that of log rho has no bound near 0, and there the
        explicit step of SGD throws a deviation to anywhere.
        """
        for name in self.targets:
            values[f"layer/{name}.a"].div_(1 + amount / self.beta**2)
            rho = values[f"layer/{name}.rho"]
            rho.copy_(torch.where(rho < 0, -1.0, 1.0) * implicit_step(rho.abs(), amount, self.beta))

    def posterior(self, values: Mapping[str, Tensor]) -> "Blob":
        """What was trained, of one member `[1, ...]`."""
        values = {name: value.detach() for name, value in values.items()}
        tensors = {f"mean|{name}": value for name, value in values.items() if not name.endswith(".rho")}
        for name in self.targets:
            tensors[f"deviation|layer/{name}.a"] = values[f"layer/{name}.rho"] ** 2
        median = float(torch.cat([v.flatten() for n, v in tensors.items() if n.startswith("deviation|")]).median())
        return Blob(tensors, {"beta": self.beta, "kl": float(self.kl(values)[0]), "median_deviation": median})


class Blob(Posterior):
    """tensors: `mean|NAME` and `deviation|layer/NAME.a`, each `[1, ...]`. facts: beta, kl (nats), median_deviation."""

    kind: ClassVar[str] = "blob"

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws of A; everything else is shared. Raises DubioError where there are no deviations."""
        values, spread = shared(self.part("mean"), samples), self.part("deviation")
        if not spread:
            raise DubioError("the stored blob posterior lacks its deviations; train it again")
        for at, (name, value) in enumerate(spread.items()):
            noise = torch.randn(samples, *value.shape[1:], generator=generator(seed, at))
            values[name] = values[name] + value * noise
        return values


def implicit_step(rho: Tensor, amount: float, beta: float) -> Tensor:
    """The x > 0 with x = rho - amount * d KL / d rho at x, by Newton: KL = -2 log x + x^4 / (2 beta^2) + const."""
    x = (rho + (rho**2 + 8 * amount).sqrt()) / 2  # exact without the prior's pull, which is weak below beta
    for _ in range(8):
        gap = x - rho - 2 * amount / x + 2 * amount * x**3 / beta**2
        x = x - gap / (1 + 2 * amount / x**2 + 6 * amount * x**2 / beta**2)
    return x


def gaussian_kl(mean: Tensor, deviation: Tensor, beta: float) -> Tensor:
    """KL(N(mean, deviation^2) || N(0, beta^2)) element by element, nats."""
    return log(beta) - deviation.log() + (deviation**2 + mean**2) / (2 * beta**2) - 0.5
