"""Tables of docs/findings.md from the outcomes of the grids under results/: what `dubio bench show` shows, in short.

In: results/GRID/. Out: Markdown tables by the names that docs/findings.md.in uses. No model runs.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dubio.metrics import aurc, roc_auc
from dubio.report.words import title_of
from dubio_bench.commands import by_metric, published_of, read_results
from dubio_bench.grid.config import Grid
from dubio_bench.grid.published import gain
from dubio_bench.results import published_tables as beside
from dubio_bench.results import tables
from dubio_bench.results.cell_result import Outcome
from dubio_bench.results.export import markdown_rows
from dubio_bench.results.statistics import Comparison, compare

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PUBLISHED = ROOT / "results", ROOT / "configs" / "published.csv"
DRAWS = 300
BASE = "softmax_response"
ONE_PASS = ("five.distilled", "adue_unguarded", "probe", "probe_both", "refitted_train", "refitted_calibration",
            "refitted_both", "huq_md", "temperature", "md")  # fmt: skip


def grids() -> dict[str, Callable[[], str]]:
    """Name in the text -> what makes its table. Raises DubioError where a grid has not run."""
    return {
        "adue_minilm": lambda: gains("adue-minilm"),
        "adue_smollm2": lambda: gains("adue-smollm2"),
        "adue_beside": lambda: gains_beside("adue-minilm", ("adue_unguarded", "md", "rmd", "rde")),
        "train_errors": lambda: train_errors("adue-minilm", "adue-smollm2"),
        "follows": lambda: follows("adue-smollm2", "adue-minilm"),
        "probabilities": lambda: probabilities("adue-minilm"),
        "one_pass": lambda: gains("one-pass-minilm"),
        "one_pass_choice": lambda: chosen("one-pass-minilm", ONE_PASS),
        "one_pass_systems": lambda: systems("one-pass-minilm", ("adapter", "five", "five.temperature", "temperature",
                                                                "refitted_calibration")),
        "five_two_classes": lambda: five_of_two_classes("adue-minilm", "adue-smollm2"),
        "five_systems": lambda: systems("five-minilm", ("adapter", "ensemble", "kfold", "mc_dropout", "temperature")),
        "on_the_ensemble": lambda: gains("five-minilm", "ensemble"),
        "on_kfold": lambda: gains("five-minilm", "kfold"),
        "on_swag": lambda: gains("swag-mean-minilm", "swag_lora"),
        "b_lora_xs": lambda: systems("b-lora-xs-minilm"),
        "b_lora_xs_beside": lambda: systems_beside("b-lora-xs-minilm"),
        "b_lora_xs_smollm2": lambda: systems("b-lora-xs-smollm2"),
        "b_lora_xs_smollm2_beside": lambda: systems_beside("b-lora-xs-smollm2"),
        "ensembles_minilm": lambda: epochs("lora-ensembles-minilm"),
        "ensembles_beside": lambda: systems_beside("lora-ensembles-minilm"),
        "ensembles_smollm2": lambda: epochs("lora-ensembles-smollm2"),
        "bayeslora_minilm": lambda: gains("bayeslora-minilm"),
        "bayeslora_smollm2": lambda: gains("bayeslora-smollm2"),
        "bayeslora_minilm_systems": lambda: systems("bayeslora-minilm"),
        "bayeslora_smollm2_systems": lambda: systems("bayeslora-smollm2"),
        "bayeslora_beside": lambda: systems_beside("bayeslora-minilm", "bayeslora-smollm2"),
        "laplace": lambda: systems("laplace-minilm"),
        "entropy_head": lambda: gains("adue-entropy-minilm"),
        "short": lambda: gains("short-minilm"),
        "calibration_rows": calibration_rows,
    }  # fmt: skip


def readme() -> str:
    """What is worth how much, on AdUE's five sets: the README's table."""
    found, grid = compared("one-pass-minilm"), outcomes_of("one-pass-minilm")[0]
    theirs = gain(by_metric(grid, published_of(grid, PUBLISHED)), "AdUE (Ours)")
    assert theirs is not None
    words = {
        "five.response": ("softmax response of an ensemble of five", "5"),
        "five.distilled": ("the same ensemble, distilled into the one adapter", "1"),
        "refitted_calibration": ("a classification head fitted again (the control)", "1"),
        "probe": ("anchored probe", "1"),
        "adue_unguarded": (f"AdUE by its paper's protocol ({theirs[0]:+.1f} there)", "1"),
        "five.mutual_information": ("mutual information of the ensemble", "5"),
        "md": ("Mahalanobis distance", "1"),
    }
    rows = [(what, passes, tables.interval(found.difference(method, BASE), found.metric))
            for method, (what, passes) in words.items()]  # fmt: skip
    return markdown_rows(
        ("uncertainty read from", "passes a row", "gain over softmax response, percentage points"), rows
    )


@cache
def outcomes_of(name: str, whose: str = "own") -> tuple[Grid, list[Outcome]]:
    """A grid's config and its finished cells."""
    return read_results(RESULTS / name, whose)


