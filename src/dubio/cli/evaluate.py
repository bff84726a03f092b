"""`dubio evaluate`: a fitted artefact on a test table -> the comparison table, metrics.json and the HTML report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from dubio.arrays import Float64
from dubio.artifacts.store import BOUND, Artifact
from dubio.cli.common import Session
from dubio.console import wide_console
from dubio.containers import Representations
from dubio.data.splits import DROP, check_disjoint
from dubio.data.tables import TextTable
from dubio.decisions.threshold import check_budget
from dubio.errors import DubioError
from dubio.files import check_folder, write_json
from dubio.posteriors.sampling import seconds_of
from dubio.posteriors.store import seconds_and_bytes
from dubio.report.answering import dial, promises
from dubio.report.content import Cost, ReportContent
from dubio.report.html import write_report
from dubio.report.summary import console_lines
from dubio.report.terminal import metrics_table, systems_table
from dubio.showing import tell
from dubio.workflow.evaluation import Evaluation, evaluate
from dubio.workflow.opening import posteriors_of, teachers_of
from dubio.workflow.tables import split_facts

AGREEMENT = "agreement"


def run(
    session: Session, test: str, ood: str | None, report: Path | None, budget: tuple[float, float],
    draws: int = 1000, *, drop: bool = False,
) -> Evaluation:  # fmt: skip
    """Checks options, tables and artefact before the forward pass; writes the report, and then prints the table.

    drop: rows that are known already are dropped, where they are refused otherwise.
    """
    check_budget(*budget)
    if report is not None:
        check_folder(report)
    session = session.as_fitted()
    tables = {"test": session.read(test)}
    if ood is not None:
        tables["ood"] = session.read(ood, labels=False, foreign=True)
    artifact = session.open()
    made_on = session.made_on([*posteriors_of(artifact), *teachers_of(artifact)])
    known = {**artifact.hashes, **made_on}
    for name, table in tables.items() if drop else ():
        tables[name] = session.without_overlap(name, table, known)
        known = {**known, name: table.rows_hash}
    check_disjoint(tables, stored={**artifact.hashes, **made_on}, remedy=DROP)
    session.check_unseen(test=tables["test"])
    agreement = shares(tables["test"], AGREEMENT)
    prepared = session.prepare(tables, unlabelled=("ood",), posteriors=posteriors_of(artifact))
    stored = prepared["test"].stored
    passes = {name: 1e6 * seconds_of(paths) / len(stored) for name, paths in stored.samples.items()}
    rows = prepared["test"].load_grouped()
    strange = prepared["ood"].load() if ood is not None else None
    found = evaluate(artifact, rows, ood=strange, agreement=agreement, budget=budget, draws=draws)
    costs = [*method_costs(session, artifact, found, passes), *posterior_costs(session, passes)]
    shown = content(session, artifact, (tables["test"], rows), found, costs)
    if ood is not None:
        shown = replace(shown, ood_texts=tables["ood"].texts)
    written = None
    if report is not None:
        write_json(report / "metrics.json", [asdict(metric) for metric in found.metrics])
        written = write_report(report, shown)
    tell(found.summary, *console_lines(shown))
    wide_console().print(metrics_table(found.metrics, "test"))
    if passes:
        wide_console().print(systems_table(found.metrics, "test", {c.method: c for c in costs}, artifact.mean_of))
    tell(artifact.choice.why, found.threshold.promise)
    if written is not None:
        tell(f"report: {written}")
    return found


def shares(table: TextTable, column: str) -> Float64 | None:
    """`[N]` a column of shares in [0, 1], NaN where unknown; None where there is none, or it holds something else."""
    if column not in table.frame.column_names:
        return None
    try:
        values = table.numbers(column)
    except DubioError:  # a column of that name that means something else
        return None
    known = values[np.isfinite(values)]
    return values if len(known) and known.min() >= 0 and known.max() <= 1 else None


def content(
    session: Session, artifact: Artifact, test: tuple[TextTable, Representations], found: Evaluation,
    costs: Sequence[Cost],
) -> ReportContent:  # fmt: skip
    """Everything that the report shows."""
    table, rows = test
    names, errors = np.array(artifact.labels), rows.errors
    report = check_disjoint({"test": table})
    error_rate = float(errors.mean()) if len(errors) else 0.0
    return ReportContent(
        title=f"{session.name} on {table.name}",
        model={key: str(value) for key, value in artifact.model.items() if key != BOUND},
        splits={**artifact.splits, **split_facts({"test": table}, report, session.model)},
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
        left_out=artifact.left_out,
        budgets=promises(artifact, found.threshold.delta, dial(found.threshold.risk, error_rate)),
    )


def posterior_costs(session: Session, passes: Mapping[str, float]) -> list[Cost]:
    """Of each posterior. passes: milliseconds of its samples' passes over 1,000 rows."""
    made = {name: (session.posteriors[name], *seconds_and_bytes(session.posteriors[name])) for name in passes}
    return [Cost(name, spent, passes[name], size, stored.samples) for name, (stored, spent, size) in made.items()]


def method_costs(
    session: Session, artifact: Artifact, found: Evaluation, passes: Mapping[str, float]
) -> list[Cost]:  # fmt: skip
    """Of each method, with all that its posterior costs where it reads one's samples."""
    below = {cost.method: cost for cost in posterior_costs(session, passes)}
    none, out = Cost("", 0.0, 0.0, 0), list[Cost]()
    for name, fitted in artifact.methods.items():
        under = below.get(getattr(fitted.score.config, "posterior", ""), none)
        own = sum(a.nbytes for a in fitted.score.state().arrays.values())
        seconds, spent = fitted.fit_seconds + under.fit_seconds, found.milliseconds[name] + under.ms_per_1000_rows
        out.append(Cost(name, seconds, spent, own + under.bytes, under.samples))
    return out
