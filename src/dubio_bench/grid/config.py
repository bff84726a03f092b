"""A grid's config: YAML -> checked `Grid`. Models x data x seeds x methods, and what is varied; nothing is read yet.

Relative paths of tables lie under the data root; `package:minilm` and `package:smollm2` name the embedded models. What
a set or a model says of training overrides what the grid says.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from dubio.adapters.plan import TrainingPlan
from dubio.errors import DubioError
from dubio.metrics.evaluation import REFERENCE
from dubio.posteriors.registry import get_posterior
from dubio.posteriors.trained import MEMBERS, PosteriorPlan
from dubio.scores.registry import METHODS, get_method, is_method, sampled_names
from dubio_bench.grid.safe_yaml import read_yaml
from dubio_bench.grid.validation import check_plan, check_settings, twice, whole_or_share
from dubio_bench.grid.yaml_reader import in_words, meant

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Part = Annotated[float, Field(strict=True, gt=0), AfterValidator(whole_or_share)]
FAMILIES = ("bert", "roberta", "electra", "distilbert", "deberta-v2", "llama", "qwen2", "mistral", "gpt2")
KINDS = ("adapter", "posterior", "represent", "samples", "pooled", "score")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rows(_Strict):
    """How many rows. train, test: at most so many. validation, calibration: a share of train below 1, or a number."""

    train: int | None = Field(None, ge=2)
    test: int | None = Field(None, ge=2)
    validation: Part = 0.05
    calibration: Part = 0.2


class DataSet(_Strict):
    """Tables of one set. validation (picks the epoch), calibration: cut from train where no table is named.

    drop_empty: rows without text are left out; otherwise the first is an error.
    published: the set's name in the published tables. seed: of the cuts, the same for all seeds of the grid.
    """

    train: str
    test: str
    validation: str | None = None
    calibration: str | None = None
    ood: str | None = None
    text: str | None = None
    pair: str | None = None
    label: str | None = None
    drop_empty: bool = False
    rows: Rows = Rows()  # pyright: ignore[reportCallIssue]
    seed: Seed = 42
    published: str | None = None
    training: dict[str, Any] = Field(default_factory=dict)


class ModelSpec(_Strict):
    """A base model. family: its architecture, of which a dry run builds a tiny one. letters: for multiple choice."""

    base: str
    family: Literal["bert", "roberta", "electra", "distilbert", "deberta-v2", "llama", "qwen2", "mistral", "gpt2"]
    letters: str | None = None
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    published: str | None = None
    training: dict[str, Any] = Field(default_factory=dict)


class PosteriorSpec(_Strict):
    """A posterior over adapters, by its registered name (`kind`, or the name that it is given).

    plan: its own settings. training: of the run that makes it, over the grid's. samples: how many are drawn. alone:
    the name under which the single adapter of its run is a system too. stages: name -> epoch of that run, after which
    an ensemble is a system too, by that name; at a `constant` rate an epoch does not depend on later ones.
    """

    kind: str | None = None
    plan: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    samples: int | None = Field(None, ge=1)
    alone: str | None = None
    stages: dict[Name, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the systems that its run gives besides the posterior itself."""
        return (*([self.alone] if self.alone else []), *self.stages)


class Resources(_Strict):
    """What a step takes on a cluster."""

    cpus: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)


class TheirSystem(_Strict):
    """A published system and the one of this grid that stands for it. data: their set, where it is not ours.

    members: not the mean of its samples is meant, but a sample alone, in the mean over them.
    """

    theirs: str
    ours: str
    config: str | None = None
    data: str | None = None
    members: bool = False


class Published(_Strict):
    """Rows of the published tables to show beside ours. source: how their sources start. methods: theirs -> ours.

    systems: likewise, judged by their own predictions.
    """

    source: str
    metric: str = "error ROC-AUC"
    methods: dict[str, str] = Field(default_factory=dict)
    systems: tuple[TheirSystem, ...] = ()


