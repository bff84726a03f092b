"""SWAG over chosen parameters of an adapter: the cores of LoRA-XS (B-LoRA-XS), or A and B (SWAG-LoRA).

Along a run at a constant learning rate, at each collection t: the mean of theta and of theta^2 so far, and the last k
deviations from the mean at that moment, D = [theta_t - mean_t].

    theta = mean + sqrt(scale) * ( sqrt(var) * eps + D z / sqrt(k - 1) ),     eps, z standard normal, z of length k

scale: 0.5 in SWAG's own formula and the B-LoRA-XS paper's; 1.0 and 2.0 occur in that paper's code (`SCALES`). With
fewer than two deviations (k = 0 or 1, or one collection) there is no covariance, and the diagonal stands alone.
What is not chosen (the head, as in the paper) stays at its mean.

Papers: Maddox et al. 2019 (arXiv 1902.02476); B-LoRA-XS (arXiv 2502.12122); SWAG-LoRA (arXiv 2405.03425).
Cost: one training, |theta| (k + 2) numbers to keep, S passes a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from dubio.errors import DubioError
from dubio.posteriors.base import Posterior, generator, shared

SCALES = {"formula": 0.5, "evaluation": 1.0, "training": 2.0}


@dataclass
class Moments:
    """Running moments of parameters along a run, and their last k deviations; `add` takes the parameters `[1, ...]`.

    chosen: suffixes of the names that are Bayesian (`.core`, or `.a` and `.b`). every: steps from one collection to the
    next, for whoever calls `add`.
    """

    rank: int
    chosen: tuple[str, ...]
    every: int = 1
    count: int = 0
    mean: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    square: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    deviations: dict[str, list[Tensor]] = field(default_factory=dict[str, list[Tensor]])

    @property
    def key(self) -> str:
        """What decides on what is gathered along a given run."""
        return f"{self.rank} {self.chosen} {self.every}"

    def add(self, values: Mapping[str, Tensor]) -> None:
        """One collection."""
        self.count += 1
        for name, value in values.items():
            now = value.detach().double().cpu()
            if self.count == 1:
                self.mean[name], self.square[name] = now.clone(), now**2
            else:
                self.mean[name] += (now - self.mean[name]) / self.count
                self.square[name] += (now**2 - self.square[name]) / self.count
            if name.endswith(self.chosen):
                kept = self.deviations.setdefault(name, [])
                kept.append(now - self.mean[name])
                del kept[: max(0, len(kept) - self.rank)]

    def tensors(self) -> dict[str, Tensor]:
        """What was gathered so far, to be kept with the state of a run."""
        parts = {"count": torch.tensor(self.count)}
        parts |= {f"mean|{n}": v for n, v in self.mean.items()} | {f"square|{n}": v for n, v in self.square.items()}
        return parts | {f"deviations|{n}": torch.stack(v) for n, v in self.deviations.items() if v}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Becomes what `tensors` came from."""
        self.count = int(tensors["count"])
        for part in ("mean", "square"):
            setattr(self, part, {k.partition("|")[2]: v for k, v in tensors.items() if k.startswith(f"{part}|")})
        self.deviations = {k.partition("|")[2]: list(v) for k, v in tensors.items() if k.startswith("deviations|")}

    def posterior(self, scale: float = SCALES["formula"]) -> "Swag":
        """What was collected; raises DubioError before the first collection, or where nothing is chosen."""
        names = [name for name in self.mean if name.endswith(self.chosen)]
        if not names:
            raise DubioError(f"SWAG collected nothing of {', '.join(self.chosen)}; train longer, or choose others")
        tensors = {f"mean|{name}": value.float() for name, value in self.mean.items()}
        for name in names:
            tensors[f"variance|{name}"] = (self.square[name] - self.mean[name] ** 2).clamp(min=0).float()
            if self.rank and len(self.deviations[name]) > 1:
                tensors[f"deviations|{name}"] = torch.cat(self.deviations[name]).float()
        return Swag(tensors, {"scale": scale, "rank": self.rank, "collections": self.count})


class Swag(Posterior):
    """tensors: `mean|NAME` and `variance|NAME` `[1, ...]`, `deviations|NAME` `[k, ...]`. facts: scale."""

    kind: ClassVar[str] = "swag"
    samples: ClassVar[int] = 15

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws; the weights z of the deviations are common to all parameters of a sample."""
        scale = float(self.fact("scale"))
        if not scale >= 0:
            raise DubioError(f"SWAG's scale must be at least 0, not {scale}")
        values, variance, deviations = (
            shared(self.part("mean"), samples),
            self.part("variance"),
            self.part("deviations"),
        )
        columns = len(next(iter(deviations.values()))) if deviations else 0
        z = torch.randn(samples, columns, generator=generator(seed, 0))
        for at, (name, spread) in enumerate(variance.items(), start=1):
            noise = spread.sqrt() * torch.randn(samples, *spread.shape[1:], generator=generator(seed, at))
            if name in deviations:
                noise = noise + torch.einsum("sk,k...->s...", z, deviations[name]) / (columns - 1) ** 0.5
            values[name] = values[name] + scale**0.5 * noise
        return values
