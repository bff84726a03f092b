"""ECE without its upward bias, an interval that holds the truth, and a test of calibration.

    D_b = sum over the rows of bin b of (p_i - y_i) / N,   ECE = sum over bins of |D_b|
Noise alone makes |D_b| positive, so that perfectly calibrated probabilities have an ECE above 0, and the interval of a
resampled ECE lies above the truth. What is known is how the noise is distributed: outcomes are drawn anew, once from
the stated probabilities (as if calibrated), once from probabilities moved to each bin's observed rate.
    Test: the share of draws from the stated probabilities whose ECE reaches the measured one; exact for any N.
    Debiased: ECE - (mean ECE of gaps d + noise - sum |d|), d the gaps, shrunk together by what noise explains of them;
        a gap of more than SURE standard deviations stays as it is.
    Low end: ECE minus the upper quantile of the noise at its most misleading: every gap that is not sure is all noise.
        0 where the test at that level does not speak against calibration.
    High end: the largest ECE at which one as small as the measured one is still as likely as the tail of the level,
        where its gaps are all the same number of standard deviations, which hides them best.
Rows of one unit (repeats) get their outcomes from one draw. Papers: Bröcker & Smith 2007 (consistency resampling);
Kumar et al. 2019 (arXiv 1909.10155) for debiasing; Andrews & Soares 2010 for which gaps are sure.
"""

from dataclasses import dataclass

import numpy as np

from dubio.arrays import Bool, Float64, Int64
from dubio.metrics.bootstrap import Bootstrap
from dubio.metrics.calibration import CalibrationGroups

CELLS = 1 << 20  # entries of a chunk of drawn outcomes
SURE = 3.0
STEPS = 30
AGAINST = 0.05  # p-value up to which the data speak against the stated probabilities


@dataclass(frozen=True)
class Miscalibration:
    """Of one scheme of bins: the plain ECE, the debiased one with its interval, and the p-value of calibration."""

    plain: float
    debiased: float
    low: float
    high: float
    p_value: float


def miscalibration(
    table: CalibrationGroups, schemes: tuple[str, ...], bootstrap: Bootstrap, units: Int64 | None = None
) -> dict[str, Miscalibration]:
    """Scheme ("equal_mass", "equal_width") -> what is known of its ECE, all on the same drawn outcomes.

    units: `[N]` numbers from 0; rows that repeat one another share one.
    """
    table, units = _in_order(table, units)
    bins = {scheme: table.members(scheme) for scheme in schemes}
    moved = _moved(table, table.members("equal_mass"))
    stacked = np.concatenate([bins[scheme] for scheme in schemes])
    stated, shifted = _noise(table.probability, moved, stacked.T, bootstrap, units)
    out: dict[str, Miscalibration] = {}
    start = 0
    for scheme in schemes:
        part = slice(start, start + len(bins[scheme]))
        start = part.stop
        gaps = bins[scheme] @ (table.probability - table.outcome)
        rates = bins[scheme] @ moved / np.maximum(bins[scheme].sum(axis=1), 1e-300)
        plain = float(getattr(table, scheme)(np.ones((1, len(table.outcome))))[0])
        out[scheme] = _judged(plain, Noisy(gaps, stated[:, part], shifted[:, part], rates, bins[scheme]), bootstrap)
    return out


def _in_order(table: CalibrationGroups, units: Int64 | None) -> tuple[CalibrationGroups, Int64 | None]:
    """Rows in an order of their own, units numbered as they come: what is drawn for a row hangs on no file's order."""
    sizes = np.zeros(len(table.outcome)) if units is None else np.bincount(units)[units]
    order = np.lexsort((sizes, table.outcome, table.probability))
    ordered = CalibrationGroups.of(table.probability[order], table.outcome[order] > 0, table.bins)
    if units is None:
        return ordered, None
    _, first, inverse = np.unique(units[order], return_index=True, return_inverse=True)
    return ordered, np.argsort(np.argsort(first))[inverse].astype(np.int64)


@dataclass(frozen=True)
class Noisy:
    """Gaps `[M]` of bins, their noise `[B, M]` if calibrated and at the observed rates `[M]`, members `[M, N]`."""

    gaps: Float64
    stated: Float64
    shifted: Float64
    rates: Float64
    members: Float64

    @property
    def sign(self) -> Float64:
        """`[M]` 1 or -1."""
        return np.where(self.gaps >= 0, 1.0, -1.0)


