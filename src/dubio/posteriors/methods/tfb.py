"""TFB, training-free Bayesianisation: isotropic noise on the update of a trained adapter, as much as the data bear.

    B = U diag(d) V',     B' = U diag(d),  A' = V' A  (so B' A' = B A),     A'_i ~ N(A'_i, (sigma / d_i)^2)  row by row

so that B' A' + noise is B A plus sigma times a standard normal matrix in the column space of U. sigma is the largest at
which the NLL on labelled rows rises by less than a share (0.3 %), found by bisection; a fall counts as no rise.

Paper: Shi et al. 2024, "Training-Free Bayesianization" (arXiv 2412.05723). Cost: minutes to search; S passes a row.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from dubio.errors import DubioError
from dubio.posteriors.base import Posterior, generator, shared

_FLOOR = 1e-6  # of the largest singular value: a direction that B does not use is left as it is


class Tfb(Posterior):
    """tensors: the rotated adapter, `mean|NAME` `[1, ...]`, and `singular|NAME.b` `[r]`. facts: sigma."""

    kind: ClassVar[str] = "tfb"

    @classmethod
    def rotated(cls, values: dict[str, Tensor], sigma: float = 0.0) -> "Tfb":
        """From an adapter's parameters `[1, ...]`; raises DubioError where they are not those of a LoRA."""
        tensors: dict[str, Tensor] = {f"mean|{name}": value for name, value in values.items()}
        names = [name for name in values if name.endswith(".b")]
        if not names:
            raise DubioError("TFB needs a LoRA adapter with A and B; this one has neither")
        for name in names:
            u, d, vh = torch.linalg.svd(values[name][0].double(), full_matrices=False)
            a = f"{name[:-2]}.a"
            tensors[f"mean|{name}"] = (u * d).float().unsqueeze(0)
            tensors[f"mean|{a}"] = (vh @ values[a][0].double()).float().unsqueeze(0)
            tensors[f"singular|{name}"] = d.float()
        return cls(tensors, {"sigma": sigma})

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Adapters with noise on A'; the same seed gives the same noise at any sigma."""
        sigma, values = float(self.fact("sigma")), shared(self.part("mean"), samples)
        for at, (name, d) in enumerate(self.part("singular").items()):
            a = f"{name[:-2]}.a"
            noise = torch.randn(samples, *values[a].shape[1:], generator=generator(seed, at))
            spread = torch.where(d > _FLOOR * d.max(), sigma / d.clamp(min=1e-30), 0.0)
            values[a] = values[a] + noise * spread[:, None]
        return values

    def searched(
        self, nll: Callable[["Tfb"], float], *, tolerance: float = 0.003, bounds: tuple[float, float] = (1e-3, 1.0),
        steps: int = 7,
    ) -> "Tfb":  # fmt: skip
        """With the largest sigma whose NLL is at most (1 + tolerance) times that at sigma 0, by bisection in log sigma.

        nll: mean NLL of a posterior's mean prediction on labelled rows. At the lower bound even a violation is kept.
        """
        base = nll(self.with_facts(sigma=0.0))
        low, high = (torch.tensor(b, dtype=torch.float64).log().item() for b in bounds)
        trail: list[tuple[float, float]] = []
        for _ in range(steps):
            middle = (low + high) / 2
            sigma = float(torch.tensor(middle).exp())
            found = nll(self.with_facts(sigma=sigma))
            trail.append((sigma, found))
            low, high = (middle, high) if found <= (1 + tolerance) * base else (low, middle)
        return self.with_facts(
            sigma=float(torch.tensor(low).exp()), nll_at_zero=base, search=[list(step) for step in trail]
        )