@cache
def compared(name: str, whose: str = "own") -> Comparison:
    """All its methods by error ROC-AUC."""
    return compare(outcomes_of(name, whose)[1], "error_roc_auc", draws=DRAWS, predictions=whose)


def gains(name: str, whose: str = "own") -> str:
    """Rank, mean gain over softmax response with its interval, and the gain on each set, in points."""
    grid, found = outcomes_of(name, whose)[0], compared(name, whose)
    several = len({c.model for c in found.columns}) > 1
    header = ("method", "rank", "gain over softmax response",
              *(f"{c.model} {c.data}" if several else c.data for c in found.columns))  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for method in sorted(found.methods, key=lambda m: found.ranks[m]):
        each = [100 * found.difference(method, BASE, [c]).value for c in found.columns]
        level = [f"({100 * found.mean(BASE, c):.1f})" for c in found.columns]
        rows.append((
            tables.grid_title(grid, method), f"{found.ranks[method]:.1f}",
            "–" if method == BASE else tables.interval(found.difference(method, BASE), found.metric),
            *(level if method == BASE else (f"{value:+.1f}" for value in each)),
        ))  # fmt: skip
    return f"{told(found)}\n\n{markdown_rows(header, rows)}"


def told(found: Comparison) -> str:
    """Cells behind a table."""
    cells = ", ".join(f"{c.model} {c.data} {len(c.seeds)}" for c in found.columns)
    return f"Seeds: {cells}. Softmax response itself in brackets; percentage points of error ROC-AUC; 95 % intervals."


def chosen(name: str, methods: Sequence[str]) -> str:
    """Mean gain out of fold on calibration, by which one chooses, beside that on test."""
    outcomes, found = outcomes_of(name)[1], compared(name)
    rows: list[tuple[float, tuple[str, ...]]] = []
    for method in methods:
        seen = [known for o in outcomes if method in (known := o.facts.get("calibration", {}))]
        gain = 100 * float(np.mean([c[method] - c[BASE] for c in seen]))
        on_test = tables.interval(found.difference(method, BASE), found.metric)
        rows.append((gain, (title_of(method), f"{gain:+.2f}", on_test)))
    ordered = [row for _, row in sorted(rows, key=lambda item: -item[0])]
    return markdown_rows(("one pass", "gain on calibration, out of fold", "gain on test"), ordered)


def probabilities(name: str) -> str:
    """Expected calibration error of each method's error probability, in points, beside its gain."""
    grid, outcomes = outcomes_of(name)
    found = compared(name)
    header = ("method", "ECE of the error probability", "Brier score", "gain in error ROC-AUC")
    rows = [
        (tables.grid_title(grid, method), f"{100 * _mean(outcomes, method, 'error_probability_ece'):.1f}",
         f"{_mean(outcomes, method, 'error_probability_brier'):.4f}",
         "–" if method == BASE else f"{100 * found.difference(method, BASE).value:+.1f}")
        for method in sorted(found.methods, key=lambda m: _mean(outcomes, m, "error_probability_brier"))
    ]  # fmt: skip
    return markdown_rows(header, rows)


