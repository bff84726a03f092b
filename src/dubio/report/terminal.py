"""The comparison table of a terminal: a row a method, the best error ROC-AUC first, at most 120 columns wide."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from dubio.metrics import Metric
from dubio.metrics.evaluation import ADAPTER, REFERENCE
from dubio.metrics.miscalibration import AGAINST
from dubio.report.content import Cost
from dubio.report.words import p_value
from dubio.showing import plain


def metrics_table(metrics: Sequence[Metric], split: str) -> Table:
    """All methods on `split`, the best error ROC-AUC first, and their out-of-domain ROC-AUC where it was measured.

    Where a figure or an interval is missing, the lines under the table say why.
    """
    shown = [m for m in metrics if m.split == split or m.metric == "ood_roc_auc"]
    found = {(m.method, m.metric): m for m in shown if m.value is not None}
    ranked = sorted(
        (m for m in shown if m.metric == "error_roc_auc"),
        key=lambda m: (-m.number if m.value is not None else 0.0, m.method != REFERENCE),
    )
    ood = any(name == "ood_roc_auc" for _, name in found)
    table = Table(
        title=f"Which predictions are wrong? ({split}; higher uncertainty = more likely wrong)",
        caption="\n".join(
            [
                "gain: paired difference to softmax response in percentage points of error ROC-AUC; brackets: "
                "95 % intervals. error probability: its debiased ECE where a test speaks against it (p up to 0.05).",
                *_reasons(shown),
            ]
        ),
        pad_edge=False,
    )
    table.add_column("method", no_wrap=True)
    for header in ("error ROC-AUC %", "gain", "p", "AURC", "error probability", *(["OOD %"] if ood else [])):
        table.add_column(header, justify="right", no_wrap=True)
    for row in ranked:
        cells = {name: found.get((row.method, name)) for name in _COLUMNS}
        reference = row.method == REFERENCE
        table.add_row(
            Text(plain(row.method), style="bold" if reference else ""),
            _with_interval(found.get((row.method, row.metric)), "{:.1f}"),
            "reference" if reference else _with_interval(cells["error_roc_auc_gain"], "{:+.1f}"),
            "–" if cells["error_roc_auc_gain_p"] is None else p_value(cells["error_roc_auc_gain_p"].number),
            _plain(cells["aurc"], "{:.4f}"),
            _calibrated(cells["error_probability_ece_debiased"], cells["error_probability_calibration_p"]),
            *([_plain(cells["ood_roc_auc"], "{:.1f}", 100)] if ood else []),
        )
    return table


def systems_table(
    metrics: Sequence[Metric], split: str, costs: Mapping[str, Cost], mean_of: str | None = None
) -> Table:  # fmt: skip
    """The adapter and everything that changes its probabilities, each by its own predictions, the best NLL first.

    mean_of: the posterior whose mean prediction is judged in the adapter's place; it then has one row.
    """
    found = {(m.method, m.metric): m for m in metrics if m.split == split and m.value is not None}
    names = [method for method, metric in found if metric == "system_nll" and method != mean_of]
    table = Table(
        title=f"As systems, each by its own predictions ({split})",
        caption="ECE: plain, 15 bins of equal width; noise makes it too large. samples: adapters that are drawn. "
        "ms: of their predictions, per 1,000 rows, after the adapter's own.",
        pad_edge=False,
    )
    table.add_column("system", no_wrap=True)
    for header in ("accuracy %", "NLL", "ECE", "Brier", "AURC", "samples", "ms"):
        table.add_column(header, justify="right", no_wrap=True)
    own = {name: found.get((ADAPTER, name)) for name in _SYSTEM} | {"aurc": found.get((REFERENCE, "aurc"))}
    judged = mean_of or "adapter"
    rows = [(judged, own), *((n, {c: found.get((n, f"system_{c}")) for c in _SYSTEM}) for n in names)]

    def nll(row: tuple[str, Mapping[str, Metric | None]]) -> float:
        metric = row[1]["nll"]
        return metric.number if metric is not None else float("inf")

    for name, cells in sorted(rows, key=nll):
        cost = costs.get(name)
        table.add_row(
            Text(plain(name), style="bold" if name == judged else ""),
            _plain(cells["accuracy"], "{:.1f}", 100), *(_plain(cells[c], "{:.3f}") for c in _SYSTEM[1:]),
            str(cost.samples or "–") if cost else "–", f"{cost.ms_per_1000_rows:,.0f}" if cost else "–",
        )  # fmt: skip
    return table


_SYSTEM = ("accuracy", "nll", "ece_equal_width_15", "brier", "aurc")
_COLUMNS = (
    "error_roc_auc_gain",
    "error_roc_auc_gain_p",
    "aurc",
    "error_probability_ece_debiased",
    "error_probability_calibration_p",
    "ood_roc_auc",
)
_EXPLAINED = {"error_roc_auc": "error ROC-AUC", "error_roc_auc_gain": "gain", "error_roc_auc_gain_p": "p"}


def _reasons(metrics: Sequence[Metric]) -> list[str]:
    """A line a reason why values or intervals of the table are missing."""
    found: dict[str, list[str]] = {}
    for m in metrics:
        if m.why and m.metric in _EXPLAINED:
            names = found.setdefault(m.why, [])
            names += [] if _EXPLAINED[m.metric] in names else [_EXPLAINED[m.metric]]
    return [f"{', '.join(names)}: {why}." for why, names in found.items()]


def _calibrated(ece: Metric | None, test: Metric | None) -> str:
    if ece is None or test is None:
        return "–"
    return "no objection" if test.number > AGAINST else f"off by {ece.number:.3f}"


def _plain(metric: Metric | None, pattern: str, scale: float = 1) -> str:
    return "–" if metric is None else pattern.format(scale * metric.number)


def _with_interval(metric: Metric | None, pattern: str) -> str:
    if metric is None:
        return "–"
    value = pattern.format(100 * metric.number)
    if metric.low is None or metric.high is None:
        return f"{value} (no interval)" if metric.why else value
    return f"{value} ({pattern.format(100 * metric.low)} to {pattern.format(100 * metric.high)})"
