"""The step that runs no model: every method fitted on a cell's arrays, one chosen, all judged on test, opened once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dubio.containers import Representations
from dubio.heads import stored_head
from dubio.measures import log_mean
from dubio.models.cache import read_arrays
from dubio.safe_reading import read_json
from dubio.scores.registry import METHODS, get_method, sampled_names
from dubio.workflow.evaluation import evaluate
from dubio.workflow.fitting import FitPlan, fit_methods
from dubio_bench.grid.config import variant_of
from dubio_bench.grid.steps import OWN, Step
from dubio_bench.results.cell_result import save_outcome
from dubio_bench.run.model_steps import HEAD, held_out_rows
from dubio_bench.run.store import StepStore


def judge(step: Step, folder: Path, store: StepStore) -> dict[str, Any]:
    """Of the adapter's own predictions, or of the mean of one posterior's."""
    facts, whose, shown = step.facts, step.facts["predictions"], step.needs["represent"]
    here = store.folder(shown.kind, shown.key)
    drawn = {name: store.folder(s.kind, s.key) for name, s in step.needs.items() if name != "represent"}
    tables = {name: rows_of(here, drawn, name, whose) for name in shown.facts["tables"]}
    own = whose == OWN  # of the mean, no one head gives its answers
    drawn_from = [n for n, table in tables["calibration"].samples.items() if len(table) > 1]  # one sample says nothing
    measures = [m for name in drawn_from for m in sampled_names(name)]
    methods = [get_method(name) for name in facts["methods"] or [*METHODS, *measures]]
    methods += [variant_of(name, options) for name, options in facts["variants"].items()]
    plan = FitPlan(methods, share=facts["certification"], show=False)
    head = _head(here) if own else None
    # Train rows of the mean hold no samples, but for K-fold adapters, where each is given by the one member that has
    # not seen it: its own features and answer, not the mean's.
    train = tables["train"] if own or held_out_rows(step.needs[whose].needs["posterior"]) else None
    fit = fit_methods(train, tables["calibration"], head, plan)
    found = evaluate(fit, tables["test"], ood=tables.get("ood"), draws=1)
    save_outcome(folder, step, fit, found, tables["test"])
    return {"choice": fit.choice.method, "left_out": dict(fit.left_out)}


def rows_of(here: Path, drawn: Mapping[str, Path], name: str, whose: str) -> Representations:
    """One table of a cell: the adapter's own rows with all samples, or the mean of one posterior's."""
    arrays = read_arrays(here / f"{name}.safetensors", sealed=False)
    paths = {p: folder / f"{name}.safetensors" for p, folder in drawn.items() if name != "train" or p == whose}
    found = {p: read_arrays(path, sealed=False) for p, path in paths.items() if path.exists()}
    samples = {p: np.asarray(table["samples"]) for p, table in found.items()}
    labels, groups = arrays.get("labels"), arrays.get("groups")
    if whose not in found:
        return Representations.of(arrays["features"], arrays["logits"], labels, groups, samples)
    mean = log_mean(samples[whose])
    kept = {} if name == "train" else {whose: samples[whose]}  # of a held-out train row there is but one
    return Representations.of(found[whose]["features"], mean, labels, groups, kept, whose)


def _head(here: Path) -> Any:
    return stored_head(read_json(here / f"{HEAD}.json"), read_arrays(here / f"{HEAD}.safetensors", sealed=False))
