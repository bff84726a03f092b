"""`dubio train`: tables -> a plain PEFT adapter with the record of what it was trained on."""

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dubio.adapters.plan import TrainingPlan, range_of
from dubio.adapters.trainer import train_adapter
from dubio.data.columns import Columns
from dubio.data.splits import DROP, check_disjoint, drop_overlap
from dubio.data.tables import TextTable, read_table
from dubio.errors import DubioError
from dubio.files import check_folder
from dubio.models.tokens.answer_letters import Choices, asked_choices
from dubio.posteriors.registry import get_posterior
from dubio.posteriors.trained import MEMBERS, PosteriorPlan, idle_settings, train_posterior
from dubio.showing import tell
from dubio.workflow.rows import held_out, label_names, labelled

_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_KIND = {int: "no whole number", float: "no number", bool: "neither yes nor no"}


@dataclass(frozen=True)
class TrainTables:
    """Where the rows are, and how they are read. columns: (text, pair, label); letters, prompt: see `Session`.

    groups: which rows stay on one side where a tenth is held out (`groups_of`); None: those of the same text.
    drop_overlap: rows of train that are in validation too are dropped, where they are refused otherwise.
    """

    train: str
    validation: str | None
    columns: tuple[str | None, str | None, str | None]
    letters: str | None = None
    prompt: Path | None = None
    groups: str | None = None
    drop_overlap: bool = False

    def read(self) -> tuple[TextTable, TextTable | None, Choices | None]:
        """(train, validation or None, how questions are answered, or None for texts with labels).

        Raises DubioError where letters are named and a table is not one of questions.
        """
        columns, choices = Columns(*self.columns), asked_choices(self.letters, self.prompt)
        template = True if choices is None else choices.template
        table = read_table(self.train, columns=columns, need_labels=True, template=template)
        if choices is None and table.template is not None:
            choices = Choices(table.template)
        held = None
        if self.validation is not None:
            template = False if choices is None else choices.template
            held = read_table(self.validation, columns=columns, need_labels=True, template=template)
        return table, held, choices


def run(
    tables: TrainTables, model: str, out: Path, settings: list[str], posterior: str | None = None,
    members: int | None = None,
) -> None:  # fmt: skip
    """Without a validation table, a tenth of train is held out by a fixed seed."""
    own = {field.name for field in fields(PosteriorPlan)}
    plan = parse_plan([s for s in settings if posterior is None or s.partition("=")[0] not in own])
    check_effect([s.partition("=")[0] for s in settings], posterior)
    extra = parse_extra([s for s in settings if s.partition("=")[0] in own], posterior, members)
    if late := [epoch for epoch in extra.kept if epoch > plan.epochs]:
        raise DubioError(f"setting keep: epoch {late[0]} comes after the last one, {plan.epochs}")
    if tables.groups is not None and tables.validation is not None:
        raise DubioError("--groups is for the tenth that is held out of train; leave it out, or --validation")
    check_folder(out)
    table, held, choices = tables.read()
    if held is None:
        held, table = held_out(table, plan.seed, groups_by=tables.groups)
    if tables.drop_overlap:
        table, said = drop_overlap("train", table, {"validation": held.rows_hash})
        if said is not None:
            tell(f"note: {said}", file=sys.stderr)
    report = check_disjoint({"train": table, "validation": held}, remedy=DROP)
    labels = label_names(table) if choices is None else [*choices.labels]
    rows = labelled(table, labels), labelled(held, labels)
    if posterior is None:
        record = train_adapter(model, labels, *rows, out, plan, choices)
    else:
        record = train_posterior(posterior, model, labels, rows, out, plan, extra, choices)
        tell(f"posterior {posterior}: {record['folder']}")
    best = record["best_epoch"]
    for name in ("train", "validation"):
        if cut := record.get(name, {}).get("truncated"):
            said = f"note: {cut:,} {name} rows are longer than the {record['max_length']:,} tokens that are read"
            tell(said, file=sys.stderr)
    accuracy = record["validation_accuracy"][best - 1]
    tell(report, f"best epoch {best} of {plan.epochs}, validation accuracy {accuracy:.4f}; wrote {out}")


def parse_plan(settings: list[str]) -> TrainingPlan:
    """From `name=value` settings; raises DubioError naming the one that is unknown, unreadable or out of range."""
    kinds: dict[str, Any] = {field.name: field.type for field in fields(TrainingPlan)}
    return TrainingPlan(**parse_settings(settings, {**kinds, "top_layers": int, "targets": str}))


def parse_extra(settings: list[str], posterior: str | None, members: int | None) -> PosteriorPlan:
    """Settings of the posterior itself; raises DubioError on an unknown one, or one that no run of its own makes."""
    if posterior is not None and not get_posterior(posterior).trained:
        raise DubioError(f"{posterior} is made from a trained adapter; use `dubio posterior ADAPTER {posterior}`")
    kinds: dict[str, Any] = {field.name: field.type for field in fields(PosteriorPlan)}
    kinds |= {
        "decay_b": float,
        "swag_rate": float,
        "kl_weight": float,
        "kl_rate": float,
        "kl_schedule": str,
        "keep": str,
    }
    if members is not None:
        if posterior not in MEMBERS:
            raise DubioError(f"--members is for --posterior {' or '.join(MEMBERS)}")
        settings = [*settings, f"members={members}"]
    return PosteriorPlan(**parse_settings(settings, kinds))


def check_effect(names: list[str], posterior: str | None) -> None:
    """Raises DubioError on a setting that would change nothing in a run of this posterior."""
    if posterior is None:
        return
    for name in (*idle_settings(posterior, names), *(n for n in names if n in ("precision", "base_dropout"))):
        raise DubioError(f"setting {name} has no effect on --posterior {posterior}; leave it out")


def parse_settings(settings: list[str], kinds: dict[str, Any]) -> dict[str, Any]:
    """Values of known kinds from `name=value`."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in kinds:
            raise DubioError(f"no training setting {name!r}; known: {', '.join(kinds)}")
        try:
            values[name] = _SWITCH[value.lower()] if kinds[name] is bool else kinds[name](value)
        except (KeyError, ValueError) as error:
            kind = _KIND.get(kinds[name], f"no {kinds[name].__name__}")
            raise DubioError(f"setting {name}: {value!r} is {kind}") from error
        if kinds[name] in (int, float):
            least, below = range_of(name, kinds[name] is int)
            if not least <= values[name] < below:
                raise DubioError(f"setting {name}: {value} is out of range; it must be at least {least}, below {below}")
    return values
