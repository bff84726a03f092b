"""`dubio score`: new rows -> the same rows with label, probability, uncertainties, error probability, decision."""

from pathlib import Path

from rich.console import Console

from dubio.artifacts.store import load_artifact
from dubio.cli.common import Session
from dubio.data.writing import check_writable, write_frame
from dubio.models.proofs import check_fingerprint
from dubio.workflow.evaluation import promise
from dubio.workflow.scoring import Decision, score_rows


def run(session: Session, source: str, output: Path, budget: tuple[float, float]) -> None:
    """Input columns are kept; new ones are added, replacing any of the same name. The output appears whole."""
    check_writable(output)
    artifact, _ = load_artifact(session.folder, session.model.head)
    check_fingerprint(session.model, artifact.fingerprint)
    promised = promise(artifact, *budget)
    table = session.read(source, labels=False)
    stored = session.prepare(table, labels=False).stored
    scored = score_rows(artifact, stored, Decision.of(artifact, promised))
    frame = table.frame
    for name in scored.column_names:
        if name in frame.column_names:
            frame = frame.drop_columns([name])
        frame = frame.append_column(name, scored.column(name))
    write_frame(frame, output)
    answered = sum(value == "answer" for value in scored.column("decision").to_pylist())
    Console().print(
        f"{promised.promise}\nanswered {answered} of {len(table)} rows; wrote {output}", highlight=False, soft_wrap=True
    )
