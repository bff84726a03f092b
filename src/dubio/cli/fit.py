"""`dubio fit`: representations of train and calibration rows -> every method, a choice, an artefact by the adapter."""

from rich.console import Console

from dubio.artifacts.manifest import CalibrationFigure
from dubio.artifacts.store import Artifact, save_artifact
from dubio.cli.common import Session
from dubio.containers import Scores
from dubio.data.splits import check_disjoint
from dubio.data.tables import TextTable
from dubio.metrics import Bootstrap, evaluate_scores
from dubio.models.proofs import fingerprint
from dubio.report.card import render_card
from dubio.scores.registry import METHODS, get_method
from dubio.workflow.fitting import Fit, FitPlan, fit_methods
from dubio.workflow.tables import split_facts


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
    artifact = Artifact(
        methods=fit.methods,
        choice=fit.choice,
        errors=fit.errors,
        model=session.identity,
        labels=tuple(session.model.labels),
        splits=split_facts(tables, report),
        hashes={name: table.rows_hash for name, table in tables.items()},
        fingerprint=fingerprint(session.model),
        calibration=calibration_figures(fit),
    )
    path = save_artifact(folder, artifact, render_card(artifact))
    Console().print(f"{report}\n{fit.choice.why}\nwrote {path}", highlight=False)
    return artifact


def calibration_figures(fit: Fit) -> tuple[CalibrationFigure, ...]:
    """Figures of every method on the fitting half of calibration, from out-of-fold scores."""
    scores = [Scores.of(name, u, fit.methods[name].recalibrator.predict(u)) for name, u in fit.honest.items()]
    found = evaluate_scores("calibration", scores, fit.judged.logits, fit.judged.labels, bootstrap=Bootstrap(draws=200))
    return tuple(
        CalibrationFigure(method=m.method, metric=m.metric, value=m.value, low=m.low, high=m.high) for m in found
    )
