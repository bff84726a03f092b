"""A grid as steps with keys: what is done, on what, and what must be done before. Pure: nothing is trained here.

A cell (model, set, seed) is a small graph:

    adapter ──► represent ───────────────────► score      one score step for each whose predictions are judged
       └──► posterior (made on it) ──► samples ──┤
            posterior (a run of its own) ─┘      │
            represent of every seed ──► pooled ──┘

A step's key is the hash of everything that determines its outcome: its settings, the bytes of tables and base, and the
keys of the steps it needs. So a changed option gives new keys to what depends on it and to nothing else, and grids
that share a step share its outcome. Versions of libraries are recorded and not hashed: a new torch does not undo a
month of results. VERSION of a kind is raised by hand when its code changes what comes out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from dubio.adapters.plan import TrainingPlan
from dubio.data.bundled.packages import minilm_path, smollm2_gguf_path
from dubio.errors import DubioError
from dubio.files import sha256_file, sha256_json
from dubio.models.bases.base import base_hash
from dubio.posteriors.registry import get_posterior
from dubio.posteriors.trained import PosteriorPlan
from dubio.safe_reading import check_file
from dubio.scores.registry import METHODS, sampled_names
from dubio_bench.grid.config import DataSet, Grid, ModelSpec, PosteriorSpec
from dubio_bench.grid.splits import place_of

VERSION = {"adapter": 1, "posterior": 1, "represent": 1, "samples": 1, "pooled": 1, "score": 1}
EMBEDDED = {"package:minilm": minilm_path, "package:smollm2": smollm2_gguf_path}
OWN = "own"  # whose predictions are judged: the adapter's own


@dataclass(frozen=True)
class Cell:
    """One model on one set under one seed."""

    model: str
    data: str
    seed: int

    def __str__(self) -> str:
        return f"{self.model}-{self.data}-{self.seed}"


@dataclass(frozen=True)
class Step:
    """kind, key: its place in the store. facts: what determines it, as JSON. needs: role -> the step it reads.

    where: paths on this machine, which do not determine anything.
    """

    kind: str
    key: str
    cell: Cell
    facts: Mapping[str, Any]
    needs: Mapping[str, "Step"]
    where: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name + ' ' if self.name else ''}{self.cell}"

    def all(self) -> Iterator["Step"]:
        """Those that it needs, then itself."""
        for need in self.needs.values():
            yield from need.all()
        yield self


def cells_of(grid: Grid) -> list[Cell]:
    """Every cell, seed by seed, so that an unfinished grid has whole rows."""
    return [Cell(model, data, seed) for seed in grid.seeds for model in grid.models for data in grid.data]


def steps_of(grid: Grid, cell: Cell, root: Path) -> list[Step]:
    """The score steps of a cell, with all that they need.

    Raises DubioError where a base or a table is not there.
    """
    data, model = grid.data[cell.data], grid.models[cell.model]
    base = _base_of(model)
    known = _data_facts(data, root)
    facts = {"base": _base_hash(base), "letters": model.letters, "data": known, "precision": model.precision}
    where = {"base": base, "root": str(root), "device": model.device, "data": data.model_dump(mode="json")}

    def step(kind: str, own: Mapping[str, Any], needs: Mapping[str, Step], name: str = "") -> Step:
        told = {"kind": kind, "version": VERSION[kind], **own, "needs": {role: s.key for role, s in needs.items()}}
        return Step(kind, sha256_json(told), cell, own, needs, where, name)

    plan = {**grid.training, **model.training, **data.training}
    seen = {"tables": _seen(data), "ood": _ood_hash(data, root)}

    def represent(cell: Cell) -> Step:
        own = {**facts, "trainer": grid.trainer, "plan": _plan(plan, cell, model)}
        adapter = replace(step("adapter", own, {}), cell=cell)
        return replace(step("represent", seen, {"adapter": adapter}), cell=cell)

    shown = represent(cell)
    adapter = shown.needs["adapter"]
    drawn: dict[str, Step] = {}
    if grid.pooled is not None:
        every = {f"seed {seed}": represent(replace(cell, seed=seed)) for seed in grid.seeds}
        drawn[grid.pooled] = step("pooled", {"tables": _seen(data)}, every, grid.pooled)
    for name, spec in grid.posteriors.items():
        made = _posterior(name, spec, facts, {**plan, **spec.training}, (cell, model, adapter, step))
        drawn[name] = step("samples", {**seen, "samples": spec.samples},
                           {"adapter": adapter, "posterior": made}, name)  # fmt: skip
        if spec.alone:
            drawn[spec.alone] = step("samples", {**seen, "alone": True}, {"posterior": made}, spec.alone)
        for stage, epoch in spec.stages.items():
            own = {**seen, "samples": spec.samples, "stage": epoch}
            drawn[stage] = step("samples", own, {"adapter": adapter, "posterior": made}, stage)
    registered = None  # all names, so that a new one is run in finished grids too
    if grid.methods is None:
        registered = [*METHODS, *(name for which in drawn for name in sampled_names(which))]
    methods = {
        "methods": grid.methods,
        "registered": registered,
        "variants": grid.variants,
        "certification": grid.certification,
    }
    return [
        step("score", {**methods, "predictions": whose}, {"represent": shown, **drawn}, "" if whose == OWN else whose)
        for whose in (OWN, *grid.predictions)
    ]


def _posterior(name: str, spec: PosteriorSpec, facts: Mapping[str, Any], plan: Mapping[str, Any], about: Any) -> Step:
    cell, model, adapter, step = about
    entry = get_posterior(spec.kind or name)
    own = {"posterior": entry.name, "own": spec.plan}
    if entry.trained:
        stages = ",".join(str(epoch) for epoch in sorted({*spec.stages.values()})) or None
        own["own"] = asdict(PosteriorPlan(**spec.plan, keep=stages))  # whole, as the training's settings
        if not own["own"]["constant"]:  # it came later, and its absence has changed nothing
            del own["own"]["constant"]
        how = {"recompute": own["own"].pop("recompute")}  # changes no number, so it is no part of the key
        made = step("posterior", {**facts, **own, "plan": _plan(plan, cell, model)}, {}, name)
        return replace(made, where={**made.where, **how})
    if entry.name == "laplace_lora":  # whole, too: the marginal likelihood, by which drawn weights would underfit
        linear = spec.plan.get("linear", True)
        own["own"] = {"linear": linear, "evidence": linear, **spec.plan}
    return step("posterior", own, {"adapter": adapter}, name)


def _plan(settings: Mapping[str, Any], cell: Cell, model: ModelSpec) -> dict[str, Any]:
    """Settings of a training run, whole, so that a changed default changes the key."""
    plan = TrainingPlan(**settings, seed=cell.seed, precision=model.precision)
    return {key: value for key, value in plan.__dict__.items() if key not in ("device", "show")}


def _seen(data: DataSet) -> list[str]:
    """Tables that are read after training."""
    return ["train", "calibration", "test", *(["ood"] if data.ood else [])]


def _base_of(model: ModelSpec) -> str:
    if model.base in EMBEDDED:
        return str(EMBEDDED[model.base]())
    if model.base.startswith("package:"):
        raise DubioError(f"no base model {model.base} comes with a package; there are {', '.join(EMBEDDED)}")
    return str(Path(model.base).resolve()) if Path(model.base).exists() else model.base


def _base_hash(base: str) -> str:
    """Of the base's weights, read once as long as they do not change: they may be gigabytes."""
    path = Path(base)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.is_file() else []
    return _hash_of(base, tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files))


@cache
def _hash_of(base: str, _: tuple[tuple[str, int, int], ...]) -> str:
    return base_hash(base)


def _data_facts(data: DataSet, root: Path) -> dict[str, Any]:
    """The cuts of a set, with the bytes of its tables in place of their paths."""
    facts = data.model_dump(mode="json", exclude={"published", "training", "ood"})
    if not facts["drop_empty"]:  # it came later, and its absence has changed nothing
        del facts["drop_empty"]
    for name in ("train", "test", "validation", "calibration"):
        if facts[name] is not None:
            place = place_of(facts[name], root)
            facts[name] = place if place.startswith("hub:") else _file_hash(place)
    return facts


def _ood_hash(data: DataSet, root: Path) -> str | None:
    """Of the table that is read after training only."""
    if data.ood is None:
        return None
    place = place_of(data.ood, root)
    return place if place.startswith("hub:") else _file_hash(place)


@cache
def _file_hash(path: str) -> str:
    check_file(path, remedy="name the folder of the tables by --data")
    return sha256_file(Path(path))
