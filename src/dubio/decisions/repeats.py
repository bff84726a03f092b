"""What rows that repeat one another are worth as evidence of an error rate.

A table in which every text stands five times holds no more evidence than the texts alone, since texts are what is
drawn. Of b answered rows, with b_g of text g, a_g of these wrong, the error rate is that of rows, sum a_g / b, and

    worth(b) = b / max(sum b_g^2 / sum b_g,  sum a_g^2 / sum a_g)

is the number of rows, none a repeat, that tell as much: b over the size of the text that a row, or a wrong row, is of
on average. A test takes worth(b) rows and as many errors as keep the rate, in the binomial's continuous form

    P(X <= k | n, p) = 1 - I_p(k + 1, n - k),       I: the regularised incomplete beta function.

Every text k times over gives to the digit what the texts give by themselves, and so does their proof. Where texts
repeat unequally often, the error rate has at most the variance of worth(b) rows if how often a text repeats says
nothing of whether it is wrong; the second term is for where it does. That the promise holds there too is by simulation
(benchmarks/simulations_promise.py). What no wrong text shows is not seen: where only texts that repeat ten times are
wrong, and the table has a handful of them, too much is promised now and then.

Sources: Kish 1965 (design effect); Korn & Graubard 1998 (Clopper-Pearson of clustered rows).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import betaincc

from dubio.arrays import Bool, Float64, Int64, as_labels


@dataclass(frozen=True)
class Repeats:
    """How rows repeat. texts: number of distinct ones, None where no row repeats.

    answered_in, wrong_in `[N]`: among the first rows in order of uncertainty, up to each, how large the text of a row,
    and of a wrong row, is on average: at least 1.
    """

    texts: int | None
    answered_in: Float64
    wrong_in: Float64

    @classmethod
    def of(cls, groups: Any, wrong: Bool, order: Int64) -> Self:
        """groups: `[N]` whole numbers, shared by rows that repeat one another, or None. order: by uncertainty.

        Raises DubioError where groups are no whole numbers from 0, or not one a row.
        """
        if groups is None:
            return cls(None, np.ones(len(order)), np.ones(len(order)))
        ids = np.unique(as_labels(groups, "groups", len(order)), return_inverse=True)[1][order]
        texts = int(ids.max()) + 1
        answered, failed = (_mean_size(ids, counted) for counted in (np.ones(len(ids), np.int64), wrong[order]))
        return cls(None if texts == len(ids) else texts, answered, failed)

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return len(self.answered_in)

    @property
    def whole(self) -> float:
        """What all rows are worth, whichever of them are wrong."""
        return float(self.rows / self.answered_in[-1])

    def worth(self, answered: Int64) -> Float64:
        """`[K]` what the first so many rows are worth, in order of uncertainty."""
        return answered / np.maximum(self.answered_in, self.wrong_in)[answered - 1]

    @property
    def words(self) -> str:
        """`1500 calibration rows`, of how many distinct texts, and what these count for if they repeat unevenly."""
        if self.texts is None:
            return f"{self.rows} calibration rows"
        uneven = f", which count as {int(self.whole)}" if self.whole < 0.99 * self.texts else ""
        return f"{self.rows} calibration rows ({self.texts} distinct texts{uneven})"


def binomial_tail(errors: Float64, rows: Float64, risk: float) -> Float64:
    """`[K]` chance of at most so many errors among so many rows, fractions included, at the error rate `risk`."""
    right = rows - errors
    return np.where(right <= 0, 1.0, betaincc(errors + 1, np.where(right > 0, right, 1.0), risk))


def _mean_size(ids: Int64, counted: Any) -> Float64:
    """`[N]` among the counted of the first rows, up to each: the number in a row's text, on average over rows."""
    counted = counted.astype(np.int64)
    squares = np.cumsum((2 * _earlier(ids, counted) + 1) * counted)  # (b + 1)^2 - b^2 = 2 b + 1
    return np.maximum(squares / np.maximum(np.cumsum(counted), 1), 1.0)


def _earlier(ids: Int64, counted: Int64) -> Int64:
    """`[N]` number of counted rows of the same text that come before."""
    order = np.argsort(ids, kind="stable")
    before = np.cumsum(counted[order]) - counted[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(ids[order]) > 0]))
    out = np.empty_like(before)
    out[order] = before - np.repeat(before[starts], np.diff(np.append(starts, len(ids))))
    return out
