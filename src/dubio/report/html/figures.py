"""The report's plots, from its content: what may be answered, calibration, and how methods find wrong rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dubio.arrays import Bool, Float64
from dubio.metrics import reliability_bins, risk_coverage_curve, roc_curve
from dubio.metrics.calibration import BINS
from dubio.metrics.evaluation import REFERENCE
from dubio.report.content import ReportContent
from dubio.report.html.plot import Bars, Dot, Line, Plot
from dubio.report.words import percent, title_of

POINTS = 200
FIRST = 50  # a curve begins at 1/50 of the rows: before, a single row decides
WHOLE = (0.0, 100.0)
LOOKS = ("third", "fourth", "fifth")


def answering(content: ReportContent) -> Plot:
    """The picture of the first screen: share of rows answered against share of wrong rows among them."""
    found = content.answer
    plot = _risk_coverage(content, _both(content), least=1.3 * found.budget)
    dots = [Dot(100, 100 * float(content.errors.mean()), "all")]
    if found.risk is not None:
        dots.append(Dot(100 * found.coverage, 100 * found.risk, "here"))
    spoken = (
        "Share of rows answered against share of wrong rows among them, for the deciding method. With every row "
        f"answered, {percent(float(content.errors.mean()))} are wrong. {found.outcome}"
    )
    return Plot(plot.x, plot.y, plot.x_label, plot.y_label, spoken, plot.lines, dots)


def methods(content: ReportContent) -> Plot:
    """The same curve for the deciding method, softmax response, the control, the best others, and the oracle."""
    names = [*_both(content)]
    if content.control is not None and content.control not in names:
        names.append(content.control)
    names += [name for name in content.ranked() if name not in names][:2]
    plot = _risk_coverage(content, names, least=content.threshold.risk)
    oracle = risk_coverage_curve(content.errors.astype(np.float64), content.errors)
    kept = _thin(len(oracle.x))
    best = Line(100 * oracle.x[kept], 100 * oracle.y[kept], "oracle", "oracle: the best possible order")
    spoken = f"Risk and coverage of {', '.join(title_of(name) for name in names)}."
    return Plot(plot.x, plot.y, plot.x_label, plot.y_label, spoken, [*plot.lines, best])


def roc(content: ReportContent) -> Plot | None:
    """True against false positive rate of finding wrong rows; None where all rows are right or all wrong."""
    if not content.errors.any() or content.errors.all():
        return None
    lines = [Line(np.array(WHOLE), np.array(WHOLE), "guide")]
    for name, look in zip(_both(content), ("chosen", "reference"), strict=False):
        curve = roc_curve(content.scores[name].uncertainty, content.errors)
        kept, auc = _thin(len(curve.x)), content.find(name, "error_roc_auc")
        value = "" if auc is None else f", area {percent(auc.number)}"
        lines.append(Line(100 * curve.x[kept], 100 * curve.y[kept], look, f"{title_of(name)}{value}"))
    return Plot(
        WHOLE, WHOLE, "right rows flagged, %", "wrong rows flagged", "ROC curves of finding wrong rows.", lines,
        shape="square",
    )  # fmt: skip


def reliability(content: ReportContent) -> list[tuple[str, Plot, Plot]]:
    """(title, observed against stated error probability, rows by probability), before and after recalibration."""
    after = content.scores[content.chosen].error_probability
    given = [("Before: 1 − the largest probability", content.before)]
    given += [] if after is None else [(f"After: {title_of(content.chosen)}, recalibrated", after)]
    return [(title, _observed(title, p, content.errors), _rows_by(p)) for title, p in given]


def histograms(content: ReportContent) -> list[Plot]:
    """The chosen method's uncertainty: wrong against right rows, and out-of-domain against test rows where given."""
    inside = content.scores[content.chosen].uncertainty
    away = content.ood[content.chosen].uncertainty if content.chosen in content.ood else np.empty(0)
    plots = [_two((inside[~content.errors], inside[content.errors]), ("right", "wrong"))]
    return [*plots, _two((inside, away), ("test rows", "out-of-domain rows"))] if len(away) else plots


