"""The papers' rows beside ours, set by set: what a reader of the paper looks for first.

In: a grid that says which of its systems and methods stand for a source's, its outcomes, the published numbers.
Out: a table; nothing is averaged over sets or models that the paper does not show.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dubio.errors import DubioError
from dubio.metrics.evaluation import REFERENCE
from dubio_bench.grid.config import Grid, TheirSystem
from dubio_bench.grid.published import REFERENCE as THEIR_REFERENCE
from dubio_bench.grid.published import Number, no_row_of, sources, unknown_to
from dubio_bench.results.cell_result import Outcome
from dubio_bench.results.statistics import SYSTEM, Comparison
from dubio_bench.results.tables import Table, grid_title, interval, number, unknown_methods

METRICS = {"ACC": "accuracy", "NLL": "nll", "ECE": "ece_equal_width_15"}  # theirs -> ours
OF, _ABSENT = ("accuracy", "NLL", "ECE"), "–"


def systems_beside(grid: Grid, outcomes: Sequence[Outcome], numbers: Sequence[Number]) -> Table | None:
    """Each system that stands for a published one, on each set: accuracy, NLL and ECE, ours and theirs.

    None where the grid names none, or none is there.
    """
    if grid.published is None or not grid.published.systems:
        return None
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    used: list[Number] = []
    for spec in grid.published.systems:
        for model, data in dict.fromkeys(o.place[:2] for o in outcomes):
            known = spec.data or grid.data[data].published
            theirs = _theirs(spec, known, numbers)
            cells = [o for o in outcomes if o.place[:2] == (model, data)]
            ours = {metric: _mean(cells, spec, metric) for metric in METRICS.values()}
            if not theirs or all(value is None for value in ours.values()):
                continue
            used += theirs.values()
            of = sorted({n.model for n in theirs.values()})
            pairs = [(_shown(m, ours[m]), _shown(m, _value(theirs.get(m)))) for m in METRICS.values()]
            name = _name(spec)
            title = grid_title(grid, spec.ours) + (", its members" if spec.members else "")
            rows.append((title, name, f"{model} {data}", f"{', '.join(of)} {known}",
                         *(value for pair in pairs for value in pair)))  # fmt: skip
            records += [{"system": spec.ours, "members": spec.members, "theirs": name, "model": model, "data": data,
                         "their_model": of[0], "their_data": known, "metric": m, "value": ours[m],
                         "published": _value(theirs.get(m))}
                        for m in METRICS.values()]  # fmt: skip
    if not rows:
        return None
    header = ("system", "published as", "here", "there", *(word for m in OF for word in (m, "published")))
    note = f"Source of the published rows: {sources(used)}. Other models, more rows: compare the order."
    note += _after(systems_without_row(grid, outcomes, numbers))
    return Table(
        "published_systems", f"{grid.name}: beside the published rows", note, header, tuple(rows), tuple(records)
    )


def systems_without_row(grid: Grid, outcomes: Sequence[Outcome], numbers: Sequence[Number]) -> str:
    """A sentence on the published systems and sets that the grid names in vain; blank where there is none."""
    if grid.published is None or not grid.published.systems or not numbers:
        return ""
    sets = dict.fromkeys(grid.data[o.place[1]].published for o in outcomes)
    own = [spec for spec in grid.published.systems if not any(_theirs(spec, spec.data or d, numbers) for d in sets)]
    asked = sets if any(spec.data is None for spec in grid.published.systems) else ()
    names = [f"{_name(spec)}{f' on {spec.data}' if spec.data else ''}" for spec in own]
    return no_row_of(grid.published.source, [*dict.fromkeys(names), *unknown_to(numbers, (), asked)])


def gains_beside(grid: Grid, found: Comparison, numbers: Sequence[Number]) -> Table | None:
    """Gain of each method over softmax response on each set: ours, and the mean and range over the paper's models.

    None where the grid names no methods of a paper, or the comparison is of another metric.
    """
    if grid.published is None or not grid.published.methods or found.metric != "error_roc_auc":
        return None
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    used: list[Number] = []
    for theirs, ours in grid.published.methods.items():
        if ours not in found.methods:
            continue
        for column in found.columns:
            known = grid.data[column.data].published
            pairs = _their_pairs(numbers, theirs, known)
            if not pairs:
                continue
            used += (n for pair in pairs for n in pair)
            gains = [method.value - base.value for method, base in pairs]
            own = found.difference(ours, REFERENCE, [column])
            rows.append((grid_title(grid, ours), f"{column.model} {column.data}",
                         interval(own, found.metric), f"{np.mean(gains):+.1f}",
                         f"{min(gains):+.1f} to {max(gains):+.1f} ({len(gains)})"))  # fmt: skip
            records.append({"method": ours, "theirs": theirs, "model": column.model, "data": column.data,
                            "gain": own.value, "low": own.low, "high": own.high,
                            "published": float(np.mean(gains)) / 100, "models": len(gains)})  # fmt: skip
    if not rows:
        return None
    header = ("method", "here", "gain", "published gain", "over models (how many)")
    note = f"Points of error ROC-AUC over softmax response. Source of the published gains: {sources(used)}."
    note += _after(no_row_of(grid.published.source, unknown_methods(grid, numbers)))
    return Table(
        "published_gains", f"{grid.name}: beside the published gains", note, header, tuple(rows), tuple(records)
    )


def _name(spec: TheirSystem) -> str:
    return f"{spec.theirs}{f' ({spec.config})' if spec.config else ''}"


def _after(sentence: str) -> str:
    return f" {sentence}" if sentence else ""


def _theirs(spec: TheirSystem, data: str | None, numbers: Sequence[Number]) -> dict[str, Number]:
    """Our metric -> the published number; raises DubioError where there are two."""
    out: dict[str, Number] = {}
    for n in numbers:
        if (n.data, n.method) == (data, spec.theirs) and spec.config in (None, n.config) and n.metric in METRICS:
            known = out.setdefault(METRICS[n.metric], n)
            if (known.model, known.value) != (n.model, n.value):
                raise DubioError(f"published {n.metric} of {spec.theirs!r} on {data} is ambiguous; name its config")
    return out


def _their_pairs(numbers: Sequence[Number], method: str, data: str | None) -> list[tuple[Number, Number]]:
    """A method and their softmax response on a set, a model each."""
    values = {(n.model, n.method): n for n in numbers if n.data == data}
    models = [model for model, name in values if name == method]
    return [(values[m, method], values[m, THEIR_REFERENCE]) for m in models if (m, THEIR_REFERENCE) in values]


def _mean(cells: Sequence[Outcome], spec: TheirSystem, metric: str) -> float | None:
    """Over seeds, of the system's mean or of its samples alone."""
    own = [
        o.facts.get("members", {}).get(spec.ours, {}).get(metric)
        if spec.members
        else o.figure(f"{SYSTEM}{spec.ours}", metric)
        for o in cells
    ]
    found = [value for value in own if value is not None]
    return float(np.mean(found)) if found else None


def _value(published: Number | None) -> float | None:
    """As a fraction, where it is a share in percent."""
    if published is None:
        return None
    return published.value / 100 if published.unit.startswith("%") else published.value


def _shown(metric: str, value: float | None) -> str:
    return _ABSENT if value is None else number(metric, value)