class Grid(_Strict):
    """A whole experiment. trainer: transformers' Trainer, or the stack engine, which keeps what lies below the adapter.

    methods: None: all that are registered. variants: name -> {of: a registered method, its options}. certification:
    share of the calibration rows that no method sees. predictions: posteriors whose mean prediction is judged as well.
    pooled: a name under which the adapters of all seeds are an ensemble, whose samples every cell of the set reads.
    """

    name: Name
    about: str
    models: dict[Name, ModelSpec] = Field(min_length=1)
    data: dict[Name, DataSet] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)
    trainer: Literal["transformers", "stack"] = "transformers"
    training: dict[str, Any] = Field(default_factory=dict)
    methods: tuple[str, ...] | None = None
    variants: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    posteriors: dict[Name, PosteriorSpec] = Field(default_factory=dict)
    predictions: tuple[str, ...] = ()
    pooled: Name | None = None
    certification: float = Field(0.1, gt=0, lt=1)
    resources: dict[str, Resources] = Field(default_factory=dict)
    published: Published | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        """Everything that can be refused before any work."""
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is named twice")
        for where, settings in self._trainings():
            check_settings(where, settings, TrainingPlan, also=("top_layers", "targets"))
        for name, posterior in self.posteriors.items():
            entry = get_posterior(posterior.kind or name)
            if posterior.training and not entry.trained:
                raise ValueError(f"posteriors.{name}.training: {entry.name} has no run of its own")
            check_plan(f"posteriors.{name}", entry, posterior.plan, posterior.samples)
            if posterior.alone and not entry.trained:
                raise ValueError(f"posteriors.{name}.alone: {entry.name} has no run of its own")
            self._check_stages(name, posterior, entry.name)
        if self.methods is not None and REFERENCE not in self.methods:
            raise ValueError(f"methods: {REFERENCE} must be among them: it is what the others have to beat")
        if again := twice(self.methods or ()):
            raise ValueError(f"methods: {again} is named twice")
        self._check_methods()
        if self.pooled is not None and len(self.seeds) < 2:
            raise ValueError("pooled: one seed is no ensemble")
        self._check_names()
        for kind in self.resources:
            if kind not in KINDS:
                raise ValueError(f"resources: there is no step {kind!r}; known: {', '.join(KINDS)}")
        for name in self.predictions:
            if name not in self.posteriors:
                raise ValueError(f"predictions: there is no posterior {name!r} (stages are systems only)")
        systems = {"adapter", self.pooled, *self.posteriors, *self._others()}
        for spec in self.published.systems if self.published else ():
            if spec.ours not in systems and not is_method(spec.ours):
                raise ValueError(f"published.systems: there is no system {spec.ours!r}")
            if spec.members and spec.ours not in {self.pooled, *self.posteriors, *self._stages()}:
                raise ValueError(f"published.systems: {spec.ours!r} has no members; name a posterior or a stage of one")
        for name, options in self.variants.items():
            if is_method(name):
                raise ValueError(f"variants.{name}: a registered method is called so")
            variant_of(name, options)
        return self

    def _check_names(self) -> None:
        """Raises ValueError where two things would go by one name."""
        systems = [*self.posteriors, *self._others()]
        systems += [self.pooled] if self.pooled else []
        whose = ("", *(f"-{name}" for name in self.predictions))
        cells = [f"{m}-{d}-{s}{w}" for m in self.models for d in self.data for s in self.seeds for w in whose]
        for name in systems:
            if name in ("adapter", "own", "posterior", "represent") or is_method(name):
                raise ValueError(f"posteriors: choose another name than {name!r}; that one is taken")
        for what, names in (("posteriors", systems), ("models and data", cells)):
            if again := twice(names):
                raise ValueError(f"{what}: two go by the name {again}")

    def _others(self) -> list[str]:
        return [name for spec in self.posteriors.values() for name in spec.others]

    def _stages(self) -> list[str]:
        return [stage for spec in self.posteriors.values() for stage in spec.stages]

    def shared_members(self) -> tuple[str, int] | None:
        """(an ensemble, its members) of which two seeds of the grid share some: member m has the cell's seed + m.

        K-fold adapters share none: member m leaves out fold m.
        """
        ordered = sorted(self.seeds)
        nearest = min((b - a for a, b in pairwise(ordered)), default=None)
        for name, spec in self.posteriors.items():
            members = spec.plan.get("members", PosteriorPlan.members)
            if get_posterior(spec.kind or name).name == "ensemble" and nearest is not None and nearest < members:
                return name, members
        return None

    def _check_stages(self, name: str, spec: PosteriorSpec, kind: str) -> None:
        """Raises ValueError for stages of what has none, and those after the run's last epoch."""
        if spec.stages and kind not in MEMBERS:
            raise ValueError(f"posteriors.{name}.stages: only {' and '.join(MEMBERS)} are kept epoch by epoch")
        for model in self.models.values():
            for data in self.data.values():
                plan = {**self.training, **model.training, **data.training, **spec.training}
                last = plan.get("epochs", TrainingPlan.epochs)
                if late := [stage for stage, epoch in spec.stages.items() if epoch > last]:
                    raise ValueError(f"posteriors.{name}.stages.{late[0]}: comes after the last epoch, {last}")

    def _trainings(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Every mapping of training settings and where it stands."""
        return [
            ("training", self.training),
            *((f"models.{name}.training", spec.training) for name, spec in self.models.items()),
            *((f"data.{name}.training", spec.training) for name, spec in self.data.items()),
            *((f"posteriors.{name}.training", spec.training) for name, spec in self.posteriors.items()),
        ]

    def _check_methods(self) -> None:
        """Raises ValueError on methods that are not there, and on published ones that stand beside none of the grid."""
        posteriors = [*self.posteriors, *self._stages(), *([self.pooled] if self.pooled else [])]
        known = [*METHODS, *(method for posterior in posteriors for method in sampled_names(posterior))]
        for name in self.methods or ():
            if name not in known:
                raise ValueError(f"methods: there is no method {name!r}{meant(name, known)}")
        own = [*(known if self.methods is None else self.methods), *self.variants]
        for theirs, ours in self.published.methods.items() if self.published else ():
            if ours not in own:
                raise ValueError(f"published.methods.{theirs}: {ours!r} is no method of this grid{meant(ours, own)}")


def variant_of(name: str, options: Mapping[str, Any]) -> Any:
    """A registered method under another name with other options; raises ValueError on what is unknown."""
    from dataclasses import replace

    of = options.get("of")
    if not isinstance(of, str) or of not in METHODS:
        raise ValueError(f"variants.{name}.of: names no registered method")
    method = get_method(of)
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items() if key != "of"}
    varied = replace(method, name=name, title=f"{method.title}, {name}", options={**method.options, **own})
    settings = type(method.build()).Config
    try:
        settings.model_validate(varied.options)
        varied.build()
    except ValidationError as error:
        raise ValueError(f"variants.{name}: {in_words(error.errors(), settings)}") from error
    except DubioError as error:
        raise ValueError(f"variants.{name}: {error}") from error
    return varied


def read_config(path: Path) -> Grid:
    """The grid in a YAML file; raises DubioError, one line, on what cannot be read or means nothing."""
    found = read_yaml(path)
    if not isinstance(found, dict):
        raise DubioError(f"{path} is not a config: it must hold name, about, models, data and seeds")
    try:
        return Grid.model_validate(found)
    except ValidationError as error:
        raise DubioError(f"{path}: {in_words(error.errors(), Grid)}") from error
    except DubioError as error:
        raise DubioError(f"{path}: {error}") from error