def _both(content: ReportContent) -> list[str]:
    return list(dict.fromkeys(name for name in (content.chosen, REFERENCE) if name in content.scores))


def _risk_coverage(content: ReportContent, names: Sequence[str], least: float) -> Plot:
    lines, highest = list[Line](), least
    looks = iter(("reference", *LOOKS))
    for name in names:
        curve = risk_coverage_curve(content.scores[name].uncertainty, content.errors)
        kept = _thin(len(curve.x), start=len(curve.x) // FIRST)
        look = "chosen" if name == content.chosen else next(looks)
        lines.append(Line(100 * curve.x[kept], 100 * curve.y[kept], look, title_of(name)))
        highest = max(highest, float(curve.y[kept].max()))
    top = 100 * min(1.0, 1.08 * max(highest, 0.01))
    return Plot(WHOLE, (0.0, top), "share of rows answered, %", "wrong among them", "", lines)


def _observed(title: str, probability: Float64, errors: Bool) -> Plot:
    bins = reliability_bins(probability, errors, BINS)
    low, high = wilson(bins.outcome, bins.rows)
    lines = [Line(np.array(WHOLE), np.array(WHOLE), "guide")]
    for at, lower, upper in zip(bins.confidence, low, high, strict=True):
        lines.append(Line(np.array([100 * at, 100 * at]), np.array([100 * lower, 100 * upper]), "spread"))
    lines.append(Line(100 * bins.confidence, 100 * bins.outcome, "chosen"))
    dots = [Dot(100 * x, 100 * y, "bin") for x, y in zip(bins.confidence.tolist(), bins.outcome.tolist(), strict=True)]
    return Plot(
        WHOLE, WHOLE, "stated error probability, %", "observed error rate", f"Reliability. {title}.", lines, dots,
        shape="square",
    )  # fmt: skip


def _rows_by(probability: Float64) -> Plot:
    edges = np.linspace(0, 1, BINS + 1)
    counts = np.histogram(probability, bins=edges)[0].astype(np.float64)
    bars = [Bars(100 * edges, counts, "filled")]
    spoken = "Number of rows by stated error probability."
    return Plot(
        WHOLE, (0.0, max(1.1 * counts.max(), 1.0)), "stated error probability, %", "rows", spoken, bars=bars, unit="",
        shape="low",
    )  # fmt: skip


def _two(groups: tuple[Float64, Float64], names: tuple[str, str]) -> Plot:
    """Two distributions, one filled and one outlined; the outer 0.5 % of each end count in the end bins."""
    low, high = (float(end) for end in np.quantile(np.concatenate(groups), [0.005, 0.995]))
    edges = np.linspace(low, high if high > low else low + 1, 36)
    bars, highest = list[Bars](), 1.0
    for values, name, look in zip(groups, names, ("filled", "outline"), strict=True):
        counts = np.histogram(values.clip(edges[0], edges[-1]), bins=edges)[0]
        share = 100 * counts / max(len(values), 1)
        bars.append(Bars(edges, share, look, f"{name} ({len(values):,})"))
        highest = max(highest, float(share.max()))
    spoken = f"Distribution of uncertainty: {names[0]} against {names[1]}."
    ends = (float(edges[0]), float(edges[-1]))
    return Plot(
        ends, (0.0, 1.08 * highest), "uncertainty (higher = more likely wrong)", "share of the group", spoken, bars=bars
    )


def wilson(share: Float64, rows: Float64, z: float = 1.96) -> tuple[Float64, Float64]:
    """95 % score intervals of shares of so many rows (Wilson 1927)."""
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * np.sqrt(share * (1 - share) / rows + z * z / (4 * rows**2)) / (1 + z * z / rows)
    return centre - half, centre + half


def _thin(rows: int, start: int = 0) -> NDArray[Any]:
    """At most POINTS indices of a curve, ends included."""
    return np.unique(np.linspace(min(start, rows - 1), rows - 1, POINTS).round().astype(int))
