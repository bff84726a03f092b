"""Scoring new rows with a fitted artefact: shard by shard, so memory does not grow with the table's features."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dubio.artifacts.store import Artifact
from dubio.data.arrow import ArrowTable
from dubio.decisions.threshold import RiskThreshold
from dubio.models.cache import StoredRepresentations
from dubio.scores.log_space import log_softmax
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


def score_rows(artifact: Artifact, stored: StoredRepresentations, decision: Decision) -> ArrowTable:
    """One row a scored row: label, probability, `uncertainty_<method>` of all, error_probability, decision."""
    parts: list[ArrowTable] = []
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
        }
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)
