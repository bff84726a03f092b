"""The guard: does a candidate rank errors above right rows better than the incumbent, or was it luck?

If the two were equally good, it would not matter which of them gave a row which of its two scores. So the scores of
random rows are swapped, and the gain in error ROC-AUC is compared with the gains after swaps. Scores are first replaced
by their ranks within the fold, so that two scales can be swapped, and rows that repeat one another are swapped as one.

With x and y the ranks of incumbent and candidate, m wrong rows i and n right rows j of a fold,

    gain = sum_i c_i + sum_j c_j,     c_i = (P(y_i) - P(x_i)) / m,     c_j = (Q(y_j) - Q(x_j)) / n,

P(v) the share of all x_j and y_j below v, Q(v) the share of all x_i and y_i above v (ties count one half). A swap of
a row changes the sign of its c and nothing else, exactly: so a swap costs no new ranking. Right rows vary as well as
wrong ones, and both are in it. Folds are weighed by their pairs.

The swaps also give an interval: if the candidate were better by t and by chance no more, c less its share of t would
be as likely to have either sign, and then t lies below each of B random partial means, sum(c) / sum(share) over a
random half of the rows, with equal probability (typical values). The k-th smallest of B bounds t at confidence
1 - k / (B + 1); the candidate is kept where that lies above 0, which is the swap test itself. Errors share n / (m + n)
of t among them, and right rows the rest: so much do the ranks of either kind move.

With m wrong rows even a candidate that ranks each of them higher wins by luck with probability 2^-m: below
`fewest_errors` nothing is kept.

Sources: Venkatraman & Begg 1996 and Bandos et al. 2005 (swaps of paired scores); Hartigan 1969 (typical values).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import ceil, log2
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dubio.arrays import Bool, Float64
from dubio.errors import DubioError

CELLS = 1 << 20  # entries of a chunk of swaps: bounds memory
ROUNDING = 1e-12


@dataclass(frozen=True)
class Swaps:
    """How to test: number of random swaps, their seed, and the level of the two-sided interval."""

    draws: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.level < 1 or self.rank < 1:
            raise DubioError(
                f"a guard needs 0 < level < 1 and draws >= 2 / (1 - level) - 1, got {self.level} and {self.draws}"
            )

    @property
    def rank(self) -> int:
        """Which of the sorted partial means bounds the gain from below (and, counted from above, from above)."""
        return int((1 - self.level) / 2 * (self.draws + 1) + 1e-9)


@dataclass(frozen=True)
class GuardVerdict:
    """Does a candidate beat the incumbent on held-out rows? gain: ROC-AUC difference with its interval from swaps."""

    kept: bool
    gain: float
    low: float
    high: float
    draws: int
    level: float

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def fewest_errors(level: float = 0.95) -> int:
    """Wrong rows (or groups of repeats with one) below which nothing is kept: the least m with 2^-m <= (1 - level) / 2.

    For the best of K at 95 % in all, level is 1 - 0.05 / K.
    """
    return ceil(log2(2 / (1 - level)) - 1e-9)


def guard(
    candidate: Float64, incumbent: Float64, errors: Bool, folds: NDArray[np.int64],
    *, units: NDArray[np.int64] | None = None, draws: int = 2000, level: float = 0.95, seed: int = 0,
) -> GuardVerdict:  # fmt: skip
    """Keeps a candidate only if swaps of the paired scores say that its ROC-AUC is higher than the incumbent's.

    candidate, incumbent: `[N]` scores of the same held-out rows. Pairs are compared within a fold only, since
    out-of-fold scores of different folds come from different fits. units: `[N]` number of the unit that each row
    belongs to, where rows that repeat one another are one unit and swapped together; None: every row is its own.
    Kept means: the interval lies above zero. Raises DubioError where no fold has both right and wrong rows.
    """
    return guards({"it": candidate}, incumbent, Judged.of(errors, folds, units), Swaps(draws, seed, level))["it"]


@dataclass(frozen=True)
class Judged:
    """Held-out rows as the guard sees them: errors `[N]`, unit `[N]` of each row, and each fold's rows.

    folds: those with both right and wrong rows. wrong: number of units with an error in them.
    """

    errors: Bool
    unit: NDArray[np.int64]
    folds: tuple[NDArray[np.int64], ...]
    wrong: int

    @classmethod
    def of(cls, errors: Bool, folds: NDArray[np.int64], units: NDArray[np.int64] | None = None) -> Self:
        """From errors `[N]`, folds `[N]` and units `[N]`; raises DubioError where no fold has a pair to compare."""
        every = (np.flatnonzero(folds == fold) for fold in np.unique(folds))
        parts = tuple(rows for rows in every if 0 < errors[rows].sum() < len(rows))
        if not parts:
            raise DubioError("the guard needs both right and wrong rows; give more calibration rows")
        unit = np.arange(len(errors)) if units is None else np.unique(units, return_inverse=True)[1]
        seen = np.concatenate(parts)
        return cls(errors, unit, parts, len(np.unique(unit[seen][errors[seen]])))


def guards(
    candidates: Mapping[str, Float64], incumbent: Float64, judged: Judged, swaps: Swaps
) -> dict[str, GuardVerdict]:
    """The guard's verdict on each of many candidates `[N]`, all under the same swaps of the judged rows."""
    if not candidates:
        return {}
    parts = np.stack([_parts(scores, incumbent, judged) for scores in candidates.values()])
    gains, shares = parts.sum(axis=1), _shares(judged)
    sums = [(half @ parts.T, half @ shares) for half in _halves(len(shares), swaps)]
    above, below = (np.concatenate(columns) for columns in zip(*sums, strict=True))
    # No row in the half bounds nothing, on either side.
    low, high = (
        np.sort(np.where(below[:, None] > ROUNDING, above / np.maximum(below, ROUNDING)[:, None], nothing), axis=0)
        for nothing in (-np.inf, np.inf)
    )
    low, high = (np.clip(means[at], -1.0, 1.0) for means, at in ((low, swaps.rank - 1), (high, -swaps.rank)))
    enough = judged.wrong >= fewest_errors(swaps.level)
    return {
        name: GuardVerdict(bool(enough and low[k] > ROUNDING), float(gains[k]), float(low[k]), float(high[k]),
                           swaps.draws, swaps.level)
        for k, name in enumerate(candidates)
    }  # fmt: skip


