"""A threshold on uncertainty under which the error rate keeps to a budget, with a finite-sample promise.

Rule: answer a row iff uncertainty <= threshold. With probability at least 1 - delta over the draw of the calibration
rows, the error rate among answered rows of the same population is at most `risk`; or no threshold is given.

Candidate thresholds are quantiles of the calibration uncertainties, chosen without looking at a label: from a safe end
of n_0 rows upwards in steps of 1 % of the rows. Each is tested by the exact binomial test of "error rate > risk", which
rejects at level delta iff the Clopper-Pearson upper bound of its errors is at most `risk`. The walk stops at the first
candidate that is not rejected (fixed-sequence testing), so the chance of accepting a bad one is that of the first bad
candidate alone, at most delta, however many are tried. Candidates being sample quantiles, this is exact where the error
rate does not fall as uncertainty rises, and holds up to O(1/N) otherwise.

n_0 is where a part 0.6 times as wrong as the budget passes with probability 0.9, kept between 5 % and 30 % of the rows:
a walk that starts where even a good part may fail mostly stops at once. In a table with rows to spare, a fifth of delta
is kept for a second start at 30 %, so that a few mislabelled rows at the safe end do not forbid everything; the level
of a walk that has not failed is added to it (the fallback procedure), so nothing is lost where none fails.

Rows that repeat one another are worth fewer (repeats.py): sizes of a candidate are counted in rows that do not repeat.

Sources: Clopper & Pearson 1934; Geifman & El-Yaniv 2017 (arXiv 1705.08500); Angelopoulos et al. 2021, Learn then Test
(arXiv 2110.01052) for fixed-sequence testing; Wiens 2003 for the fallback procedure.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.stats import beta, binom

from dubio.arrays import Bool, Float64, Int64, as_errors, as_numpy, as_vector
from dubio.decisions.repeats import Repeats, binomial_tail
from dubio.errors import DubioError
from dubio.metrics.selective import risk_coverage_curve

STEP = 0.01
POWER = 0.9
GOOD_PART = 0.6  # of the budget: the error rate of a part that should pass
SAFE_END = (0.05, 0.3)  # least and greatest share of the rows with which the walk starts
SECOND_START = 0.2  # share of delta


@dataclass(frozen=True)
class RiskThreshold:
    """What can be promised at budget `risk` with confidence 1 - delta.

    threshold: answer iff uncertainty <= threshold; None where nothing can be promised. rows: calibration rows;
    coverage: share of them answered; answered, errors: how many, and how many of those were wrong. upper_bound: of
    the error rate among answered rows, at confidence 1 - delta. needed_rows: without a threshold, about how many
    calibration rows it would take if the best observed error rate persists; None if it is not below the budget.
    texts: number of distinct texts, where rows repeat one another; else None.
    """

    threshold: float | None
    risk: float
    delta: float
    rows: int
    coverage: float
    answered: int
    errors: int
    upper_bound: float | None
    needed_rows: int | None
    promise: str
    texts: int | None = None

    def answers(self, uncertainty: Any) -> Bool:
        """`[N]` True where the rule answers; all False without a threshold. Raises DubioError on NaN or infinity."""
        values = as_vector(uncertainty, "uncertainty")
        return np.zeros(len(values), dtype=np.bool_) if self.threshold is None else values <= self.threshold


def risk_threshold(
    uncertainty: Any, errors: Any, risk: float, delta: float = 0.1, *, groups: Any = None
) -> RiskThreshold:  # fmt: skip
    """The largest threshold on uncertainty `[N]` that can be promised, given errors `[N]` (0/1) of calibration rows.

    groups: `[N]` whole numbers, the same for rows that repeat one another: they count as one text, where each alone
    would feign evidence. None: no row repeats.
    The rows must not have been used to fit the score or to choose among scores, or the promise is void.
    Raises DubioError on no rows, or `risk` or `delta` outside (0, 1).
    """
    check_budget(risk, delta)
    for name, given in (("uncertainty", uncertainty), ("errors", errors)):
        if as_numpy(given).dtype.kind not in "fiub":
            kind = type(given).__name__
            raise DubioError(
                f"{name} must be numbers, one a row, not {kind}; extract and score first: dubio.extract(model, rows)"
            )
    values = as_vector(uncertainty, "uncertainty")
    wrong = as_errors(errors, rows=len(values))
    if len(values) == 0:
        raise DubioError("no calibration rows; a threshold needs some")
    order = np.argsort(values, kind="stable")
    ranked, cumulative = values[order], np.cumsum(wrong[order]).astype(np.int64)
    repeats = Repeats.of(groups, wrong, order)
    answered = _candidates(ranked, repeats.whole, risk, delta)
    failures, worth = cumulative[answered - 1], repeats.worth(answered)
    p_values = binomial_tail(failures / answered * worth, worth, risk)
    accepted = _walk(p_values, _fresh_levels(answered, len(values), repeats.whole, risk, delta))
    if accepted is None:
        needed = _needed_rows(risk_coverage_curve(values, wrong).y, repeats.whole, risk, delta)
        words = _refusal(repeats, needed, risk, delta)
        return RiskThreshold(None, risk, delta, len(values), 0.0, 0, 0, None, needed, words, repeats.texts)
    rows, failed = int(answered[accepted]), int(failures[accepted])
    coverage = rows / len(values)
    promise = (
        f"At most {_percent(risk)} of the answered rows are wrong, with confidence {_percent(1 - delta)}: "
        f"of {repeats.words} {rows} ({coverage:.1%}) are answered and {failed} of those are wrong."
    )
    bound = float(upper_bound(failures / answered * worth, worth, delta)[accepted])
    return RiskThreshold(
        float(ranked[rows - 1]), risk, delta, len(values), coverage, rows, failed, bound, None, promise, repeats.texts
    )


def check_budget(risk: float, delta: float) -> None:
    """Raises DubioError unless both lie in (0, 1)."""
    for name, value in (("risk", risk), ("delta", delta)):
        if not 0 < value < 1:
            raise DubioError(f"{name} must lie strictly between 0 and 1, got {value}")


def upper_bound(errors: Any, rows: Any, delta: float) -> Float64:
    """`[K]` one-sided Clopper-Pearson upper bounds of error rates, each at confidence 1 - delta."""
    right = np.asarray(rows, dtype=np.float64) - errors
    bound = beta.ppf(1 - delta, np.asarray(errors) + 1, np.where(right > 0, right, 1.0))
    return np.where(right <= 0, 1.0, bound).astype(np.float64)


def smallest_rows(risk: float, delta: float) -> int:
    """Fewest answered rows that can pass, all of them right: the smallest n with (1 - risk)^n <= delta."""
    return int(np.ceil(np.log(delta) / np.log1p(-risk) - 1e-9))


def _candidates(ranked: Float64, worth: float, risk: float, delta: float) -> Int64:
    """`[K]` numbers of rows answered by each candidate, ascending; rows tied with a candidate are included.

    worth: of all rows, where some repeat. A candidate of so many texts is looked for where so many rows are worth it.
    """
    start = min(max(_first_size(np.array([worth]), risk, delta)[0], smallest_rows(risk, delta)), int(worth))
    of_texts = np.arange(max(start, 1), worth, max(STEP * worth, 1.0)).astype(np.int64)
    rows = np.round(of_texts * (len(ranked) / worth)).astype(np.int64)
    counts = np.append(rows[rows < len(ranked)], len(ranked))
    return np.unique(np.searchsorted(ranked, ranked[counts - 1], side="right")).astype(np.int64)


def _fresh_levels(answered: Int64, rows: int, worth: float, risk: float, delta: float) -> Float64:
    """`[K]` the part of delta that starts at each candidate: all at the first, or shared with a second start."""
    fresh = np.zeros(len(answered))
    second = int(np.searchsorted(answered, SAFE_END[1] * rows))
    # Rows to spare: so many that a split of delta costs next to nothing.
    to_spare = SAFE_END[1] * worth >= 2 * _strong_size(risk, delta)
    share = SECOND_START if to_spare and second < len(answered) else 0.0
    fresh[0] += (1 - share) * delta
    fresh[second if share else 0] += share * delta
    return fresh


def _walk(p_values: Float64, fresh: Float64) -> int | None:
    """The last candidate that the fallback procedure rejects: each hands its level on, and loses it where it fails."""
    level, last = 0.0, None
    for at, (p_value, own) in enumerate(zip(p_values, fresh, strict=True)):
        level += own
        if level > 0 and p_value <= level:
            last = at
        else:
            level = 0.0
    return last


def _first_size(rows: Any, risk: float, delta: float) -> Int64:
    """`[K]` rows in the safe end of tables of so many calibration rows."""
    least, most = (np.ceil(share * rows) for share in SAFE_END)
    return np.clip(_strong_size(risk, delta), least, most).astype(np.int64)


@cache
def _strong_size(risk: float, delta: float) -> int:
    """About the fewest rows at which a part GOOD_PART times as wrong as the budget passes with probability POWER."""
    sizes = np.unique(np.geomspace(1, 1e7, 1000).astype(np.int64))
    allowed = binom.ppf(delta, sizes, risk) - 1
    strong = binom.cdf(allowed, sizes, GOOD_PART * risk) >= POWER
    return int(sizes[np.argmax(strong)]) if strong.any() else int(sizes[-1])


def _needed_rows(observed: Float64, worth: float, risk: float, delta: float) -> int | None:
    """About how many calibration rows would let the safe end pass, from the observed risk `[N]` at each k rows.

    Rows that repeat as these do are worth as much less than their number as these, whose worth is given.
    The safe end of a larger table is a smaller share of it; its error rate is taken to be the best observed at that
    share or above, since a safe end that looks worse than a larger part is mostly noise.
    """
    n = len(observed)
    best = np.minimum.accumulate(observed[::-1])[::-1]
    rows = np.unique(np.geomspace(1.1 * worth + 1, max(1e9, 10.0 * worth), 1000).astype(np.int64))
    size = np.maximum(_first_size(rows, risk, delta), 1)
    rate = best[np.clip(np.ceil(size / rows * n).astype(np.int64) - 1, 0, n - 1)]
    bound = beta.ppf(1 - delta, rate * size + 1, np.maximum(size * (1 - rate), 1e-9))
    enough = (bound <= risk) & (rate < risk)
    return two_digits(int(rows[np.argmax(enough)] * (n / worth))) if enough.any() else None


def two_digits(count: int) -> int:
    """Rounded up to two significant digits: more would feign a precision that the estimate lacks."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def _refusal(repeats: Repeats, needed: int | None, risk: float, delta: float) -> str:
    what = (
        f"No threshold can be promised: {repeats.words} do not show that at most {_percent(risk)} of any "
        f"answered part is wrong, with confidence {_percent(1 - delta)}"
    )
    if needed is None:
        return f"{what}; even the most certain rows are observed to be wrong more often, so raise the budget."
    return f"{what}; about {needed:,} of them, {needed / repeats.rows:.1f} times as many, would be needed."


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"