def systems(name: str, wanted: Sequence[str] | None = None) -> str:
    """Systems by their own predictions, means over columns."""
    grid, outcomes = outcomes_of(name)
    made = tables.systems_table(grid, outcomes, DRAWS)
    assert made is not None
    names = list(dict.fromkeys(r["system"] for r in made.records))
    kept = [row for system, row in zip(names, made.rows, strict=True) if wanted is None or system in wanted]
    columns = [0, 2, 3, 4, 5, 6, 7]
    return markdown_rows([made.header[c] for c in columns], [[row[c] or "–" for c in columns] for row in kept])


def five_of_two_classes(*names: str) -> str:
    """AURC of the mean of all seeds' adapters beside theirs: of two classes, a row's loss is its whole prediction."""
    rows: list[tuple[str, ...]] = []
    for name in names:
        cells = [o for o in outcomes_of(name)[1] if o.facts["classes"] == 2]
        for model, data in dict.fromkeys(o.place[:2] for o in cells):
            p = np.array([np.exp(-np.float64(o.systems["adapter"][1])) for o in cells if o.place[:2] == (model, data)])
            alone, five = float(np.mean([_aurc_of_label(own) for own in p])), _aurc_of_label(p.mean(axis=0))
            rows.append(
                (f"{model} {data}", str(len(p)), f"{alone:.3f}", f"{five:.3f}", f"{100 * (1 - five / alone):.1f} %")
            )
    return markdown_rows(("", "adapters", "AURC of each alone", "of their mean", "under"), rows)


def _aurc_of_label(probability: NDArray[np.float64]) -> float:
    """Of two classes, from the label's probability `[N]`."""
    return aurc(np.minimum(probability, 1 - probability), probability < 0.5)


def follows(*names: str) -> str:
    """AdUE's gain beside the refitted head's on the same adapter, over cells."""
    rows: list[tuple[str, ...]] = []
    for name in names:
        outcomes = outcomes_of(name)[1]
        gained = {
            method: np.array([100 * (_figure(o, method) - _figure(o, BASE)) for o in outcomes])
            for method in ("adue_unguarded", "refitted_both")
        }
        theirs, control = gained.values()
        most = int(np.argmax(theirs))
        rows.append((
            name, str(len(outcomes)), f"{np.corrcoef(theirs, control)[0, 1]:.2f}",
            f"{' '.join(map(str, outcomes[most].place[1:3]))}: {theirs[most]:+.1f}", f"{control[most]:+.1f}",
        ))  # fmt: skip
    return markdown_rows(
        ("grid", "cells", "correlation of the gains", "largest gain of AdUE", "refitted head there"), rows
    )


def _figure(outcome: Outcome, method: str) -> float:
    value = outcome.figure(method, "error_roc_auc")
    assert value is not None
    return value


def calibration_rows() -> str:
    """Mean gain on test by how many calibration rows a method was fitted on, over sets and seeds."""
    table = json.loads((RESULTS / "calibration_rows_minilm.json").read_text(encoding="utf-8"))["table"]
    sizes = sorted({row["rows"] for row in table})
    rows: list[tuple[str, ...]] = []
    for method in dict.fromkeys(row["method"] for row in table):
        found = [[r["gain"] for r in table if (r["method"], r["rows"]) == (method, size)] for size in sizes]
        rows.append((title_of(method), *(f"{np.mean(each):+.2f}" if each else "–" for each in found)))
    return markdown_rows(("fitted on", *(f"{size} rows" for size in sizes)), rows)


def gains_beside(name: str, methods: Sequence[str]) -> str:
    """The paper's gains beside ours, of some of the methods."""
    grid = outcomes_of(name)[0]
    made = beside.gains_beside(grid, compared(name), by_metric(grid, published_of(grid, PUBLISHED)))
    assert made is not None
    kept = [row for row, record in zip(made.rows, made.records, strict=True) if record["method"] in methods]
    return f"{markdown_rows(made.header, kept)}\n\n{made.note}"


