"""The papers' rows beside ours, set by set: what a reader of the paper looks for first.

In: a grid that says which of its systems and methods stand for a source's, its outcomes, the published numbers.
Out: a table; nothing is averaged over sets or models that the paper does not show.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dubio.experiments.comparing import SYSTEM, Comparison
from dubio.experiments.config import Grid, TheirSystem
from dubio.experiments.outcome import Outcome
from dubio.experiments.published import REFERENCE as THEIR_REFERENCE
from dubio.experiments.published import Number
from dubio.experiments.tables import Table, grid_title, number
from dubio.metrics.evaluation import REFERENCE

METRICS = {"ACC": "accuracy", "NLL": "nll", "ECE": "ece_equal_width_15"}  # theirs -> ours
_ABSENT = "–"


def systems_beside(grid: Grid, outcomes: Sequence[Outcome], numbers: Sequence[Number]) -> Table | None:
    """Each system that stands for a published one, on each set: accuracy, NLL and ECE, ours and theirs.

    None where the grid names none.
    """
    if grid.published is None or not grid.published.systems:
        return None
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for spec in grid.published.systems:
        for model, data in dict.fromkeys(o.place[:2] for o in outcomes):
            known = spec.data or grid.data[data].published
            theirs = _theirs(spec, known, numbers)
            cells = [o for o in outcomes if o.place[:2] == (model, data)]
            ours = {metric: _mean(cells, spec.ours, metric) for metric in METRICS.values()}
            if not theirs or all(value is None for value in ours.values()):
                continue
            of = sorted({n.model for n in theirs.values()})
            pairs = [(_shown(m, ours[m]), _shown(m, _value(theirs.get(m)))) for m in METRICS.values()]
            name = f"{spec.theirs}{f' ({spec.config})' if spec.config else ''}"
            rows.append((grid_title(grid, spec.ours), name, f"{model} {data}", f"{', '.join(of)} {known}",
                         *(value for pair in pairs for value in pair)))  # fmt: skip
            records += [{"system": spec.ours, "theirs": name, "model": model, "data": data, "their_model": of[0],
                         "their_data": known, "metric": m, "value": ours[m], "published": _value(theirs.get(m))}
                        for m in METRICS.values()]  # fmt: skip
    header = (
        "system",
        "published as",
        "here",
        "there",
        "accuracy",
        "published",
        "NLL",
        "published",
        "ECE",
        "published",
    )
    note = f"Source of the published rows: {grid.published.source}. Other models, more rows: compare the order."
    return Table(
        "published_systems", f"{grid.name}: beside the published rows", note, header, tuple(rows), tuple(records)
    )


def gains_beside(grid: Grid, found: Comparison, numbers: Sequence[Number]) -> Table | None:
    """Gain of each method over softmax response on each set: ours, and the mean and range over the paper's models.

    None where the grid names no methods of a paper, or the comparison is of another metric.
    """
    if grid.published is None or not grid.published.methods or found.metric != "error_roc_auc":
        return None
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for theirs, ours in grid.published.methods.items():
        if ours not in found.methods:
            continue
        for column in found.columns:
            known = grid.data[column.data].published
            gains = _their_gains(numbers, theirs, known)
            if not gains:
                continue
            own = found.difference(ours, REFERENCE, [column])
            low, high = 100 * own.low, 100 * own.high
            rows.append((grid_title(grid, ours), f"{column.model} {column.data}",
                         f"{100 * own.value:+.1f} ({low:+.1f} to {high:+.1f})", f"{np.mean(gains):+.1f}",
                         f"{min(gains):+.1f} to {max(gains):+.1f} ({len(gains)})"))  # fmt: skip
            records.append({"method": ours, "theirs": theirs, "model": column.model, "data": column.data,
                            "gain": own.value, "low": own.low, "high": own.high,
                            "published": float(np.mean(gains)) / 100, "models": len(gains)})  # fmt: skip
    header = ("method", "here", "gain", "published gain", "over models (how many)")
    note = f"Points of error ROC-AUC over softmax response. Source of the published gains: {grid.published.source}."
    return Table(
        "published_gains", f"{grid.name}: beside the published gains", note, header, tuple(rows), tuple(records)
    )


def _theirs(spec: TheirSystem, data: str | None, numbers: Sequence[Number]) -> dict[str, Number]:
    """Our metric -> the published number."""
    found = [n for n in numbers if (n.data, n.method) == (data, spec.theirs) and spec.config in (None, n.config)]
    return {METRICS[n.metric]: n for n in found if n.metric in METRICS}


def _their_gains(numbers: Sequence[Number], method: str, data: str | None) -> list[float]:
    """Points over their softmax response on a set, a model each."""
    values = {(n.model, n.method): n.value for n in numbers if n.data == data}
    models = [model for model, name in values if name == method]
    return [values[m, method] - values[m, THEIR_REFERENCE] for m in models if (m, THEIR_REFERENCE) in values]


def _mean(cells: Sequence[Outcome], system: str, metric: str) -> float | None:
    """Over seeds."""
    found = [value for o in cells if (value := o.figure(f"{SYSTEM}{system}", metric)) is not None]
    return float(np.mean(found)) if found else None


def _value(published: Number | None) -> float | None:
    """As a fraction, where it is a share in percent."""
    if published is None:
        return None
    return published.value / 100 if published.unit.startswith("%") else published.value


def _shown(metric: str, value: float | None) -> str:
    return _ABSENT if value is None else number(metric, value)
