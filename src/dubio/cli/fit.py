"""`dubio fit`: representations of train and calibration rows -> every method, a choice, an artefact by the adapter."""

from pathlib import Path

from rich.console import Console

from dubio.artifacts.store import Artifact, save_artifact
from dubio.cli.common import Session
from dubio.data.splits import check_disjoint
from dubio.data.tables import TextTable
from dubio.report.card import render_card
from dubio.scores.registry import METHODS, get_method
from dubio.workflow.fitting import FitPlan, fit_methods
from dubio.workflow.saving import artifact_of


def run(session: Session, train: str | None, calibration: str, methods: str | None) -> Artifact:
    """Reads and checks everything before the first forward pass; writes nothing until all methods are fitted."""
    folder = session.folder
    names = tuple(METHODS) if methods is None else tuple(name.strip() for name in methods.split(","))
    for name in names:
        get_method(name)
    tables: dict[str, TextTable] = {}
    if train is not None:
        tables["train"] = session.read(train)
    tables["calibration"] = session.read(calibration)
    report = check_disjoint(tables)
    prepared = {name: session.prepare(table) for name, table in tables.items()}
    fit = fit_methods(
        prepared["train"].load() if "train" in prepared else None,
        prepared["calibration"].load(),
        session.model.head,
        FitPlan(names, show=not session.quiet),
    )
    artifact = artifact_of(fit, session.model, tables, Path(session.adapter).resolve().name)
    path = save_artifact(folder, artifact, render_card(artifact))
    Console().print(f"{report}\n{fit.choice.why}\nwrote {path}", highlight=False)
    return artifact