def _halves(units: int, swaps: Swaps) -> Iterator[Float64]:
    """Chunks `[b, U]` of 0 and 1: whether a unit is in the random half."""
    generator = np.random.default_rng(swaps.seed)
    step = max(1, CELLS // units)
    for start in range(0, swaps.draws, step):
        size = min(step, swaps.draws - start)
        bits = np.unpackbits(np.frombuffer(generator.bytes(size * -(-units // 8)), dtype=np.uint8).reshape(size, -1), 1)
        yield bits[:, :units].astype(np.float64)


def _weights(judged: Judged) -> Float64:
    """`[F]` share of each fold in all pairs of a wrong and a right row."""
    pairs = [float(wrong * (len(rows) - wrong)) for rows in judged.folds for wrong in [int(judged.errors[rows].sum())]]
    return np.array(pairs) / sum(pairs)


def _shares(judged: Judged) -> Float64:
    """`[U]` share of a unit in a gain, 1 in all."""
    out = np.zeros(int(judged.unit.max()) + 1)
    for rows, weight in zip(judged.folds, _weights(judged), strict=True):
        errors = judged.errors[rows]
        wrong, right = int(errors.sum()), int((~errors).sum())
        share = np.where(errors, right / wrong, wrong / right) / len(rows)
        out += weight * np.bincount(judged.unit[rows], weights=share, minlength=len(out))
    return out


def _parts(candidate: Float64, incumbent: Float64, judged: Judged) -> Float64:
    """`[U]` c of each unit, as in the module's equations: their sum is the gain."""
    out = np.zeros(int(judged.unit.max()) + 1)
    for rows, weight in zip(judged.folds, _weights(judged), strict=True):
        wrong = judged.errors[rows]
        new, old = (np.asarray(rankdata(scores[rows]), dtype=np.float64) for scores in (candidate, incumbent))
        c = np.empty(len(rows))
        for kind in (wrong, ~wrong):
            others = np.sort(np.concatenate([new[~kind], old[~kind]]))
            c[kind] = (_below(others, new[kind]) - _below(others, old[kind])) / kind.sum()
        c[~wrong] *= -1
        out += weight * np.bincount(judged.unit[rows], weights=c, minlength=len(out))
    return out


def _below(ranked: Float64, values: Float64) -> Float64:
    """Share of `ranked` (ascending) below each value, ties as one half."""
    return (np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")) / (2 * len(ranked))
