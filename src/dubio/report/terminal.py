"""The comparison table of a terminal: a row a method, the best error ROC-AUC first, at most 120 columns wide."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from dubio.metrics import Metric
from dubio.metrics.evaluation import ADAPTER
from dubio.report.content import Cost
from dubio.report.verdict import p_value

REFERENCE = "softmax_response"


def metrics_table(metrics: Sequence[Metric], split: str) -> Table:
    """All methods with an error ROC-AUC on `split`, and their out-of-domain ROC-AUC where it was measured."""
    known = [m for m in metrics if m.value is not None]
    found = {(m.method, m.metric): m for m in known if m.split == split or m.metric == "ood_roc_auc"}
    ranked = sorted(
        (m for m in found.values() if m.metric == "error_roc_auc"), key=lambda m: (-m.number, m.method != REFERENCE)
    )
    ood = any(name == "ood_roc_auc" for _, name in found)
    table = Table(
        title=f"Which predictions are wrong? ({split}; higher uncertainty = more likely wrong)",
        caption="gain: paired difference to softmax response in points of error ROC-AUC; brackets: 95 % intervals. "
        "ECE: of the error probability, 15 bins of equal mass.",
        pad_edge=False,
    )
    table.add_column("method", no_wrap=True)
    for header in ("error ROC-AUC %", "gain", "p", "AURC", "ECE", *(["OOD %"] if ood else [])):
        table.add_column(header, justify="right", no_wrap=True)
    for row in ranked:
        cells = {name: found.get((row.method, name)) for name in _COLUMNS}
        reference = row.method == REFERENCE
        table.add_row(
            Text(row.method, style="bold" if reference else ""),
            _with_interval(row, "{:.1f}"),
            "reference" if reference else _with_interval(cells["error_roc_auc_gain"], "{:+.1f}"),
            "–" if cells["error_roc_auc_gain_p"] is None else p_value(cells["error_roc_auc_gain_p"].number),
            _plain(cells["aurc"], "{:.4f}"),
            _plain(cells["error_probability_ece"], "{:.3f}"),
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
        caption="samples: adapters that are drawn. ms: of their predictions, per 1,000 rows, after the adapter's own.",
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
            Text(name, style="bold" if name == judged else ""),
            _plain(cells["accuracy"], "{:.1f}", 100), *(_plain(cells[c], "{:.3f}") for c in _SYSTEM[1:]),
            str(cost.samples or "–") if cost else "–", f"{cost.ms_per_1000_rows:,.0f}" if cost else "–",
        )  # fmt: skip
    return table


_SYSTEM = ("accuracy", "nll", "ece_equal_width_15", "brier", "aurc")
_COLUMNS = ("error_roc_auc_gain", "error_roc_auc_gain_p", "aurc", "error_probability_ece", "ood_roc_auc")


def _plain(metric: Metric | None, pattern: str, scale: float = 1) -> str:
    return "–" if metric is None else pattern.format(scale * metric.number)


def _with_interval(metric: Metric | None, pattern: str) -> str:
    if metric is None:
        return "–"
    value = pattern.format(100 * metric.number)
    if metric.low is None or metric.high is None:
        return value
    return f"{value} ({pattern.format(100 * metric.low)} to {pattern.format(100 * metric.high)})"
