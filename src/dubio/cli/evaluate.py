"""`dubio evaluate`: a fitted artefact on a test table -> the comparison table, metrics.json and the HTML report."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console

from dubio.artifacts.store import Artifact, load_artifact
from dubio.cli.common import Session
from dubio.containers import Representations
from dubio.data.splits import check_disjoint
from dubio.data.tables import TextTable
from dubio.files import write_json
from dubio.models.proofs import check_fingerprint
from dubio.report.content import Cost, ReportContent
from dubio.report.html import write_report
from dubio.report.terminal import metrics_table
from dubio.workflow.evaluation import Evaluation, evaluate
from dubio.workflow.tables import split_facts

AGREEMENT = "agreement"


def run(
    session: Session, test: str, ood: str | None, report: Path | None, budget: tuple[float, float], draws: int = 1000
) -> Evaluation:
    """Checks the artefact and the split before the forward pass; prints the table and writes the report."""
    artifact, _ = load_artifact(session.folder, session.model.head)
    check_fingerprint(session.model, artifact.fingerprint)
    table = session.read(test)
    away = session.read(ood, labels=False) if ood is not None else None
    check_against(artifact, table)
    rows = session.prepare(table).load()
    strange = None if away is None else session.prepare(away, labels=False).load()
    agreement = table.numbers(AGREEMENT) if AGREEMENT in table.frame.column_names else None
    found = evaluate(artifact, rows, ood=strange, agreement=agreement, budget=budget, draws=draws)
    Console().print(metrics_table(found.metrics, "test"))
    Console().print(artifact.choice.why, found.threshold.promise, sep="\n", highlight=False)
    if report is not None:
        write_json(report / "metrics.json", [asdict(metric) for metric in found.metrics])
        path = write_report(report, content(session, artifact, (table, rows), found))
        Console().print(f"report: {path}", highlight=False)
    return found


def check_against(artifact: Artifact, table: TextTable) -> None:
    """Refuses test rows that the artefact was fitted on."""
    check_disjoint({"test": table}, stored=artifact.hashes)


def content(
    session: Session, artifact: Artifact, test: tuple[TextTable, Representations], found: Evaluation
) -> ReportContent:
    """Everything that the report shows."""
    table, rows = test
    names, errors = np.array(artifact.labels), rows.errors
    report = check_disjoint({"test": table})
    costs = [
        Cost(
            name,
            fitted.fit_seconds,
            found.milliseconds[name],
            sum(a.nbytes for a in fitted.score.state().arrays.values()),
        )
        for name, fitted in artifact.methods.items()
    ]
    return ReportContent(
        title=f"{session.folder.name} on {table.name}",
        model={key: str(value) for key, value in artifact.model.items()},
        splits={**artifact.splits, **split_facts({"test": table}, report)},
        metrics=found.metrics,
        errors=errors,
        scores=found.scores,
        ood=found.ood,
        before=np.exp(found.scores["softmax_response"].uncertainty),
        texts=table.texts,
        predicted=list(names[rows.predictions]),
        labels=list(names[rows.known_labels]),
        chosen=artifact.choice.method,
        why=artifact.choice.why,
        threshold=found.threshold,
        realised=found.realised,
        costs=costs,
    )
