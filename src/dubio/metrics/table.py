"""A row of a table of metrics, and how rows get their intervals: smooth, exact, resampled, or none and why."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from dubio.arrays import Bool, Float64
from dubio.errors import DubioError
from dubio.metrics import ranking, selective
from dubio.metrics.bootstrap import Bootstrap, Resampled, Statistic, resample
from dubio.metrics.calibration import CalibrationGroups
from dubio.metrics.influence import SMOOTH, Influence, Ranked, negated, worst_prr
from dubio.metrics.intervals import (
    FEWEST_FLAGGED,
    FEWEST_UNDER,
    LINEAR,
    LOG,
    LOGIT,
    Interval,
    Kinds,
    Scale,
    share,
    smooth,
)
from dubio.metrics.miscalibration import AGAINST, Miscalibration, miscalibration
from dubio.metrics.ties import Cumulative, TieGroups

DETECTION: dict[str, Callable[[Cumulative], Float64]] = {
    "error_roc_auc": ranking.roc_auc_of,
    "error_pr_auc": ranking.pr_auc_of,
    "fpr_at_95_tpr": ranking.fpr_at_tpr_of,
    "aurc": selective.aurc_of,
    "e_aurc": selective.e_aurc_of,
    "augrc": selective.augrc_of,
    "prr": selective.prr_of,
    "risk_at_coverage_80": lambda counts: selective.risk_at_coverage_of(counts, 0.8),
    "risk_at_coverage_90": lambda counts: selective.risk_at_coverage_of(counts, 0.9),
    "coverage_at_risk_5": lambda counts: selective.coverage_at_risk_of(counts, 0.05),
    "coverage_at_risk_10": lambda counts: selective.coverage_at_risk_of(counts, 0.1),
}
SCALES = {
    "error_roc_auc": LOGIT,
    "error_pr_auc": LOGIT,
    "aurc": LOGIT,
    "e_aurc": LOG.upto(1.0),
    "augrc": LOG.upto(0.5),
    "prr": LOG,
}
COVERAGES = {"risk_at_coverage_80": 0.8, "risk_at_coverage_90": 0.9}
RISKS = {"coverage_at_risk_5": 0.05, "coverage_at_risk_10": 0.1}
BIASED = "noise makes a plain ECE too large, so that it has no interval; see the debiased one"


@dataclass(frozen=True)
class Metric:
    """One row of a table: a value and the interval low to high, or, where one of them is None, in words why it is so.

    value None: undefined on these rows. low and high None: there is no interval, or none that would be honest. Of a
    test of calibration, why says the finding.
    """

    method: str
    metric: str
    split: str
    value: float | None
    low: float | None = None
    high: float | None = None
    why: str | None = None

    @property
    def number(self) -> float:
        """The value; raises DubioError, which says why, where there is none."""
        if self.value is None:
            raise DubioError(f"{self.metric} of {self.method} on {self.split} is undefined: {self.why or 'no value'}")
        return self.value


@dataclass(frozen=True)
class Judged:
    """Whose rows these are: the split, which rows are wrong and repeat one another, and how to resample."""

    split: str
    kinds: Kinds
    bootstrap: Bootstrap

    def row(self, method: str, name: str, value: float, interval: Interval) -> Metric:
        """A row with its interval, or one without a value where it is NaN."""
        if np.isnan(value):
            return Metric(method, name, self.split, None, why=self.kinds.one_sided())
        return Metric(method, name, self.split, value, *interval)

    def smooth(self, influence: Influence, scale: Scale = LINEAR) -> Interval:
        """Of a smooth metric, at the level of the bootstrap."""
        return smooth(influence, self.kinds, self.bootstrap.level, scale)

    def share(self, value: float, members: Bool) -> Interval:
        """Of the share of wrong rows among the rows `[N]` that are members."""
        return share(value, members, self.kinds, self.bootstrap.level)

    def resampled(self, statistics: Mapping[str, Statistic]) -> dict[str, dict[str, Resampled]]:
        """Statistics on redrawn units, so that rows that repeat one another stay together."""
        unit = self.kinds.unit
        if self.kinds.units is None:
            return resample(statistics, [len(unit)], self.bootstrap)
        of_units = {name: _by_unit(statistic, self.kinds) for name, statistic in statistics.items()}
        return resample(of_units, [int(unit.max()) + 1], self.bootstrap)


def detection(on: Judged, groups: Mapping[str, TieGroups], names: tuple[str, ...], prefix: str = "") -> list[Metric]:
    """Rows of metrics of DETECTION for every method's sorted rows; what is resampled is so on the same draws."""
    once = {method: found.cumulate() for method, found in groups.items()}
    values = {m: {name: float(DETECTION[name](counts)[0]) for name in names} for m, counts in once.items()}
    open_ = {m: _to_resample(on, found, len(groups[m])) for m, found in values.items()}
    drawn = on.resampled({m: _statistic(groups[m], wanted) for m, wanted in open_.items() if wanted})
    out: list[Metric] = []
    for method, found in values.items():
        ranked = Ranked.of(groups[method])
        for name, value in found.items():
            if name in drawn.get(method, {}):
                interval = of_draws(drawn[method][name], on.bootstrap)
            else:
                interval = Interval(None, None) if np.isnan(value) else _interval(on, ranked, name, value)
            out.append(on.row(method, prefix + name, value, interval))
    return out


