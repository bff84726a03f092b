"""What a stacked run leaves to read beside an adapter: `dubio_training.json`, of one member.

In: the plan, the rows, and the run's progress. Out: a plain mapping; nothing is written here.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.adapters.trainer import split_record
from dubio.models.adapted import AdaptedModel
from dubio.posteriors.training.checkpoint import Progress


def training_record(
    host: AdaptedModel, plan: TrainingPlan, rows: tuple[LabelledTexts, LabelledTexts], found: Progress, member: int = 0,
    **about: Any,
) -> dict[str, Any]:  # fmt: skip
    """Base, labels, plan, rows (train, validation) by number and hash, and the member's way through the epochs.

    about: further entries. The history holds all members' figures, as they ran together.
    """
    accuracy = [entry["accuracy"][member] for entry in found.history]
    named = zip(("train", "validation"), rows, strict=True)
    split = {name: split_record(table, host.tokenizer, host.max_length) for name, table in named}
    return {
        "base": host.base, "base_sha256": host.hashes["base"], "labels": list(host.labels),
        "max_length": host.max_length, "pairs": rows[0].pairs is not None,
        **({} if host.choices is None else {"choices": host.choices.facts()}),
        "plan": asdict(plan), **about, **split,
        "validation_accuracy": accuracy, "best_epoch": 1 + int(np.argmax(accuracy)), "history": found.history,
    }  # fmt: skip


def up_to(record: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """The record of the same run as it stood after an epoch."""
    cut = {name: record[name][:epoch] for name in ("history", "validation_accuracy")}
    return {**record, **cut, "best_epoch": epoch}