def train_errors(*names: str) -> str:
    """What AdUE learns from: errors on the adapter's own training rows, beside those on test; means over seeds."""
    rows: list[tuple[str, ...]] = []
    for name in names:
        for column in compared(name).columns:
            cells = [o for o in outcomes_of(name)[1] if o.place[:2] == column.name]
            count = np.mean([o.facts["took"]["adapter"]["rows"]["train"] for o in cells])
            wrong = np.mean([o.facts["methods"]["adue_unguarded"]["facts"]["errors_fitted_on"] for o in cells])
            away = np.mean([o.wrong.mean() for o in cells])
            gain = tables.interval(compared(name).difference("adue_unguarded", BASE, [column]), "error_roc_auc")
            epoch = np.mean([o.facts["took"]["adapter"]["best_epoch"] for o in cells])
            shares = (f"{100 * wrong / count:.1f} %", f"{100 * away:.1f} %")
            rows.append((f"{column.model} {column.data}", f"{count:,.0f}", f"{epoch:.1f}", *shares, gain))
    header = ("", "training rows", "best epoch", "errors on them", "errors on test", "gain of AdUE on train errors")
    return markdown_rows(header, rows)


def systems_beside(*names: str) -> str:
    """The paper's systems beside ours, of one grid or several with the same source."""
    made: list[tables.Table] = []
    for name in names:
        grid, outcomes = outcomes_of(name)
        found = beside.systems_beside(grid, outcomes, published_of(grid, PUBLISHED))
        assert found is not None
        made.append(found)
    assert len({table.note for table in made}) == 1
    return f"{markdown_rows(made[0].header, [row for table in made for row in table.rows])}\n\n{made[0].note}"


def epochs(name: str) -> str:
    """Ensembles by the epoch of their run: a member alone, the mean of all, and what tells the other domain.

    Both error ROC-AUCs are of the mean's own errors, so they compare within a row.
    """
    grid, outcomes = outcomes_of(name)
    shown = (("accuracy", 100, 1), ("nll", 1, 3), ("ece_equal_width_15", 100, 1), ("aurc", 1, 3))
    words = (*beside.OF, "AURC")
    header = ("trained with", "epoch", *(f"{word} of {who}" for word in words for who in ("members", "the mean")),
              *(f"OOD ROC-AUC of {word}" for word in ("MI", "entropy")),
              *(f"error ROC-AUC of {word}" for word in ("MI", "the response")))  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for of, spec in grid.posteriors.items():
        for system, epoch in ((of, "best"), *((stage, str(epoch)) for stage, epoch in spec.stages.items())):
            values = [
                [f"{scale * np.mean([of_members(o, system, metric) for o in outcomes]):.{digits}f}",
                 f"{scale * _mean(outcomes, f'system:{system}', metric):.{digits}f}"] for metric, scale, digits in shown
            ]  # fmt: skip
            areas = [_mean(outcomes, f"{system}.{m}", "ood_roc_auc") for m in ("mutual_information", "entropy")]
            judged = [(o.ranks[f"{system}.mutual_information"], *o.systems[system]) for o in outcomes]
            areas += [float(np.mean([roc_auc(mi, wrong) for mi, wrong, _, _ in judged])),
                      float(np.mean([roc_auc(response, wrong) for _, wrong, _, response in judged]))]  # fmt: skip
            rows.append((of, epoch, *(value for pair in values for value in pair), *(f"{100 * a:.1f}" for a in areas)))
    seeds = ", ".join(str(o.place[2]) for o in outcomes)
    return f"Means over seeds {seeds}.\n\n{markdown_rows(header, rows)}"


def of_members(outcome: Outcome, system: str, metric: str) -> float:
    """Of a sample alone, in the mean over a posterior's."""
    return outcome.facts["members"][system][metric]


def _mean(outcomes: Sequence[Outcome], method: str, metric: str) -> float:
    return float(np.mean([value for o in outcomes if (value := o.figure(method, metric)) is not None]))
