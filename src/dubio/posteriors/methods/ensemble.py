"""A LoRA ensemble: M adapters trained apart, from other starts, on other orders of the same rows.

    p(y | x) = (1/M) sum_m softmax f_m(x)

Nothing is random once they are trained: the members are the samples. What keeps them near the base is the penalty on
their product (see `trainer`), or weight decay on B alone (arXiv 2310.00035).

Paper: Balabanov & Linander 2024 (arXiv 2402.12264). Cost: M trainings, M adapters to keep, M passes a row.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor

from dubio.errors import DubioError
from dubio.posteriors.base import Posterior


class Ensemble(Posterior):
    """tensors: the members' parameters, `member|NAME` `[M, ...]`."""

    kind: ClassVar[str] = "ensemble"

    @classmethod
    def of(cls, values: Mapping[str, Tensor], **facts: Any) -> Self:
        """From the members' parameters, NAME -> `[M, ...]`, with facts about them."""
        return cls({f"member|{name}": value for name, value in values.items()}, facts)

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """The first `samples` members; raises DubioError where there are fewer."""
        values = self.part("member")
        members = len(next(iter(values.values())))
        if samples > members:
            raise DubioError(f"this ensemble has {members} members, not {samples}; ask for at most so many")
        return {name: value[:samples] for name, value in values.items()}
