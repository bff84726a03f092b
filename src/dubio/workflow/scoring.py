"""Scoring new rows with a fitted artefact: shard by shard, so memory does not grow with the table's features."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from dubio.arrays import Bool
from dubio.artifacts.store import Artifact
from dubio.data.arrow import ArrowTable
from dubio.decisions.threshold import RiskThreshold
from dubio.errors import DubioError
from dubio.log_space import log_softmax
from dubio.models.cache import StoredRepresentations
from dubio.workflow.evaluation import score_all


@dataclass(frozen=True)
class Decision:
    """`threshold` on the chosen method's uncertainty: answer at or below it; None: abstain everywhere."""

    method: str
    threshold: float | None

    @classmethod
    def of(cls, artifact: Artifact, promised: RiskThreshold) -> "Decision":
        """From a promise on the chosen method."""
        return cls(artifact.choice.method, promised.threshold)


def narrowed(artifact: Artifact, methods: str | None) -> Artifact:
    """The artefact with the named methods (comma-separated) and the deciding one only; all of them for None.

    Raises DubioError on a method that was not fitted.
    """
    if methods is None:
        return artifact
    asked = [name.strip() for name in methods.split(",")]
    for name in asked:
        if name not in artifact.methods:
            raise DubioError(f"method {name!r} was not fitted; there are: {', '.join(artifact.methods)}")
    kept = {name: m for name, m in artifact.methods.items() if name in asked or name == artifact.choice.method}
    return replace(artifact, methods=kept)


def score_rows(
    artifact: Artifact, stored: StoredRepresentations, decision: Decision, truncated: Bool | None = None
) -> ArrowTable:
    """One row a scored row: label, probability, `uncertainty_<method>` of all, error_probability, decision, truncated.

    truncated: `[N]` which rows were longer than the model reads; None leaves the column out.
    """
    parts: list[ArrowTable] = []
    start = 0
    names = np.array(artifact.labels)
    for rows in stored:
        scores, _ = score_all(artifact, rows)
        chosen = scores[decision.method]
        answer = np.zeros(len(rows), dtype=np.bool_)
        if decision.threshold is not None:
            answer = chosen.uncertainty <= decision.threshold
        columns = {
            "predicted_label": pa.array(names[rows.predictions]),
            "probability": pa.array(np.exp(log_softmax(rows.logits).max(axis=1))),
            **{f"uncertainty_{name}": pa.array(s.uncertainty) for name, s in scores.items()},
            "error_probability": pa.array(chosen.error_probability),
            "decision": pa.array(np.where(answer, "answer", "abstain")),
            **({} if truncated is None else {"truncated": pa.array(truncated[start : start + len(rows)])}),
        }
        parts.append(pa.table(columns))
        start += len(rows)
    return pa.concat_tables(parts)


def with_columns(frame: ArrowTable, scored: ArrowTable) -> ArrowTable:
    """The new columns after the others, replacing any of the same name."""
    for name in scored.column_names:
        if name in frame.column_names:
            frame = frame.drop_columns([name])
        frame = frame.append_column(name, scored.column(name))
    return frame
