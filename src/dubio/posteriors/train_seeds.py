"""Plain adapters of several seeds, trained as one stack: on a GPU, five for little more than the price of one.

In: rows, one plan, and a folder for each seed. Out: in each, the adapter that a run of its own would have left, up to
rounding: members neither share a batch nor see one another's gradients.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dubio.adapters.plan import LabelledTexts, TrainingPlan, check_plan
from dubio.files import check_folder, write_json
from dubio.models.bases.base import check_device
from dubio.models.tokens.answer_letters import Choices
from dubio.posteriors.base_model import load_host
from dubio.posteriors.to_peft import export_member
from dubio.posteriors.trained import PosteriorPlan, parameters_of, stack_plan
from dubio.posteriors.training.trainer import train_stack
from dubio.posteriors.training.training_record import training_record
from dubio.safe_reading import read_json

WORK, SEEDS = ".together", "seeds.json"


def train_seeds(
    base: str, labels: Sequence[str], rows: tuple[LabelledTexts, LabelledTexts], outs: Mapping[int, Path],
    plan: TrainingPlan, choices: Choices | None = None,
) -> None:  # fmt: skip
    """Trains an adapter for every seed of `outs` on rows (train, validation) and saves each in its folder.

    A folder that holds an adapter is left alone. A killed run goes on from its last epoch. Raises DubioError as
    `train_posterior` does.
    """
    todo = {seed: out for seed, out in sorted(outs.items()) if not (out / "adapter_config.json").exists()}
    if not todo:
        return
    work = next(iter(outs.values())).parent / WORK
    seeds = _begun(work, tuple(todo))
    check_device(plan.device)
    check_plan(plan, labels, *rows)
    for folder in (work, *todo.values()):
        check_folder(folder)
    write_json(work / SEEDS, list(seeds))
    host, missing = load_host(base, labels, device=plan.device, max_length=plan.max_length, choices=choices)
    extra = PosteriorPlan(members=len(seeds))
    parameters = parameters_of("ensemble", host, missing, plan, extra)
    found = train_stack(parameters, *rows, stack_plan("ensemble", plan, extra, seeds), work=work)
    stack = parameters.stack({name: value.detach() for name, value in found.best.items()})
    for seed, out in todo.items():
        member = seeds.index(seed)
        record = training_record(host, replace(plan, seed=seed), rows, found, member, together=list(seeds))
        export_member(host, stack, member, out, record, rows=rows, dropout=plan.dropout)
    shutil.rmtree(work, ignore_errors=True)


def _begun(work: Path, todo: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds of the run that was killed there, where it trained all that is still to do; else those to do."""
    try:
        before = tuple(int(seed) for seed in read_json(work / SEEDS))
    except (OSError, ValueError, TypeError):
        return todo
    return before if set(before) >= set(todo) else todo
