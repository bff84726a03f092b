"""Tables of a grid, rebuilt from its outcomes alone: words and numbers in rows, not yet in any format.

methods    scores of the same predictions by error ROC-AUC: rank, gain over the reference with its interval, columns
           won, tied and lost, the mean and s.d. over seeds on each set, costs, and the paper's gain
systems    each with its own predictions: accuracy, NLL, ECE, AURC, means over columns, and what they cost
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dubio.errors import DubioError
from dubio.metrics.evaluation import ADAPTER, DETECTION, REFERENCE
from dubio.posteriors.registry import POSTERIORS
from dubio.report.words import title_of
from dubio_bench.grid.config import Grid
from dubio_bench.grid.published import REFERENCE as THEIR_REFERENCE
from dubio_bench.grid.published import Number, gain, no_row_of, sources, unknown_to
from dubio_bench.results.cell_result import Outcome
from dubio_bench.results.statistics import MORE_IS_BETTER, SYSTEM, Column, Comparison, Difference, compare

PERCENT = {name for name in MORE_IS_BETTER if name not in ("nll", "brier", "aurc", "e_aurc", "augrc")}
UNTESTED = "–"
OF_SYSTEMS = ("accuracy", "nll", "ece_equal_width_15", "aurc")
TITLES = {"error_roc_auc": "error ROC-AUC", "ece_equal_width_15": "ECE (15 bins)", "nll": "NLL", "aurc": "AURC",
          "accuracy": "accuracy", "ood_roc_auc": "OOD ROC-AUC"}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """header, rows: what is shown. records: the same as plain values, a line each, for a machine."""

    name: str
    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    records: tuple[Mapping[str, Any], ...]


def methods_table(grid: Grid, outcomes: Sequence[Outcome], found: Comparison, published: Sequence[Number]) -> Table:
    """What is compared, best rank first. Raises DubioError where the reference is not among it."""
    reference = reference_of(found.metric)
    if reference not in found.methods:
        raise DubioError(f"the reference {reference!r} is not among the methods: {', '.join(found.methods)}")
    verdicts = found.verdicts(reference)
    theirs = _published_gains(grid, published) if found.metric == "error_roc_auc" else {}
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for method in sorted(found.methods, key=found.ranks.__getitem__):
        difference = found.difference(method, reference)
        won = verdicts.get(method)
        costs = _costs(outcomes, method)
        rows.append((
            grid_title(grid, method), f"{found.ranks[method]:.1f}",
            "" if method == reference else interval(difference, found.metric),
            "" if won is None else "/".join(map(str, won)) if any(won) else UNTESTED,
            *(spread(found.metric, column, method) for column in found.columns),
            *costs, *((theirs.get(method, ""),) if theirs else ()),
        ))  # fmt: skip
        records += [
            {"method": method, "model": c.model, "data": c.data, "predictions": found.predictions,
             "metric": found.metric, "seeds": len(c.seeds), "mean": found.mean(method, c),
             "sd": float(c.values[method].std(ddof=1)) if len(c.seeds) > 1 else None,
             "mean_rank": found.ranks[method], "gain": difference.value, "gain_low": difference.low,
             "gain_high": difference.high}
            for c in found.columns
        ]  # fmt: skip
    several = len({c.model for c in found.columns}) > 1
    over = f"{grid_title(grid, reference).lower()}"
    gain_title = f"gain over {over}" if found.sign > 0 else f"minus {over} (less is better)"
    header = ("method", "rank", gain_title, "w/t/l",
              *(f"{c.model} {c.data}" if several else c.data for c in found.columns),
              "fit s", "ms/1000 rows", *(("paper’s gain",) if theirs else ()))  # fmt: skip
    gains = "gains" if found.sign > 0 else "differences"
    units = f"{_word(found)} in percent, {gains} in points" if found.metric in PERCENT else ""
    note = _present(grid, outcomes, found.predictions) + _note(found, units) + _machines(outcomes)
    if found.metric == "error_roc_auc":
        note += _published_note(grid, published)
    return Table("methods", f"{grid.name}: {_word(found)}{_judged(found)}", note, header, tuple(rows), tuple(records))


def reference_of(metric: str) -> str:
    """What others are compared with: softmax response, or the adapter itself where predictions are judged."""
    return REFERENCE if metric in DETECTION or metric == "ood_roc_auc" else f"{SYSTEM}{ADAPTER}"


def systems_table(grid: Grid, outcomes: Sequence[Outcome], draws: int) -> Table | None:
    """Systems with their own predictions; None where there is none but the adapter."""
    if not any(name != ADAPTER for outcome in outcomes for name in outcome.systems):
        return None
    found = {metric: compare(outcomes, metric, methods=_systems(outcomes), draws=draws) for metric in OF_SYSTEMS}
    first, reference = found["nll"], f"{SYSTEM}{ADAPTER}"
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for system in sorted(first.methods, key=first.ranks.__getitem__):
        name, cost = system.removeprefix(SYSTEM), _made(outcomes, system.removeprefix(SYSTEM))
        means = [float(np.mean([found[m].mean(system, c) for c in found[m].columns])) for m in OF_SYSTEMS]
        rows.append((
            grid_title(grid, name), f"{first.ranks[system]:.1f}",
            *(number(m, value) for m, value in zip(OF_SYSTEMS, means, strict=True)),
            "" if system == reference else interval(first.difference(system, reference), "nll"),
            _under(outcomes, name), *(spread("nll", column, system) for column in first.columns), *cost,
        ))  # fmt: skip
        records += [
            {"system": name, "model": c.model, "data": c.data, "metric": m, "mean": found[m].mean(system, c),
             "sd": float(c.values[system].std(ddof=1)) if len(c.seeds) > 1 else None}
            for m in OF_SYSTEMS for c in found[m].columns
        ]  # fmt: skip
    header = ("system", "rank", *(TITLES[m] for m in OF_SYSTEMS), "NLL minus the adapter’s", "AURC under its samples’",
              *(f"NLL {c.model} {c.data}" for c in first.columns), "numbers stored", "made in s")  # fmt: skip
    note = _present(grid, outcomes) + _note(first, "accuracy and ECE in percent", verdicts=False) + _machines(outcomes)
    return Table("systems", f"{grid.name}: systems, each with its own predictions", note, header, tuple(rows),
                 tuple(records))  # fmt: skip


def pair_table(found: Comparison, first: str, second: str) -> Table:
    """Two methods, column by column and over all; raises DubioError where one is not among the methods."""
    for name in (first, second):
        if name not in found.methods:
            raise DubioError(f"there is no method {name!r} in every cell; there are: {', '.join(found.methods)}")
    parts = [(f"{c.model} {c.data}", [c]) for c in found.columns]
    parts += [("all", list(found.columns))] if len(parts) > 1 else []
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for name, columns in parts:
        d = found.difference(first, second, columns)
        means = [float(np.mean([found.mean(m, c) for c in columns])) for m in (first, second)]
        rows.append((name, *(number(found.metric, m) for m in means), interval(d, found.metric),
                     f"{d.p:.2g}" if np.isfinite(d.p) else UNTESTED))  # fmt: skip
        records.append({"column": name, first: means[0], second: means[1], "difference": d.value, "low": d.low,
                        "high": d.high, "p": d.p})  # fmt: skip
    title = f"{title_of(first)} against {title_of(second).lower()}: {_word(found)}{_judged(found)}"
    units = f"{_word(found)} in percent, differences in points" if found.metric in PERCENT else ""
    note = _note(found, units, verdicts=False, spreads=False)
    return Table("pair", title, note, ("set", first, second, "difference", "p"), tuple(rows), tuple(records))


def number(metric: str, value: float) -> str:
    """In percent where the metric is a share."""
    return f"{100 * value:.1f}" if metric in PERCENT else f"{value:.3f}"


def spread(metric: str, column: Column, method: str) -> str:
    """Mean ± s.d. over seeds."""
    values = column.values[method]
    shown = number(metric, float(values.mean()))
    return shown if len(values) < 2 else f"{shown} ± {number(metric, float(values.std(ddof=1)))}"


def interval(d: Difference, metric: str) -> str:
    """A difference with its interval."""
    factor, digits = (100, 1) if metric in PERCENT else (1, 3)
    value = f"{factor * d.value:+.{digits}f}"
    return value if np.isnan(d.low) else f"{value} ({factor * d.low:+.{digits}f} to {factor * d.high:+.{digits}f})"


def grid_title(grid: Grid, method: str) -> str:
    """A method's, a variant's or a system's name in words."""
    method = method.removeprefix(SYSTEM)
    if method == ADAPTER:
        return "The adapter itself"
    if method == grid.pooled:
        return f"The adapters of all seeds ({method})"
    made_by = next((name for name, spec in grid.posteriors.items() if method in (name, *spec.stages)), None)
    if made_by is not None:
        kind = grid.posteriors[made_by].kind or made_by
        return POSTERIORS[kind].title if kind == method else f"{POSTERIORS[kind].title} ({method})"
    return method if method in grid.variants else title_of(method)