def calibration(
    on: Judged, method: str, table: CalibrationGroups, names: Mapping[str, str], p_name: str
) -> Iterator[Metric]:
    """Rows of the plain and the debiased ECE of each scheme (scheme -> name), and of the test of calibration."""
    once, few = np.ones((1, len(table.outcome))), of_draws(None, on.bootstrap).why
    enough = replace(
        on.bootstrap, draws=max(on.bootstrap.draws, _fewest_draws(on.bootstrap))
    )  # the value needs them too
    found = miscalibration(table, tuple(names), enough, on.kinds.units)
    for scheme, name in names.items():
        yield Metric(method, name, on.split, float(getattr(table, scheme)(once)[0]), why=BIASED)
        known = found[scheme]
        ends = Interval(None, None, few) if few else Interval(known.low, known.high)
        yield Metric(method, f"{name}_debiased", on.split, known.debiased, *ends)
    if not few:
        tested = found["equal_mass"]
        yield Metric(method, p_name, on.split, tested.p_value, why=finding(tested))


def finding(known: Miscalibration) -> str:
    """What the test of calibration found, in words."""
    if known.p_value > AGAINST:
        return "nothing speaks against these probabilities"
    return f"these probabilities are off by {known.debiased:.3f} on average"


def of_draws(found: Resampled | None, bootstrap: Bootstrap) -> Interval:
    """The percentile interval of resamples, or why there is none."""
    needed = _fewest_draws(bootstrap)
    if bootstrap.draws < needed:
        return Interval(None, None, f"{bootstrap.draws} draws are too few for an interval; give at least {needed}")
    ends = None if found is None else found.interval(bootstrap.level)
    return Interval(None, None) if ends is None else Interval(*ends)


def _fewest_draws(bootstrap: Bootstrap) -> int:
    """Draws below which no percentile of this level is one of them."""
    return int(np.ceil(2 / (1 - bootstrap.level) - 1e-9))


def _by_unit(statistic: Statistic, kinds: Kinds) -> Statistic:
    unit = kinds.unit
    return lambda weights: statistic(weights[:, unit])


def _statistic(groups: TieGroups, names: tuple[str, ...]) -> Statistic:
    def statistic(weights: Float64) -> Mapping[str, Float64]:
        counts = groups.cumulate(weights)
        return {name: DETECTION[name](counts) for name in names}

    return statistic


def _to_resample(on: Judged, values: Mapping[str, float], rows: int) -> tuple[str, ...]:
    """The metrics that are not smooth and yet have enough rows for percentiles."""
    return tuple(
        name
        for name, value in values.items()
        if name not in SCALES and name not in COVERAGES and not np.isnan(value) and not _rough(on, name, value, rows)
    )


def _rough(on: Judged, name: str, value: float, rows: int) -> str | None:
    """Why a metric that hangs on single rows has no interval, in words."""
    if name not in RISKS:
        return on.kinds.too_few(FEWEST_FLAGGED, 1)
    if value == 1 and on.kinds.counts()[0] < FEWEST_FLAGGED and _highest(on) >= RISKS[name]:
        return (
            f"no interval holds: at most {RISKS[name]:.0%} of these rows are wrong, but with fewer than "
            f"{FEWEST_FLAGGED} wrong rows that may be luck"
        )
    under = RISKS[name] * value * rows * (int(on.kinds.unit.max()) + 1) / rows  # rows that repeat count once
    if under >= FEWEST_UNDER:
        return None
    return f"no interval holds with fewer than {FEWEST_UNDER} errors under the threshold; there is room for {under:.0f}"


def _highest(on: Judged) -> float:
    """The high end of the share of wrong rows among all."""
    wrong = on.kinds.errors
    return on.share(float(wrong.mean()), np.ones_like(wrong)).high or 0.0


def _interval(on: Judged, ranked: Ranked, name: str, value: float) -> Interval:
    if name in SCALES:
        if on.kinds.too_few():
            return Interval(None, None, on.kinds.too_few())
        found = SMOOTH[name](ranked)
        if name != "prr":
            return on.smooth(found, SCALES[name])
        low, high, why = on.smooth(negated(found), LOG)  # 1 - PRR is a ratio of areas
        # With few errors, all of them found, t on that scale reaches below what any order of the rows can have.
        return (
            Interval(None, None, why)
            if low is None or high is None
            else Interval(max(1 - high, worst_prr(ranked)), 1 - low)
        )
    if name in COVERAGES:
        return on.share(value, _answered(ranked, COVERAGES[name]))
    return Interval(None, None, _rough(on, name, value, len(ranked.of_row)))


def _answered(ranked: Ranked, coverage: float) -> Bool:
    """`[N]` the rows of the tie groups that reach into the most certain share; never none."""
    answered = max(np.ceil(coverage * len(ranked.of_row) - 1e-9), 1.0)
    return ranked.counts.rows_before[0][ranked.of_row] < answered
