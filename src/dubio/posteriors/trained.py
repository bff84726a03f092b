"""Posteriors that take a training run of their own: the LoRA ensemble, K-fold adapters, SWAG over LoRA and LoRA-XS,
BLoB, rank dropout.

In: a base, training and validation rows. Out: a folder with a plain PEFT adapter (the first member, the best epoch
before SWAG's constant phase, or the mean of what was trained), which every post-hoc method works on, and the posterior
beside it.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dubio.adapters.plan import LabelledTexts, TrainingPlan, check_plan
from dubio.adapters.targets import lora_targets
from dubio.errors import DubioError
from dubio.files import check_folder
from dubio.models.adapted import AdaptedModel
from dubio.models.bases.base import check_device
from dubio.models.tokens.answer_letters import Choices
from dubio.posteriors.base import Posterior
from dubio.posteriors.base_model import hashes_of, load_host
from dubio.posteriors.engine.prefix_cache import sharing_trunks
from dubio.posteriors.methods.blob import BlobParameters
from dubio.posteriors.methods.ensemble import Ensemble
from dubio.posteriors.methods.kfold import KFold
from dubio.posteriors.methods.rank_dropout import RankDropoutParameters
from dubio.posteriors.methods.swag import SCALES, Moments
from dubio.posteriors.store import FOLDER, Stored, save_posterior
from dubio.posteriors.to_peft import export_member
from dubio.posteriors.training.checkpoint import Progress
from dubio.posteriors.training.optim import KL_SCHEDULES, StackPlan
from dubio.posteriors.training.parameters import LoraParameters, Parameters, XsParameters, fresh_layers, targets_of
from dubio.posteriors.training.parametrisation import facts_of, form_of
from dubio.posteriors.training.trainer import train_stack
from dubio.posteriors.training.training_record import training_record, up_to

MEMBERS: Mapping[str, type[Ensemble]] = {"ensemble": Ensemble, "kfold": KFold}  # trained apart, and all kept
# Of the divergence: weight in the loss, rate of its own descent, schedule (see `optim`).
_KL = {"blob": (0.0, 0.01, "blundell"), "rank_dropout": (1e-6, 0.0, "each")}
_MEMBERS, _SWAG = ("members", "keep", "constant"), ("swag_epochs", "swag_rate", "collections", "deviations", "scale")
_OWN = {
    "ensemble": _MEMBERS, "kfold": _MEMBERS, "swag_lora": _SWAG, "swag_lora_xs": _SWAG,
    "blob": ("kl_weight", "kl_rate", "kl_schedule", "beta", "eps", "flipout"),
    "rank_dropout": ("kl_weight", "kl_schedule", "log_variance", "prune_above"),
}  # fmt: skip


@dataclass(frozen=True)
class PosteriorPlan:
    """Settings besides those of the adapter. members: of an ensemble. penalty, decay_b: see StackPlan.

    keep: epochs from 1, with commas, after which an ensemble is kept as well, each as a whole folder: `epochs/3`.
    constant: members are trained at one rate from the first step on, so that an epoch does not depend on later ones.
    recompute: train in less memory, for a second forward pass: the numbers are the same.

    swag_epochs: of the constant phase after the plan's epochs; collections: in each of them; deviations: k.
    kl_*: see `optim`; None: the method's own. beta, eps, flipout: see `blob`. log_variance, prune_above: see
    `rank_dropout`.
    """

    members: int = 5
    keep: str | None = None
    constant: bool = False
    penalty: float = 0.0
    decay_b: float | None = None
    swag_epochs: int = 10
    swag_rate: float | None = None
    collections: int = 1
    deviations: int = 10
    scale: float = SCALES["formula"]
    kl_weight: float | None = None
    kl_rate: float | None = None
    kl_schedule: str | None = None
    beta: float = 0.2
    eps: float = 0.05
    flipout: bool = True
    log_variance: float = -8.0
    prune_above: float = 3.0
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.kl_schedule is not None and self.kl_schedule not in KL_SCHEDULES:
            raise DubioError(f"no kl_schedule {self.kl_schedule!r}; known: {', '.join(KL_SCHEDULES)}")
        _ = self.kept

    @property
    def kept(self) -> tuple[int, ...]:
        """The epochs of `keep`; raises DubioError where they are no numbers above 0."""
        parts = [part.strip() for part in (self.keep or "").split(",") if part.strip()]
        if not all(part.isdigit() and int(part) > 0 for part in parts):
            raise DubioError(f"setting keep: {self.keep!r} is not a list of epochs such as 1,3,6")
        return tuple(sorted({int(part) for part in parts}))


def idle_settings(name: str, settings: Iterable[str]) -> list[str]:
    """Those that change nothing in a run of posterior `name`, as they belong to others."""
    others = {own for names in _OWN.values() for own in names} - set(_OWN.get(name, ()))
    return [setting for setting in settings if setting in others]


def train_posterior(
    name: str, base: str, labels: Sequence[str], rows: tuple[LabelledTexts, LabelledTexts], out: Path,
    plan: TrainingPlan, extra: PosteriorPlan, choices: Choices | None = None,
) -> Mapping[str, Any]:  # fmt: skip
    """Trains posterior `name` on rows (train, validation) and saves adapter and posterior under `out`.

    choices: answer letters, which are then the labels: the head is the LM head's and stays frozen.
    Returns the training record. A killed run resumes from its last epoch. Raises DubioError where `out` holds an
    adapter already, or on settings or a base that cannot be trained.
    """
    if (out / "adapter_config.json").exists():
        raise DubioError(f"{out} already holds an adapter; choose another folder or delete it")
    check_device(plan.device)
    check_folder(out)
    check_plan(plan, labels, *rows)
    host, missing = load_host(base, labels, device=plan.device, max_length=plan.max_length, choices=choices)
    parameters = parameters_of(name, host, missing, plan, extra)
    work = out / ".posterior-training"
    seeds = tuple(plan.seed + m for m in range(extra.members if name in MEMBERS else 1))
    first = stack_plan(name, plan, extra, seeds)
    with sharing_trunks():
        found = train_stack(parameters, *rows, first, work=work)
        if name in MEMBERS:
            posterior: Posterior = MEMBERS[name].of(found.best, best_epoch=found.best_epoch)
        elif isinstance(parameters, BlobParameters):
            posterior = parameters.posterior(found.best)
        elif isinstance(parameters, RankDropoutParameters):
            posterior = parameters.posterior(found.best, extra.prune_above)
        else:
            posterior = _collect(parameters, rows, first, extra, (found, work))
    count = extra.members if name in MEMBERS else posterior.samples
    posterior = posterior.with_facts(
        seconds=sum(epoch["seconds"] for epoch in found.history) + posterior.facts.get("seconds", 0.0),
        settings=asdict(extra),
        trainable=_numbers(found.best) // len(seeds),
    )
    seen = np.concatenate([table.rows_hash for table in rows])
    own = Stored(name, posterior, facts_of(parameters), hashes_of(host), count, seen)
    record = training_record(host, plan, rows, found, posterior={"name": name, **asdict(extra)})
    if name == "rank_dropout":  # without the ranks that were cut
        stack = form_of(facts_of(parameters), host)(posterior.part("mean"))
    else:
        stack = parameters.stack({n: v.detach() for n, v in found.best.items()})
    for epoch, values in found.kept.items():
        stage = out / "epochs" / str(epoch)
        at = MEMBERS[name].of(values, epoch=epoch).with_facts(settings=asdict(extra))
        also: Any = {"rows": rows, "dropout": plan.dropout, "beside": _keeping(stage, replace(own, posterior=at))}
        export_member(host, parameters.stack(values), 0, stage, up_to(record, epoch), **also)
    also = {"rows": rows, "dropout": plan.dropout, "beside": _keeping(out, own)}
    record = export_member(host, stack, 0, out, record, **also)
    shutil.rmtree(work, ignore_errors=True)
    return {**record, "folder": str(out / FOLDER / name)}


def _keeping(place: Path, stored: Stored) -> Callable[[str], object]:
    """What saves the posterior, once the hash of the adapter that it belongs to is known."""
    return lambda adapter: save_posterior(
        place, replace(stored, posterior=stored.posterior.with_facts(adapter_sha256=adapter))
    )


def _collect(
    parameters: Parameters, rows: tuple[LabelledTexts, LabelledTexts], plan: StackPlan, extra: PosteriorPlan,
    before: tuple[Progress, Path],
) -> Posterior:  # fmt: skip
    """SWAG's constant phase, from the best epoch of the run before: a collection every so many steps."""
    found, work = before
    chosen = (".core",) if isinstance(parameters, XsParameters) else (".a", ".b")
    steps = -(-len(rows[0].texts) // plan.batch_size)
    every = max(1, steps // extra.collections)
    moments = Moments(extra.deviations, chosen, every)

    def watch(_: int, step: int, values: Mapping[str, Tensor]) -> None:
        if step % every == 0 and step // every <= extra.collections:
            moments.add(values)

    rate = extra.swag_rate or plan.learning_rate
    constant = replace(plan, epochs=extra.swag_epochs, learning_rate=rate, constant=True, warmup=0.0)
    run = train_stack(parameters, *rows, constant, work=work, begin=found.best, watch=watch, carried=moments)
    return moments.posterior(extra.scale).with_facts(seconds=sum(epoch["seconds"] for epoch in run.history))


def parameters_of(
    name: str, host: AdaptedModel, missing: Sequence[str], plan: TrainingPlan, extra: PosteriorPlan
) -> Parameters:
    """What is trained; raises DubioError where the rank of LoRA-XS exceeds that of a weight."""
    targets = targets_of(host, lora_targets(host.model, plan.targets), plan.top_layers)
    fresh, scale, frozen = fresh_layers(host, missing), plan.alpha / plan.rank, host.choices is not None
    if name == "blob":
        return BlobParameters(host, targets, plan.rank, scale, fresh, frozen, beta=extra.beta, eps=extra.eps,
                              flipout=extra.flipout)  # fmt: skip
    if name == "rank_dropout":
        return RankDropoutParameters(host, targets, plan.rank, scale, fresh, frozen, log_variance=extra.log_variance)
    if name != "swag_lora_xs":
        return LoraParameters(host, targets, plan.rank, scale, fresh, frozen)
    parameters = XsParameters(host, targets, plan.rank, scale, fresh, frozen)
    least = min(min(parameters.weight(target).shape) for target in targets)
    if plan.rank > least:
        raise DubioError(f"LoRA-XS cuts weights of rank {least} down, so its rank cannot be {plan.rank}")
    return parameters


def stack_plan(name: str, plan: TrainingPlan, extra: PosteriorPlan, seeds: tuple[int, ...]) -> StackPlan:
    """How a posterior's members are trained, one a seed."""
    weight, rate, schedule = _KL.get(name, (0.0, 0.0, "constant"))
    return StackPlan(
        seeds=seeds, learning_rate=plan.learning_rate, weight_decay=plan.weight_decay, decay_b=extra.decay_b,
        epochs=plan.epochs, batch_size=plan.batch_size, dropout=plan.dropout, penalty=extra.penalty, show=plan.show,
        kl_weight=weight if extra.kl_weight is None else extra.kl_weight,
        kl_rate=rate if extra.kl_rate is None else extra.kl_rate, kl_schedule=extra.kl_schedule or schedule,
        keep=extra.kept if name in MEMBERS else (), constant=extra.constant,
        warmup=0.0 if extra.constant else StackPlan.warmup, folds=name == "kfold", recompute=extra.recompute,
    )  # fmt: skip


def _numbers(values: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for value in values.values())