def _word(found: Comparison) -> str:
    return TITLES.get(found.metric, found.metric)


def _judged(found: Comparison) -> str:
    """Whose predictions are judged, where it is not the adapter's own."""
    return "" if found.predictions == "own" else f", judged on the predictions of {found.predictions}"


def _present(grid: Grid, outcomes: Sequence[Outcome], predictions: str = "own") -> str:
    """How many cells of the grid are there, where some are not."""
    there, whole = sum(o.place[3] == predictions for o in outcomes), len(grid.models) * len(grid.data) * len(grid.seeds)
    return f"{there} of {whole} cells; " if there < whole else ""


def _machines(outcomes: Sequence[Outcome]) -> str:
    """A sentence where times are means over machines that differ: of GPUs, or the processor of a cell without one."""
    names: set[str] = set()
    for facts in (o.facts for o in outcomes):
        processor = (facts.get("machine") or {}).get("processor") or "unknown"
        names |= {took.get("gpu") or processor for took in facts.get("took", {}).values()}
    return f" Times are of machines that differ: {', '.join(sorted(names))}." if len(names) > 1 else ""


def _note(found: Comparison, units: str = "", *, verdicts: bool = True, spreads: bool = True) -> str:
    """What is behind a table. verdicts, spreads: whether it has `w/t/l`, and means over seeds with their s.d."""
    seeds, pairs = sorted({len(c.seeds) for c in found.columns}), len(found.columns)
    parts = [f"{pairs} pair{'s' if pairs > 1 else ''} of model and set, {' or '.join(map(str, seeds))} "
             f"seed{'s' if max(seeds) > 1 else ''}"]  # fmt: skip
    if spreads and max(seeds) > 1:
        parts.append("mean ± s.d. over seeds")
    if units:
        parts.append(units)
    if found.tested:
        parts.append(f"intervals: 95 %, paired, over rows{' and seeds' if max(seeds) > 1 else ''}")
    if found.tested and verdicts:
        parts.append("w/t/l: columns won, tied, lost after Holm’s correction")
    told = f"{'; '.join(parts)}."
    if verdicts and any("." in method and not method.startswith(SYSTEM) for method in found.methods):
        told += " What is read from samples costs its passes and the making of its posterior besides: see the systems."
    return told + (f" Not in every cell: {', '.join(found.left_out)}." if found.left_out else "")


