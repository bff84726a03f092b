"""The report's figures as SVG data URIs: fixed bytes for fixed input, text as outlines, no resource from elsewhere.

Colours of Okabe & Ito 2008, told apart in grey as well: by line style and marker. A width of 6.7 inches is that of a
printed page's text, so sizes in points are those on paper.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from dubio.arrays import Bool, Float64
from dubio.metrics import error_probability_ece, reliability_bins, risk_coverage_curve, roc_curve
from dubio.metrics.calibration import BINS
from dubio.report.content import ReportContent, is_control, title_of

REFERENCE = "softmax_response"
WIDTH, POINTS = 6.7, 300
BLUE, ORANGE, GREEN, RED, SKY, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
GREY = "#5f5f5f"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.labelsize": 8.5, "axes.titlesize": 9, "legend.fontsize": 8,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.7, "axes.edgecolor": "#333333", "axes.grid": True, "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.5, "legend.frameon": False,
    "svg.hashsalt": "dubio", "svg.fonttype": "path", "figure.constrained_layout.use": True, "figure.facecolor": "none",
    "axes.facecolor": "none", "text.parse_math": False,
}  # fmt: skip


def forest(content: ReportContent) -> str | None:
    """Paired differences of error ROC-AUC to softmax response with 95 % intervals; None where there are none."""
    gains = sorted(content.known("error_roc_auc_gain"), key=lambda m: m.number)
    if not gains:
        return None
    with mpl.rc_context(STYLE):
        figure, (axes,) = _panels(1, 0.9 + 0.205 * len(gains))
        axes.axvline(0, color="#333333", linewidth=0.8)
        for at, gain in enumerate(gains):
            colour, marker = _forest_mark(gain.method, content.chosen)
            if gain.low is not None and gain.high is not None:
                axes.plot([100 * gain.low, 100 * gain.high], [at, at], color=colour, linewidth=1.4)
            axes.plot([100 * gain.number], [at], marker=marker, color=colour, markersize=5, linestyle="none")
        axes.set_yticks(range(len(gains)), [title_of(g.method) for g in gains])
        axes.set_ylim(-0.7, len(gains) - 0.3)
        axes.set_xlabel("difference in error ROC-AUC, points (right of 0 = better)")
        axes.grid(visible=False, axis="y")
        for label, gain in zip(axes.get_yticklabels(), gains, strict=True):
            label.set_fontweight("bold" if gain.method == content.chosen else "normal")
        return _uri(figure)


def risk_coverage(content: ReportContent) -> str:
    """Error rate among the answered rows against the share answered, with the budget and the realised decision."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = _panels(1, 3.6)
        highest = 0.0
        for name, style in _lines(content, best=3):
            curve = risk_coverage_curve(content.scores[name].uncertainty, content.errors)
            kept = _thin(len(curve.x), start=max(1, len(curve.x) // 50))
            axes.plot(100 * curve.x[kept], 100 * curve.y[kept], label=title_of(name), **style)
            highest = max(highest, float(curve.y[kept].max()))
        oracle = risk_coverage_curve(content.errors.astype(np.float64), content.errors)
        kept = _thin(len(oracle.x))
        axes.plot(100 * oracle.x[kept], 100 * oracle.y[kept], color="#333333", linestyle=(0, (1, 1.5)), label="oracle")
        _mark_threshold(axes, content)
        axes.set_xlim(0, 101)
        axes.set_ylim(0, 100 * min(1.0, 1.12 * max(highest, content.threshold.risk, 0.01)))
        axes.set_xlabel("coverage: answered rows, % of test")
        axes.set_ylabel("risk: wrong among answered, %")
        figure.legend(loc="outside right center")
        return _uri(figure)


def reliability(content: ReportContent) -> str:
    """Observed error rate against error probability before and after recalibration, with the rows in each bin."""
    after = content.scores[content.chosen].error_probability
    columns = [("before: 1 − largest softmax probability", content.before)]
    if after is not None:
        columns.append((f"after: {title_of(content.chosen)}, recalibrated", after))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.9))
        grid = figure.subplots(2, 2, height_ratios=[3, 1], sharex="all", squeeze=False)
        for (upper, lower), (title, probability) in zip(grid.T, columns, strict=False):
            _reliability_panel(upper, lower, probability, content.errors)
            upper.set_title(title, fontsize=8.5)
        for upper, lower in grid.T[len(columns) :]:
            upper.set_axis_off()
            lower.set_axis_off()
        grid[0, 0].set_ylabel("observed error rate, %")
        grid[1, 0].set_ylabel("rows")
        return _uri(figure)


def roc(content: ReportContent) -> str | None:
    """True against false positive rate of finding wrong rows; None where all rows are right or all wrong."""
    if not content.errors.any() or content.errors.all():
        return None
    with mpl.rc_context(STYLE):
        figure, (axes,) = _panels(1, 3.4)
        axes.plot([0, 100], [0, 100], color="#999999", linewidth=0.8, linestyle=":")
        for name, style in _lines(content, best=1):
            curve = roc_curve(content.scores[name].uncertainty, content.errors)
            kept = _thin(len(curve.x))
            auc = content.find(name, "error_roc_auc")
            value = "" if auc is None else f", {100 * auc.number:.1f} %"
            axes.plot(100 * curve.x[kept], 100 * curve.y[kept], label=f"{title_of(name)}{value}", **style)
        axes.set_aspect("equal")
        axes.set_xlim(-1, 101)
        axes.set_ylim(-1, 101)
        axes.set_xlabel("right rows flagged, %")
        axes.set_ylabel("wrong rows flagged, %")
        figure.legend(loc="outside right center", title="area under the curve", alignment="left")
        return _uri(figure)


