"""Where the errors are: by class, by confused pair, and where a promise that holds on average does not hold.

A class is looked at from both sides. From its label: how many of its rows are missed. From its prediction, which is
what a user sees: how many rows that are called so are answered, and how many of those are wrong. A class is flagged
where its answered rows are wrong more often than the budget, and surely so where chance does not explain it: exact
binomial test of "at most the budget", Holm's correction over the classes, 5 %. Rows count as independent.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from dubio.arrays import Bool, Float64
from dubio.report.words import budget as in_percent

LEVEL = 0.05


@dataclass(frozen=True)
class ClassRow:
    """One class. labelled, missed: rows of this label, and those predicted otherwise. predicted: rows called so;
    wrong: of those; answered: of those under the threshold; answered_wrong: and wrong. p: of chance, corrected.
    """

    name: str
    labelled: int
    missed: int
    predicted: int
    wrong: int
    answered: int
    answered_wrong: int
    over: bool
    p: float

    @property
    def surely(self) -> bool:
        """Whether its answered rows are wrong more often than the budget beyond chance."""
        return self.over and self.p <= LEVEL

    @property
    def risk(self) -> float | None:
        """Share of wrong rows among the answered ones; None where none is answered."""
        return self.answered_wrong / self.answered if self.answered else None


@dataclass(frozen=True)
class Pair:
    """Rows of one label that are called another: how many, and how many of them are answered."""

    label: str
    predicted: str
    rows: int
    answered: int


def class_rows(
    predicted: Sequence[str], labels: Sequence[str], answered: Bool, budget: float
) -> list[ClassRow]:  # fmt: skip
    """A row for each class that occurs; first those over the budget, then those with most errors."""
    names = sorted({*predicted, *labels})
    at_of = {name: at for at, name in enumerate(names)}
    said, true = (np.array([at_of[name] for name in given], dtype=np.intp) for given in (predicted, labels))
    wrong = said != true

    def tally(of: NDArray[np.intp], where: Bool | None = None) -> list[int]:
        return np.bincount(of if where is None else of[where], minlength=len(names)).tolist()

    columns = (
        tally(true), tally(true, wrong), tally(said), tally(said, wrong), tally(said, answered),
        tally(said, answered & wrong),
    )  # fmt: skip
    p = _holm([float(binom.sf(k - 1, n, budget)) if n else 1.0 for n, k in zip(*columns[4:], strict=True)])
    rows = [
        ClassRow(name, *counts, over=counts[5] > budget * counts[4], p=float(p[at]))
        for at, (name, *counts) in enumerate(zip(names, *columns, strict=True))
    ]
    return sorted(rows, key=lambda r: (not r.surely, not r.over, -r.answered_wrong, -(r.missed + r.wrong), r.name))


def confused(predicted: Sequence[str], labels: Sequence[str], answered: Bool, most: int = 12) -> list[Pair]:
    """The pairs of label and another prediction with the most rows."""
    pairs = [(b, a) for a, b in zip(predicted, labels, strict=True)]
    found = Counter(pair for pair in pairs if pair[0] != pair[1])
    kept = Counter(pair for pair, under in zip(pairs, answered, strict=True) if under)
    order = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [Pair(label, said, rows, kept[label, said]) for (label, said), rows in order[:most]]


def in_words(rows: Sequence[ClassRow], budget: float) -> str:
    """What the table says of the promise, in one or two sentences."""
    over = [row for row in rows if row.over]
    sure = [row.name for row in rows if row.surely]
    if not any(row.answered for row in rows):
        return "No row is answered under this budget, so no class can be over it."
    words = f"The promise holds for all answered rows together, not for each class. Of {len(rows)} classes"
    if not over:
        return f"{words}, none has more than {in_percent(budget)} wrong among its answered rows."
    have = "has" if len(over) == 1 else "have"
    words += f", {len(over)} {have} more than {in_percent(budget)} wrong among the answered rows"
    if not sure:
        return f"{words}; with so few rows, chance may explain each of them."
    return f"{words}; surely so, beyond chance: {', '.join(sure[:8])}{' and others' if len(sure) > 8 else ''}."


def _holm(p_values: list[float]) -> Float64:
    """Holm's step-down adjustment of p-values `[K]` (Holm 1979)."""
    values = np.array(p_values, dtype=np.float64)
    order, out = np.argsort(values, kind="stable"), np.empty(len(values))
    scaled = values[order] * np.arange(len(values), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return out
