"""Settings of a training run and the rows that it takes: checked before any work, and read without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dubio.arrays import Int64, as_labels
from dubio.data.texts import hash_rows
from dubio.errors import DubioError

# Of numbers among the settings of a run, its posterior's too: the least, and what they stay below.
RANGES: Mapping[str, tuple[float, float]] = {
    "rank": (1, 2**16), "epochs": (1, 10**6), "batch_size": (1, 10**6), "max_length": (1, 10**6), "dropout": (0, 1),
    "seed": (0, 2**32), "top_layers": (1, 10**4), "members": (2, 10**4), "learning_rate": (1e-12, 1e3),
    "deviations": (0, 1000), "beta": (1e-6, 1e6), "eps": (1e-6, 1e3), "log_variance": (-20, 2),
    "prune_above": (-100, 1e9), "rate": (1e-6, 1),
}  # fmt: skip


def range_of(name: str, whole: bool) -> tuple[float, float]:
    """The least that a setting may be, and what it stays below. whole: whether it is a whole number."""
    return RANGES.get(name, (1 if whole else 0, float("inf")))


@dataclass(frozen=True)
class TrainingPlan:
    """Settings of one run. epochs: the limit; the best epoch by validation accuracy is what is saved.

    precision: `float32`, `bfloat16` (autocast; weights stay float32), or `auto`: bfloat16 where the hardware has it.
    targets: ends of names of the layers to adapt, with commas (`query,value,output.dense`); None: query, key and value.
    top_layers: adapt the last so many blocks only; None: all. dropout: inside the adapter. base_dropout: whether the
    base's own stays on (off is a fifth faster on a CPU).
    """

    rank: int = 8
    alpha: int = 16
    targets: str | None = None
    top_layers: int | None = None
    dropout: float = 0.05
    base_dropout: bool = True
    learning_rate: float = 5e-4
    weight_decay: float = 0.1
    epochs: int = 10
    batch_size: int = 64
    max_length: int = 512
    seed: int = 0
    device: str = "cpu"
    precision: str = "auto"
    show: bool = True


@dataclass(frozen=True)
class LabelledTexts:
    """Texts (or pairs) with class indices `[N]`, and the hash of their content."""

    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: Int64
    sha256: str

    @property
    def rows_hash(self) -> NDArray[np.uint8]:
        """`[N, 16]` content hash of each row, as tables have them."""
        return hash_rows(self.texts, self.pairs)


def check_plan(plan: TrainingPlan, labels: Sequence[str], train: LabelledTexts, validation: LabelledTexts) -> None:
    """Raises DubioError on settings out of range, labels outside the classes, or rows that nothing is learned from."""
    if plan.precision not in ("auto", "float32", "bfloat16"):
        raise DubioError(f"unknown precision {plan.precision!r}; choose auto, float32 or bfloat16")
    for name in ("rank", "alpha", "learning_rate", "epochs", "batch_size", "max_length"):
        if not getattr(plan, name) > 0:
            raise DubioError(f"training setting {name} must be above 0, not {getattr(plan, name)}")
    if not 0 <= plan.dropout < 1:
        raise DubioError(f"training setting dropout must be at least 0 and below 1, not {plan.dropout}")
    for name, table in (("training", train), ("validation", validation)):
        as_labels(table.labels, f"{name} labels", len(table.texts), len(labels))
    if len(validation.texts) == 0:
        raise DubioError("there are no validation rows; give at least one")
    if len(np.unique(train.labels)) < 2:
        raise DubioError("the training rows are all of one class; give rows of at least two")