def histograms(content: ReportContent) -> str:
    """The chosen method's uncertainty: wrong against right rows, and out-of-domain against test rows where given."""
    inside = content.scores[content.chosen].uncertainty
    away = content.ood[content.chosen].uncertainty if content.chosen in content.ood else None
    with mpl.rc_context(STYLE):
        figure, panels = _panels(1 if away is None else 2, 2.9)
        pair = (inside[~content.errors], inside[content.errors])
        _histogram(panels[0], pair, ("right", "wrong"))
        if away is not None:
            _histogram(panels[1], (inside, away), ("test rows", "out-of-domain"))
        panels[0].set_ylabel("share of the group's rows, %")
        for axes in panels:
            axes.set_xlabel("uncertainty (higher = more likely wrong)")
        return _uri(figure)


def _lines(content: ReportContent, best: int) -> list[tuple[str, dict[str, Any]]]:
    """Softmax response, the chosen method, the control and the best few others, each with its own look."""
    fixed = [(REFERENCE, BLUE, "-"), (content.chosen, RED, "-"), (content.control, GREY, "--")]
    looks = [(GREEN, "-."), (ORANGE, (0, (5, 1.5))), (PINK, (0, (3, 1, 1, 1, 1, 1)))]
    lines: dict[str, dict[str, Any]] = {}
    for name, colour, style in fixed:
        if name in content.scores and name is not None and name not in lines:
            lines[name] = {"color": colour, "linestyle": style, "linewidth": 2.0 if name == content.chosen else 1.4}
    others = [name for name in content.ranked() if name not in lines][:best]
    for name, (colour, style) in zip(others, looks, strict=False):
        lines[name] = {"color": colour, "linestyle": style, "linewidth": 1.2}
    return list(lines.items())


def _mark_threshold(axes: Axes, content: ReportContent) -> None:
    budget, (coverage, risk) = 100 * content.threshold.risk, content.realised
    axes.axhline(budget, color="#333333", linewidth=0.8, linestyle=":")
    axes.annotate(f"budget {budget:.4g} %", (1, budget), xytext=(2, 2), textcoords="offset points", fontsize=8)
    if content.threshold.threshold is not None and risk is not None:
        axes.axvline(100 * coverage, color="#333333", linewidth=0.8, linestyle=":")
        axes.plot([100 * coverage], [100 * risk], marker="D", color=RED, markeredgecolor="black", markersize=6,
                  linestyle="none", label="threshold on test")  # fmt: skip


def _reliability_panel(upper: Axes, lower: Axes, probability: Float64, errors: Bool) -> None:
    bins = reliability_bins(probability, errors, BINS)
    low, high = _wilson(bins.outcome, bins.rows)
    spread = 100 * np.stack([bins.outcome - low, high - bins.outcome]).clip(min=0)
    upper.plot([0, 100], [0, 100], color="#999999", linewidth=0.8, linestyle=":")
    upper.errorbar(100 * bins.confidence, 100 * bins.outcome, yerr=spread, color=BLUE, marker="o", markersize=4,
                   linewidth=1.2, elinewidth=0.8)  # fmt: skip
    both = [error_probability_ece(probability, errors, BINS, scheme) for scheme in ("equal_width", "equal_mass")]
    upper.text(0.03, 0.97, f"plain ECE, {BINS} bins\nequal width {both[0]:.3f}\nequal mass {both[1]:.3f}", va="top",
               transform=upper.transAxes, fontsize=8)  # fmt: skip
    upper.set_xlim(0, 100)
    upper.set_ylim(0, 100)
    edges = np.linspace(0, 1, BINS + 1)
    counts, _ = np.histogram(probability, bins=edges)
    lower.stairs(counts, 100 * edges, fill=True, color=SKY, edgecolor=BLUE)
    lower.set_xlabel("error probability, %")


def _wilson(share: Float64, rows: Float64, z: float = 1.96) -> tuple[Float64, Float64]:
    """95 % score intervals of shares of so many rows (Wilson 1927)."""
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * np.sqrt(share * (1 - share) / rows + z * z / (4 * rows**2)) / (1 + z * z / rows)
    return centre - half, centre + half


def _histogram(axes: Axes, groups: tuple[Float64, Float64], names: tuple[str, str]) -> None:
    """Two distributions, one filled and one outlined; the outer 0.5 % of each end count in the end bins."""
    low, high = np.quantile(np.concatenate(groups), [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, 36)
    for values, name, filled in zip(groups, names, (True, False), strict=True):
        counts, _ = np.histogram(values.clip(edges[0], edges[-1]), bins=edges)
        share = 100 * counts / max(len(values), 1)
        look: dict[str, Any] = (
            {"fill": True, "color": SKY, "alpha": 0.7} if filled else {"color": RED, "linewidth": 1.5}
        )
        axes.stairs(share, edges, label=f"{name} ({len(values):,})", **look)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)


def _forest_mark(method: str, chosen: str) -> tuple[str, str]:
    if method == chosen:
        return RED, "D"
    return (GREY, "s") if is_control(method) else (BLUE, "o")


def _thin(rows: int, start: int = 0) -> Sequence[int]:
    """At most POINTS indices of a curve, ends included."""
    return np.unique(np.linspace(min(start, rows - 1), rows - 1, POINTS).round().astype(int)).tolist()


def _panels(columns: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height))
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _uri(figure: Figure) -> str:
    with io.BytesIO() as out:
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
        return f"data:image/svg+xml;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
