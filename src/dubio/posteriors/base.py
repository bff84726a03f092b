"""What every posterior over adapters is: named tensors and facts, and draws of S adapters from them.

A posterior lives in the space of a form's parameters (`layer/NAME.a`, `layer/NAME.core`, `head/NAME`, each `[S, ...]`),
and the form turns them into a stack: plain LoRA, or the cores of LoRA-XS. A new posterior is one subclass with `draw`,
one registry entry and one oracle test.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from dubio.errors import DubioError


@dataclass(frozen=True)
class Posterior(ABC):
    """tensors: what is stored, by name. facts: settings and what was learned, as JSON.

    Raises DubioError where a needed tensor or fact is missing.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    kind: ClassVar[str]
    samples: ClassVar[int] = 10  # how many are drawn unless told otherwise

    @abstractmethod
    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Parameters `[S, ...]` of S adapters; the same seed gives the same ones."""

    @property
    def centre(self) -> dict[str, Tensor] | None:
        """Parameters `[1, ...]` around which the network is linearised to predict; None: draws predict themselves."""
        return None

    @property
    def token_rate(self) -> float:
        """Share of the inputs of A that the engine is to drop, token by token."""
        return 0.0

    @property
    def stored(self) -> int:
        """How many numbers are kept."""
        return sum(value.numel() for value in self.tensors.values())

    def fact(self, name: str) -> Any:
        """A fact by name."""
        if name not in self.facts:
            raise DubioError(f"the stored {self.kind} posterior lacks {name!r}; fit it again")
        return self.facts[name]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix|`, without it; sorted, so that noise keeps to its tensors."""
        return {k[len(prefix) + 1 :]: v for k, v in sorted(self.tensors.items()) if k.startswith(f"{prefix}|")}

    def with_facts(self, **facts: Any) -> Self:
        """The same posterior with some facts set anew."""
        return type(self)(self.tensors, {**self.facts, **facts})


def shared(values: Mapping[str, Tensor], samples: int) -> dict[str, Tensor]:
    """Parameters `[1, ...]` as those of S equal samples, without copying."""
    return {name: value.expand(samples, *value.shape[1:]) for name, value in values.items()}


def generator(seed: int, index: int) -> torch.Generator:
    """A stream of random numbers of its own for each tensor."""
    return torch.Generator().manual_seed(1_000_003 * seed + index)
