"""Adapter steps that differ in nothing but the seed, trained as one stack before their turn comes.

In: the steps to be done. Out: a finished adapter in the folder of each; the step itself then finds it there, and
records it. What a step's key stands for is the same either way: a stacked run equals separate ones, up to rounding.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from dubio.adapters.plan import TrainingPlan
from dubio.files import sha256_json
from dubio.posteriors.train_seeds import train_seeds
from dubio_bench.grid.steps import Step
from dubio_bench.run.model_steps import adapter_inputs
from dubio_bench.run.store import StepStore


def alike(steps: Sequence[Step]) -> list[list[Step]]:
    """Groups of two or more plain adapter steps of the stack engine with equal facts but for the seed."""
    groups: dict[str, list[Step]] = {}
    for step in steps:
        if step.kind == "adapter" and step.facts["trainer"] == "stack":
            shared = {**step.facts, "plan": {**step.facts["plan"], "seed": 0}}
            groups.setdefault(sha256_json([shared, dict(step.where)]), []).append(step)
    return [group for group in groups.values() if len({step.key for step in group}) > 1]


def train_alike(group: Sequence[Step], root: Path) -> None:
    """Trains a group's adapters into its steps' folders, under their locks."""
    store = StepStore(root)
    with ExitStack() as claims:
        outs: dict[int, Path] = {}
        for step in sorted(group, key=lambda one: one.key):  # in one order everywhere: no two runs wait for each other
            outs[step.facts["plan"]["seed"]] = claims.enter_context(store.claim(step.kind, step.key)) / "adapter"
        first = group[0]
        base, labels, rows, choices = adapter_inputs(first)
        plan = TrainingPlan(**first.facts["plan"], device=first.where["device"], show=False)
        train_seeds(base, labels, rows, outs, plan, choices)
