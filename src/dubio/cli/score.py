"""`dubio score`: new rows -> the same rows with label, probability, uncertainties, error probability, decision."""

from pathlib import Path

from dubio.cli.common import Session
from dubio.data.formats import SEPARATORS
from dubio.data.writing import check_fits, check_writable, without_formulas, write_frame
from dubio.decisions.threshold import check_budget
from dubio.errors import DubioError
from dubio.showing import tell
from dubio.workflow.evaluation import promise
from dubio.workflow.opening import posteriors_of
from dubio.workflow.scoring import Decision, narrowed, score_rows, with_columns
from dubio.workflow.tables import cut_rows


def run(
    session: Session, source: str, output: Path, budget: tuple[float, float], methods: str | None = None, *,
    escape: bool = False,
) -> None:  # fmt: skip
    """Input columns are kept; new ones are added, replacing any of the same name. The output appears whole.

    escape: texts of a .csv or .tsv that a spreadsheet would run get a ' in front.
    """
    check_budget(*budget)
    check_writable(output)
    if escape and output.suffix.lower() not in SEPARATORS:
        raise DubioError(f"--escape-formulas is for a .csv or .tsv, and {output} is none; leave it out")
    check_apart(source, output)
    session = session.as_fitted()
    table = session.read(source, labels=False)
    check_fits(table.frame, output)
    artifact = narrowed(session.open(), methods)
    promised = promise(artifact, *budget)
    stored = session.prepare({"new": table}, ("new",), posteriors_of(artifact))["new"].stored
    scored = score_rows(artifact, stored, Decision.of(artifact, promised), cut_rows(session.model, table))
    frame = with_columns(table.frame, scored)
    write_frame(without_formulas(frame) if escape else frame, output)
    answered = sum(value == "answer" for value in scored.column("decision").to_pylist())
    tell(promised.promise, f"answered {answered} of {len(table)} rows; wrote {output}")


def run_on(
    executor: str, session: Session, source: str, output: Path, budget: tuple[float, float], methods: str | None,
    cluster: tuple[str | None, int],
) -> None:  # fmt: skip
    """By another executor than this process; raises DubioError on one that is unknown, or an address without Ray."""
    if executor not in ("local", "ray"):
        raise DubioError(f"no executor {executor!r}; choose local or ray")
    if executor != "ray":
        raise DubioError("--address is for --executor ray")
    from dubio.cli.score_ray import run as run_ray

    run_ray(session, source, output, budget, methods, cluster)


def check_apart(source: str, output: Path) -> None:
    """Raises DubioError where the output would replace the table that is read."""
    if output.exists() and Path(source).exists() and output.samefile(source):
        raise DubioError(f"{output} is the table to score; choose another output")
