"""Rank-wise variational dropout (BayesLoRA's later form): Gaussian noise of one variance a rank; dead ranks are cut.

    A_i ~ N(mu, s_i^2),  B_i ~ N(mu, s_i^2)      row i of A and column i of B share log s_i^2: r more numbers a layer
    -KL(q || log-uniform) = k1 sigmoid(k2 + k3 log alpha) - 1/2 log(1 + 1/alpha) - k1,      alpha = s_i^2 / mu^2

element by element, with k1, k2, k3 = 0.63576, 1.87320, 1.48695 (up to a constant; within 0.01 nats of the integral).
The product B A does not change under A_i -> c A_i, B_i -> B_i / c, but the noise on it would: so noise and divergence
are those of the pair of equal norms, |A_i| = |B_i| (the gauge), whatever the numbers trained are.
A rank is cut where the mean over A and B of the median log alpha exceeds 3: then its noise drowns its signal.

Papers: BayesLoRA v2, v3 (arXiv 2506.22809); Molchanov et al. 2017 (arXiv 1701.05369). Cost: one training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dubio.errors import DubioError
from dubio.posteriors.base import Posterior, generator, shared
from dubio.posteriors.engine.stack import AdapterStack, LowRank
from dubio.posteriors.training.parameters import LoraParameters

K1, K2, K3 = 0.63576, 1.87320, 1.48695
B_START = 1e-3  # B starts uniform within it: at 0 a rank would have no gauge
CLAMP = (-20.0, 2.0)  # of the log-variances
_SPREAD = ".log_variance"
_B_SEED = 15_485_863  # B's stream lies apart from that of A and the head


@dataclass(frozen=True)
class RankDropoutParameters(LoraParameters):
    """Means `layer/NAME.a` `[M, r, in]`, `layer/NAME.b` `[M, out, r]`; `layer/NAME.log_variance` `[M, r]`.

    log_variance: where it starts.
    """

    log_variance: float = -8.0

    spreads: ClassVar[tuple[str, ...]] = (_SPREAD,)

    def start(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """As LoRA, but B uniform in +-1e-3."""
        found = super().start(seeds)
        for at, name in enumerate(self.targets):
            like = found[f"layer/{name}.b"]
            drawn = [torch.rand(like.shape[1:], generator=generator(seed + _B_SEED, at)) for seed in seeds]
            found[f"layer/{name}.b"] = (B_START * (2 * torch.stack(drawn) - 1)).to(like)
            found[f"layer/{name}{_SPREAD}"] = torch.full_like(found[f"layer/{name}.a"][:, :, 0], self.log_variance)
        return found

    def stack(self, values: Mapping[str, Tensor]) -> AdapterStack:
        """The means, in the gauge."""
        return self._with_noise(values, None)

    def sampled(self, values: Mapping[str, Tensor], generators: Sequence[torch.Generator]) -> AdapterStack:
        """A draw of A and B for each member."""
        return self._with_noise(values, generators)

    def kl(self, values: Mapping[str, Tensor]) -> Tensor:
        """`[M]`, nats, up to a constant."""
        total: list[Tensor] = []
        for name in self.targets:
            log_alpha = torch.cat(log_alphas(*self._layer(values, name)), dim=2)
            total.append(log_uniform_kl(log_alpha).flatten(1).sum(dim=1))
        return torch.stack(total).sum(dim=0)

    def posterior(self, values: Mapping[str, Tensor], prune_above: float) -> "RankDropout":
        """What was trained, of one member `[1, ...]`, without the ranks whose median log alpha exceeds `prune_above`.

        A layer may lose all of its ranks; of the whole adapter the best one stays in any case.
        """
        values = {name: value.detach() for name, value in values.items()}
        layers = {name: self._layer(values, name) for name in self.targets}
        scores = {name: rank_scores(*layer)[0] for name, layer in layers.items()}
        bar = max(prune_above, min(float(score.min()) for score in scores.values()))
        tensors = {
            f"mean|{name}": value for name, value in values.items()
            if not name.endswith(_SPREAD) and name.rpartition(".")[0].removeprefix("layer/") not in self.targets
        }  # fmt: skip
        for name, (a, b, log_variance) in layers.items():
            keep = scores[name] <= bar
            if bool(keep.any()):
                tensors[f"mean|layer/{name}.a"] = a[:, keep]
                tensors[f"mean|layer/{name}.b"] = b[:, :, keep]
                tensors[f"log_variance|layer/{name}"] = log_variance[:, keep]
        kept = {name: int((score <= bar).sum()) for name, score in scores.items()}
        facts = {"ranks": kept, "ranks_kept": sum(kept.values()), "ranks_trained": self.rank * len(kept),
                 "lowest_log_alpha": min(float(score.min()) for score in scores.values())}  # fmt: skip
        return RankDropout(tensors, {**facts, "kl": float(self.kl(values)[0])})

    def _layer(self, values: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor, Tensor]:
        """(A, B, log-variance) of a layer, in the gauge and within bounds."""
        a, b = gauged(values[f"layer/{name}.a"], values[f"layer/{name}.b"])
        return a, b, values[f"layer/{name}{_SPREAD}"].clamp(*CLAMP)

    def _with_noise(
        self, values: Mapping[str, Tensor], generators: Sequence[torch.Generator] | None
    ) -> AdapterStack:  # fmt: skip
        layers: dict[str, LowRank] = {}
        for name in self.targets:
            a, b, log_variance = self._layer(values, name)
            if generators is not None:
                deviation = (0.5 * log_variance).exp()
                noise = [
                    torch.stack([torch.randn(value.shape[1:], generator=g, device=g.device) for g in generators]).to(a)
                    for value in (a, b)
                ]
                a, b = a + deviation[:, :, None] * noise[0], b + deviation[:, None, :] * noise[1]
            layers[name] = LowRank(a, b, self.scale)
        return self._assemble(values, layers)


class RankDropout(Posterior):
    """tensors: `mean|NAME` `[1, ...]` in the gauge, `log_variance|layer/NAME` `[1, r]`. facts: ranks kept by layer."""

    kind: ClassVar[str] = "rank_dropout"
    samples: ClassVar[int] = 5

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws of A and B; everything else is shared. Raises DubioError where there are no variances."""
        values, spread = shared(self.part("mean"), samples), self.part("log_variance")
        if not spread:
            raise DubioError("the stored rank_dropout posterior lacks its variances; train it again")
        for at, (name, log_variance) in enumerate(spread.items()):
            deviation = (0.5 * log_variance).exp()
            for k, (part, scaled) in enumerate((("a", deviation[:, :, None]), ("b", deviation[:, None, :]))):
                value = values[f"{name}.{part}"]
                noise = torch.randn(value.shape, generator=generator(seed, 2 * at + k))
                values[f"{name}.{part}"] = value + scaled * noise
        return values


def gauged(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The same product B A with |A_i| = |B_i| for every rank; a rank that is 0 stays as it is."""
    norms = a.norm(dim=2), b.norm(dim=1)
    alive = (norms[0] > 0) & (norms[1] > 0)
    ratio = torch.where(alive, norms[1], 1.0) / torch.where(alive, norms[0], 1.0)
    c = ratio.sqrt()
    return a * c[:, :, None], b / c[:, None, :]


def log_alphas(a: Tensor, b: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """Element by element, of A `[M, r, in]` and of B `[M, r, out]`."""
    tiny = torch.finfo(a.dtype).tiny
    wide = log_variance[:, :, None]
    return wide - (a**2 + tiny).log(), wide - (b.transpose(1, 2) ** 2 + tiny).log()


def rank_scores(a: Tensor, b: Tensor, log_variance: Tensor) -> Tensor:
    """`[M, r]` mean over A and B of the median log alpha inside each rank."""
    first, second = log_alphas(a, b, log_variance)
    return (first.median(dim=2).values + second.median(dim=2).values) / 2


def log_uniform_kl(log_alpha: Tensor) -> Tensor:
    """KL to the log-uniform prior element by element, nats, up to a constant: 0 where alpha is infinite."""
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * softplus(-log_alpha)
