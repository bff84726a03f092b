"""A fit and the model that it belongs to -> the artefact beside the adapter, with its figures and its card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dubio.adapters.seen import check_unseen
from dubio.artifacts.manifest import CalibrationFigure
from dubio.artifacts.store import Artifact, save_artifact
from dubio.containers import Scores
from dubio.data.splits import check_disjoint
from dubio.data.tables import TextTable
from dubio.metrics import Bootstrap, evaluate_scores
from dubio.models.adapted import AdaptedModel
from dubio.models.adapter.files import find_adapter
from dubio.models.checks.load_checks import fingerprint
from dubio.report.card import render_card
from dubio.workflow.binding import bound_facts
from dubio.workflow.fitting import Fit
from dubio.workflow.inputs import input_facts
from dubio.workflow.opening import read_posteriors
from dubio.workflow.tables import split_facts


def artifact_of(
    fit: Fit, model: AdaptedModel | None, tables: Mapping[str, TextTable], name: str,
    posteriors: Mapping[str, str] | None = None,
) -> Artifact:  # fmt: skip
    """Ties a fit to its model and splits. tables: split name -> the rows that it was fitted on. name: for the card.

    model: None for a fit of arrays, which then bears no fingerprint. posteriors: name -> SHA-256 of those whose samples
    were fitted on. Raises DubioError where two tables share rows.
    """
    bound: dict[str, NDArray[np.float64]] = {}
    if model is None:
        classes = fit.judged.classes
        about, labels, prints = {"adapter": name}, tuple(map(str, range(classes))), np.zeros((0, classes), np.float32)
    else:
        about: dict[str, Any] = {"adapter": name, "base": model.base, "kind": model.kind, "family": model.family,
                 "precision": model.precision, "max_length": model.max_length,
                 **({} if model.choices is None else {"choices": model.choices.facts()}),
                 **{f"{what}_sha256": digest for what, digest in model.hashes.items()}}  # fmt: skip
        labels, prints = tuple(model.labels), fingerprint(model)
        facts, bound = bound_facts(model)
        about |= facts
    shape = fit.judged.shape
    about = {**about, "width": shape.width, **({"samples": dict(shape.samples)} if shape.samples else {})}
    if fit.mean_of is not None:
        about = {**about, "mean_of": fit.mean_of}
    about = {**about, **input_facts(tables.get("calibration"), fit.pairs)}
    about = {**about, **{f"posterior_{which}_sha256": digest for which, digest in (posteriors or {}).items()}}
    return Artifact(
        methods=fit.methods,
        choice=fit.choice,
        errors=fit.errors,
        left_out=fit.left_out,
        groups=fit.groups,
        model=about,
        labels=labels,
        splits=split_facts(dict(tables), check_disjoint(tables), model),
        hashes={split: table.rows_hash for split, table in tables.items()},
        fingerprint=prints,
        calibration=calibration_figures(fit),
        bound=bound,
    )


def save(
    fit: Fit, model: AdaptedModel | None, folder: str | Path, tables: Mapping[str, TextTable] | None = None
) -> Path:
    """Writes `folder/dubio/` (see `artifact_of`) and returns the manifest's path.

    tables: the splits that it was fitted on, by name, so that a later test set is refused where it overlaps.
    Raises DubioError where the folder cannot be written, two of the tables share rows, or calibration shares some with
    those that the adapter in the folder was trained on.
    """
    if "calibration" in (tables or {}) and (Path(folder) / "adapter_config.json").is_file():
        check_unseen(find_adapter(folder), {"calibration": (tables or {})["calibration"]})
    beside = {name: stored.sha256 for name, stored in read_posteriors(folder).items() if name in fit.judged.samples}
    artifact = artifact_of(fit, model, tables or {}, Path(folder).resolve().name, beside)
    return save_artifact(Path(folder), artifact, render_card(artifact))


def calibration_figures(fit: Fit) -> tuple[CalibrationFigure, ...]:
    """Figures of every method on the fitting half of calibration, from out-of-fold scores."""
    scores = [Scores.of(name, u, fit.methods[name].recalibrator.predict(u)) for name, u in fit.honest.items()]
    judged = fit.judged
    found = evaluate_scores(
        "calibration", scores, judged.logits, judged.labels, bootstrap=Bootstrap(draws=200), groups=judged.groups
    )
    return tuple(
        CalibrationFigure(method=m.method, metric=m.metric, value=m.value, low=m.low, high=m.high, why=m.why)
        for m in found
    )