def _judged(plain: float, noisy: Noisy, bootstrap: Bootstrap) -> Miscalibration:
    tail, slack = (1 - bootstrap.level) / 2, 1e-12
    null = np.abs(noisy.stated).sum(axis=1)
    p_value = float((1 + (null >= plain - slack).sum()) / (len(null) + 1))
    deviation = noisy.shifted.std(axis=0)
    sure = np.abs(noisy.gaps) > SURE * np.maximum(deviation, noisy.stated.std(axis=0))
    worst = (noisy.shifted * noisy.sign)[:, sure].sum(axis=1) + np.abs(noisy.stated[:, ~sure]).sum(axis=1)
    low = max(0.0, plain - float(np.quantile(worst, 1 - tail)))
    if plain <= float(np.quantile(null, 1 - tail)) + slack:
        low = 0.0
    high = min(1.0, _high(plain, noisy, deviation, tail))
    debiased = _debiased(plain, noisy, deviation, sure)
    return Miscalibration(plain, min(max(debiased, low), high), low, high, p_value)


def _debiased(plain: float, noisy: Noisy, deviation: Float64, sure: Bool) -> float:
    weight = np.maximum(noisy.members.sum(axis=1), 1e-300)
    seen, noise = float((noisy.gaps**2 / weight).sum()), float((deviation**2 / weight).sum())
    kept = float(np.sqrt(max(0.0, 1 - noise / seen))) if seen > 0 else 0.0
    gaps = np.where(sure, noisy.gaps, kept * noisy.gaps)
    return plain - (float(np.abs(gaps + noisy.shifted).sum(axis=1).mean()) - float(np.abs(gaps).sum()))


def _high(plain: float, noisy: Noisy, deviation: Float64, tail: float) -> float:
    """Bisection over gaps of `size` standard deviations each; their noise grows with the rate that they stand for."""
    weight = np.maximum(noisy.members.sum(axis=1), 1e-300)
    here = np.maximum(noisy.rates * (1 - noisy.rates), 1e-12)
    low, high = 0.0, plain / max(float(deviation.sum()), 1e-300) + 8
    for _ in range(STEPS):
        size = (low + high) / 2
        gaps = size * noisy.sign * deviation
        rates = np.clip(noisy.rates - (gaps - noisy.gaps) / weight, 0.0, 1.0)
        noise = noisy.shifted * np.sqrt(np.maximum(rates * (1 - rates) / here, 1.0))
        if float((np.abs(gaps + noise).sum(axis=1) <= plain + 1e-12).mean()) > tail:
            low = size
        else:
            high = size
    return max(plain if deviation.sum() == 0 else 0.0, high * float(deviation.sum()))


def _moved(table: CalibrationGroups, members: Float64) -> Float64:
    """`[N]` probabilities scaled so that each bin has its observed rate, with one more row as stated."""
    rows = members.sum(axis=1) * len(table.outcome)
    stated = members @ table.probability / np.maximum(members.sum(axis=1), 1e-300)
    seen = (members @ table.outcome * len(table.outcome) + stated) / (rows + 1)
    of_row = members.argmax(axis=0)
    p, before, after = table.probability, stated[of_row], seen[of_row]
    less = p * after / np.maximum(before, 1e-300)
    more = 1 - (1 - p) * (1 - after) / np.maximum(1 - before, 1e-300)
    return np.clip(np.where(after < before, less, more), 0.0, 1.0)


def _noise(
    stated: Float64, moved: Float64, bins: Float64, bootstrap: Bootstrap, units: Int64 | None
) -> tuple[Float64, Float64]:
    """`[B, M]` noise of the bins' gaps with outcomes drawn from `stated` `[N]`, and from `moved`; bins `[N, M]`."""
    generator = np.random.default_rng(bootstrap.seed)
    groups = len(stated) if units is None else int(units.max()) + 1
    out = np.empty((2, bootstrap.draws, bins.shape[1]))
    step = max(1, CELLS // len(stated))
    for start in range(0, bootstrap.draws, step):
        drawn = generator.random((min(step, bootstrap.draws - start), groups))
        drawn = drawn if units is None else drawn[:, units]
        for at, p in enumerate((stated, moved)):
            out[at, start : start + len(drawn)] = (p - (drawn < p)) @ bins
    return out[0], out[1]
