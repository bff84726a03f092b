"""MC-dropout inside the adapter (BayesLoRA): S masks on the input of A, the base untouched.

    y_s = W x + scale * B A (x * m_s / (1 - q)),      m_s [in] of Bernoulli(1 - q), one for each adapted layer

`masks` says whose they are. `sample` (the default): one mask a sample, the same for all rows and tokens, so that each
sample is a fixed function: a stack of A's with masked columns. Then Var[y] = scale^2 q / (1 - q) sum_j x_j^2 (B a_j)
(B a_j)' for a single layer. `token`: a mask for every token anew, as PEFT and the paper draw them; the numbers then
depend on which rows share a batch.

Paper: BayesLoRA (arXiv 2506.22809); Gal & Ghahramani 2016. Cost: nothing to train; S passes a row.
"""

from typing import ClassVar

import torch
from torch import Tensor

from dubio.errors import DubioError
from dubio.posteriors.base import Posterior, generator, shared


class McDropout(Posterior):
    """tensors: the adapter's parameters, `mean|NAME` `[1, ...]`. facts: rate q, masks."""

    kind: ClassVar[str] = "mc_dropout"
    samples: ClassVar[int] = 20

    @property
    def token_rate(self) -> float:
        """Rate of the masks that are drawn for every token."""
        return float(self.fact("rate")) if self.facts.get("masks") == "token" else 0.0

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Adapters with masked inputs; raises DubioError at a rate of 0, under which nothing varies."""
        rate = float(self.fact("rate"))
        if not 0 < rate < 1:
            raise DubioError(f"MC-dropout at rate {rate} is one and the same adapter; set a rate between 0 and 1")
        values = shared(self.part("mean"), samples)
        if self.token_rate:
            return values  # the engine draws the masks
        for at, (name, value) in enumerate(values.items()):
            if name.endswith(".a"):
                keep = torch.rand(samples, 1, value.shape[2], generator=generator(seed, at)) >= rate
                values[name] = value * keep.to(value) / (1 - rate)
        return values