def _systems(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(f"{SYSTEM}{name}" for outcome in outcomes for name in outcome.systems))


def _costs(outcomes: Sequence[Outcome], method: str) -> tuple[str, str]:
    """Mean (seconds to fit, milliseconds a thousand rows), blank for a system."""
    told = [outcome.facts["methods"][method] for outcome in outcomes if method in outcome.facts["methods"]]
    if not told:
        return "", ""
    return f"{np.mean([t['fit_seconds'] for t in told]):.1f}", f"{np.mean([t['ms_per_1000'] for t in told]):.2f}"


def _made(outcomes: Sequence[Outcome], name: str) -> tuple[str, str]:
    """(numbers stored, seconds to make) of a posterior, as its step told; blank for other systems."""
    took = [o.facts.get("took", {}).get(f"posterior {name}", {}) for o in outcomes]
    stored, spent = ([t[key] for t in took if key in t] for key in ("stored", "made_seconds"))
    return f"{np.mean(stored):,.0f}" if stored else "", f"{np.mean(spent):.0f}" if spent else ""


def _under(outcomes: Sequence[Outcome], name: str) -> str:
    """How much lower a posterior's AURC is than that of its samples alone, in the mean over cells; blank for others."""
    pairs = [(o.facts["members"][name]["aurc"], o.figure(f"{SYSTEM}{name}", "aurc"))
             for o in outcomes if name in o.facts.get("members", {})]  # fmt: skip
    shares = [1 - own / alone for alone, own in pairs if own is not None and alone > 0]
    return f"{100 * np.mean(shares):.1f} %" if shares else ""


def _published_gains(grid: Grid, published: Sequence[Number]) -> dict[str, str]:
    """Our method -> the paper's mean gain over its reference."""
    if grid.published is None:
        return {}
    own = _on_our_sets(grid, published)
    found = {ours: gain(own, theirs) for theirs, ours in grid.published.methods.items()}
    return {ours: f"{told[0]:+.2f} ({told[1]})" for ours, told in found.items() if told is not None}


def _on_our_sets(grid: Grid, published: Sequence[Number]) -> list[Number]:
    """Rows on the sets that the grid names; all, where it names none."""
    sets = {spec.published for spec in grid.data.values()} - {None}
    return [number for number in published if not sets or number.data in sets]


def _published_note(grid: Grid, published: Sequence[Number]) -> str:
    """Where the papers' gains are from, and what the config names in vain."""
    if grid.published is None or not published:
        return ""
    last = {(n.model, n.data, n.method): n for n in _on_our_sets(grid, published)}  # as `gain` reads them
    used = [n for n in last.values() if n.method in grid.published.methods]
    told = [f"The paper’s gain (over how many): {sources(used)}." if used else "",
            no_row_of(grid.published.source, unknown_methods(grid, published))]  # fmt: skip
    return "".join(f" {sentence}" for sentence in told if sentence)


def unknown_methods(grid: Grid, published: Sequence[Number]) -> list[str]:
    """The source's methods and sets that the grid names, of which it has no row; its reference is one of them."""
    assert grid.published is not None
    return unknown_to(published, (THEIR_REFERENCE, *grid.published.methods), (d.published for d in grid.data.values()))
