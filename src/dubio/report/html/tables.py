"""The report's tables as rows of ready texts: a column says which metric, with what scale and digits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dubio.metrics import Metric
from dubio.metrics.evaluation import ADAPTER, REFERENCE
from dubio.metrics.table import BIASED
from dubio.report.content import Cost, ReportContent
from dubio.report.words import is_control, p_value, size, title_of


@dataclass(frozen=True)
class Column:
    """A metric's column: header in words, pattern of the figure, scale, and which way is better."""

    metric: str
    header: str
    pattern: str
    scale: float = 1.0
    better: str = ""


@dataclass(frozen=True)
class Cell:
    """A figure and its 95 % interval, both ready to print; empty where there is none."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class Row:
    """One method: key, name in words, cells in the order of the columns, and how the row is marked."""

    method: str
    title: str
    cells: tuple[Cell, ...]
    mark: str = ""


@dataclass(frozen=True)
class KeyRow:
    """A method that matters. roles: why it is shown. bar: low, value and high of its difference, in % of the bar."""

    method: str
    title: str
    roles: tuple[str, ...]
    cells: tuple[Cell, ...]
    bar: tuple[float, float, float] | None


P_VALUE = "p"
BEST = 3  # of the other methods
PERCENT = ("{:.1f}", 100.0)
DETECTION = (
    Column("error_roc_auc", "error ROC-AUC, %", *PERCENT, better="↑"),
    Column("error_roc_auc_gain", "difference to softmax response, percentage points", "{:+.1f}", 100, better="↑"),
    Column("error_roc_auc_gain_p", "p", P_VALUE),
    Column("error_pr_auc", "error PR-AUC, %", *PERCENT, better="↑"),
    Column("aurc", "AURC", "{:.4f}", better="↓"),
    Column("fpr_at_95_tpr", "FPR at 95 % TPR, %", *PERCENT, better="↓"),
)
FURTHER = (
    Column("error_probability_ece_debiased", "ECE of error probability, debiased, 15 bins, equal mass", "{:.3f}",
           better="↓"),
    Column("error_probability_calibration_p", "p (calibrated)", P_VALUE),
    Column("error_probability_ece", "plain ECE, equal mass", "{:.3f}", better="↓"),
    Column("error_probability_ece_equal_width", "plain ECE, equal width", "{:.3f}", better="↓"),
    Column("error_probability_brier", "Brier of error probability", "{:.4f}", better="↓"),
    Column("tie_share", "tied rows, %", *PERCENT, better="↓"),
    Column("ood_roc_auc", "OOD ROC-AUC, %", *PERCENT, better="↑"),
    Column("ood_fpr_at_95_tpr", "OOD FPR at 95 % TPR, %", *PERCENT, better="↓"),
    Column("spearman_disagreement", "Spearman’s ρ with annotators’ disagreement", "{:+.3f}", better="↑"),
)  # fmt: skip
SYSTEM = (
    Column("accuracy", "accuracy, %", *PERCENT, better="↑"),
    Column("nll", "NLL, nats", "{:.3f}", better="↓"),
    Column("brier", "Brier (0–2)", "{:.3f}", better="↓"),
    Column("ece_equal_width_15", "plain ECE, 15 bins, equal width", "{:.3f}", better="↓"),
    Column("ece_equal_mass_15_debiased", "debiased ECE, 15 bins, equal mass", "{:.3f}", better="↓"),
    Column("calibration_p", "p (calibrated)", P_VALUE),
    Column("aurc", "AURC", "{:.4f}", better="↓"),
    Column("augrc", "AUGRC", "{:.4f}", better="↓"),
)


def comparison(content: ReportContent, columns: Sequence[Column]) -> tuple[list[Column], list[Row]]:
    """The columns that have any figure, and a row a method, the best error ROC-AUC first."""
    kept = [c for c in columns if any(m.method in content.scores for m in content.known(c.metric))]
    rows = [
        Row(name, title_of(name), tuple(_cell(content, name, c) for c in kept), _mark(content, name))
        for name in content.ranked()
    ]
    return kept, rows


def key_methods(content: ReportContent) -> tuple[list[Column], list[KeyRow], float]:
    """The methods that matter, the best error ROC-AUC first; and where 0 lies on the bars of the differences, in %."""
    roles: dict[str, list[str]] = {}

    def note(name: str | None, role: str) -> None:
        if name is not None and name in content.scores:
            roles.setdefault(name, []).append(role)

    note(content.chosen, "decides")
    note(REFERENCE, "reference")
    note(content.control, "control: a better classifier")
    note(next((name for name in content.ranked("ood_roc_auc") if content.known("ood_roc_auc")), None), "best at OOD")
    others = [name for name in content.ranked() if name not in roles and not is_control(name)]
    for name in others[:BEST]:
        note(name, "among the best others on test")
    wanted = ("error_roc_auc", "error_roc_auc_gain", "aurc", "ood_roc_auc")
    columns = [c for c in (*DETECTION, *FURTHER) if c.metric in wanted and content.known(c.metric)]
    shown = [name for name in content.ranked() if name in roles]
    gains = {name: content.find(name, "error_roc_auc_gain") for name in shown}
    ends = [end for m in gains.values() if m is not None for end in (m.low, m.number, m.high) if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = (high - low) or 1.0

    def at(value: float) -> float:
        return 100 * (value - low) / room

    rows = [
        KeyRow(
            name, title_of(name), tuple(roles[name]), tuple(_cell(content, name, c) for c in columns),
            None if (m := gains[name]) is None else (
                at(m.number if m.low is None else m.low), at(m.number), at(m.number if m.high is None else m.high)
            ),
        )
        for name in shown
    ]  # fmt: skip
    return columns, rows, at(0.0)


def reasons(content: ReportContent, columns: Sequence[Column]) -> list[str]:
    """Why figures of the columns have no value or no interval: a sentence a reason, with the columns that it is of."""
    found: dict[str, list[str]] = {}
    for column in columns:
        for method in content.scores:
            why = content.reason(method, column.metric)
            if why and why != BIASED and not column.metric.endswith("calibration_p"):
                headers = found.setdefault(why, [])
                headers += [] if column.header in headers else [column.header]
    return [f"{', '.join(headers)}: {why}." for why, headers in found.items()]


PRICE = (Column("samples", "samples", ""), Column("ms", "ms per 1,000", ""), Column("bytes", "kept", ""))


def systems(content: ReportContent) -> tuple[list[Column], list[Row]]:
    """What is judged (ranked by softmax response) and every method that changes the predictions; empty without one.

    With samples, milliseconds and bytes where there is a posterior, in the place of the plain ECE.
    """
    priced = any(c.samples for c in content.costs)
    columns = [c for c in SYSTEM if not (priced and c.metric == "ece_equal_width_15")]
    judged = content.model.get("mean_of", ADAPTER)
    names = list(dict.fromkeys(m.method for m in content.metrics if m.metric.startswith("system_")))
    if not names:
        return [], []
    own = [content.find(ADAPTER, c.metric) or content.find(REFERENCE, c.metric) for c in columns]
    # AURC and AUGRC of what is judged are those of softmax response
    whose = "The adapter" if judged == ADAPTER else title_of(judged)
    rows = [
        Row(judged, f"{whose}, by softmax response", tuple(_print(m, c) for m, c in zip(own, columns, strict=True)))
    ]
    for name in (n for n in names if n != judged):
        cells = tuple(_print(content.find(name, f"system_{c.metric}"), c) for c in columns)
        rows.append(Row(name, title_of(name).replace(" (control)", ""), cells))
    if not priced:
        return columns, rows
    return [*columns, *PRICE], [
        replace(row, cells=(*row.cells, *_price(content.cost(row.method)))) for row in rows
    ]  # fmt: skip


def _price(cost: Cost | None) -> tuple[Cell, ...]:
    """Samples, milliseconds and bytes of a system; dashes for the adapter, whose one pass all share."""
    if cost is None:
        return (Cell("–"),) * len(PRICE)
    return Cell(str(cost.samples or "–")), Cell(f"{cost.ms_per_1000_rows:,.0f}"), Cell(size(cost.bytes))


def costs(content: ReportContent) -> list[tuple[str, str, str, str, str, str]]:
    """(key, title, samples, seconds to fit, milliseconds per 1,000 rows, size), in the comparison's order."""
    order = {name: at for at, name in enumerate(content.ranked())}
    return [
        (
            c.method,
            title_of(c.method),
            str(c.samples or "–"),
            f"{c.fit_seconds:.2f}",
            f"{c.ms_per_1000_rows:.2f}",
            size(c.bytes),
        )
        for c in sorted(content.costs, key=lambda c: order.get(c.method, len(order)))
    ]


def _cell(content: ReportContent, method: str, column: Column) -> Cell:
    if method == REFERENCE and column.metric == "error_roc_auc_gain":
        return Cell("reference")
    return _print(content.find(method, column.metric), column)


def _print(metric: Metric | None, column: Column) -> Cell:
    if metric is None:
        return Cell("–")
    value, low, high = metric.number, metric.low, metric.high
    if column.pattern == P_VALUE:
        return Cell(p_value(value))
    text = column.pattern.format(column.scale * value).replace("-", "−")
    if low is None or high is None:
        return Cell(text, "no interval" if metric.why and metric.why != BIASED else "")
    ends = (column.pattern.format(column.scale * end).replace("-", "−") for end in (low, high))
    return Cell(text, " to ".join(ends))


def _mark(content: ReportContent, method: str) -> str:
    words = ["chosen"] if method == content.chosen else []
    if method == REFERENCE:
        words.append("reference")
    if is_control(method):
        words.append("control")
    return " ".join(words)
