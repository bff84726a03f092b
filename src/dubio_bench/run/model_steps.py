"""The steps that run the model: adapters, posteriors, representations, samples, each into its own folder.

adapter     tables, base              -> adapter/ (plain PEFT), and its posterior where the run makes one
posterior   adapter, tables           -> posteriors/NAME/
represent   adapter, tables           -> TABLE.safetensors: features, logits, labels, groups; head.safetensors, .json
samples     posterior, tables         -> TABLE.safetensors: mean features, samples [S, N, C] (log-probabilities)
pooled      represent of every seed   -> TABLE.safetensors: their mean features and log-probabilities [S, N, C]
"""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.adapters.trainer import train_adapter
from dubio.containers import Representations
from dubio.data.groups import repeats
from dubio.data.tables import TextTable
from dubio.files import write_json
from dubio.heads import head_arrays, head_spec
from dubio.log_space import log_softmax
from dubio.models.adapted import AdaptedModel
from dubio.models.bases.base import check_device
from dubio.models.cache import read_arrays, save_arrays
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.models.tokens.answer_letters import Choices, as_choices
from dubio.posteriors import from_adapter as onto
from dubio.posteriors.base_model import host_under
from dubio.posteriors.engine.prefix_cache import Trunks, sharing_trunks
from dubio.posteriors.sampling import Sampler, sample_both, sample_held_out
from dubio.posteriors.store import Stored, load_posterior, save_posterior, seconds_and_bytes
from dubio.posteriors.trained import PosteriorPlan, train_posterior
from dubio.safe_reading import FACTS, read_object
from dubio.workflow.rows import labelled
from dubio.workflow.tables import cut_rows
from dubio_bench.grid.config import DataSet
from dubio_bench.grid.splits import Split, read_split
from dubio_bench.grid.steps import Step
from dubio_bench.run.store import StepStore

QUIET = Extraction(show=False)
HEAD = "head"


def adapter(step: Step, folder: Path, _: StepStore) -> dict[str, Any]:
    """A trained adapter; a killed run of it goes on from its last epoch."""
    facts, out = step.facts, folder / "adapter"
    base, labels, rows, choices = adapter_inputs(step)
    split = _split(step)
    check_device(step.where["device"])
    plan = TrainingPlan(**facts["plan"], device=step.where["device"], show=False)
    if not (out / "adapter_config.json").exists():
        if "posterior" not in facts and facts["trainer"] != "stack":
            train_adapter(base, labels, *rows, out, plan, choices)
        else:
            kind, extra = "ensemble", PosteriorPlan(members=1)
            if "posterior" in facts:
                kind, extra = facts["posterior"], PosteriorPlan(**facts["own"], recompute=step.where["recompute"])
            with sharing_trunks(_trunks_of(step.cell.model, step.cell.data, step.where["root"])):
                train_posterior(kind, base, labels, rows, out, plan, extra, choices)
    record = read_object(out / "dubio_training.json", limit=FACTS)
    spent = sum(epoch.get("seconds", 0.0) for epoch in record.get("history", ()))
    return {
        "rows": split.rows, "dropped": dict(split.dropped), "classes": len(labels),
        "validation_accuracy": record["validation_accuracy"], "best_epoch": record["best_epoch"],
        "trained_seconds": round(spent / len(record.get("together", (0,))), 3),
    }  # fmt: skip


@lru_cache(maxsize=1)
def _trunks_of(*_: str) -> Trunks:
    """Of one model and set, whose adapters are trained and sampled on the same rows; another's take their place."""
    return Trunks()


def adapter_inputs(step: Step) -> tuple[str, list[str], tuple[LabelledTexts, LabelledTexts], Choices | None]:
    """What a training run takes besides its plan: base, labels, (train, validation), and how questions are answered."""
    split, choices = _split(step), as_choices(step.facts["letters"])
    labels = [*(split.labels if choices is None else choices.labels)]
    rows = labelled(split.tables["train"], labels), labelled(split.tables["validation"], labels)
    return step.where["base"], labels, rows, choices


def posterior(step: Step, folder: Path, store: StepStore) -> dict[str, Any]:
    """A posterior, by a run of its own or onto the cell's adapter."""
    if _trained(step):
        told = adapter(step, folder, store)
        return {**told, **_costs(load_posterior(folder / "adapter", step.facts["posterior"]))}
    out, split = _adapter_of(step, store), _split(step)
    model = _load(step, out)
    stored = _onto(step, onto.read_adapter(model, out), model, split)
    save_posterior(folder, stored)
    return _costs(stored)


def represent(step: Step, folder: Path, store: StepStore) -> dict[str, Any]:
    """Features, logits, labels and groups of each table, and the head. Told: how many rows are not read whole."""
    split, model = _split(step), _load(step, _adapter_of(step, store))
    start = time.perf_counter()
    for name in step.facts["tables"]:
        path, table = folder / f"{name}.safetensors", split.tables[name]
        if path.exists():
            continue
        made = extract(model, table.texts, table.pairs, how=QUIET)
        arrays: dict[str, NDArray[Any]] = {"features": made.features, "logits": made.logits}
        if name != "ood":
            arrays["labels"] = table.label_ids(model.labels)
        if name == "calibration":
            arrays["groups"] = repeats(table)
        save_arrays(path, arrays)
    save_arrays(folder / f"{HEAD}.safetensors", dict(head_arrays(model.head)))
    write_json(folder / f"{HEAD}.json", head_spec(model.head))
    took = round(time.perf_counter() - start, 3)
    cut = {name: int(cut_rows(model, split.tables[name]).sum()) for name in step.facts["tables"]}
    return {"rows": split.rows, "dropped": dict(split.dropped), "seconds": took, "truncated": cut}


def samples(step: Step, folder: Path, store: StepStore) -> dict[str, Any]:
    """Of a posterior, of a stage of its run, or of its single adapter, on every table but train, which nothing reads.

    K-fold adapters give each train row by the one that has not seen it. In the seconds, what lies below the adapted
    blocks is counted once for all posteriors of a set.
    """
    split, source = _split(step), step.needs["posterior"]
    own = store.folder(source.kind, source.key)
    home = own / "adapter" if _trained(source) else own
    if "stage" in step.facts:
        home = home / "epochs" / str(step.facts["stage"])
    model = _load(step, home if _trained(source) else _adapter_of(step, store))
    sampler = None
    if not step.facts.get("alone"):
        stored = load_posterior(home, source.facts["posterior"])
        trunks = _trunks_of(step.cell.model, step.cell.data, step.where["root"])
        sampler = Sampler(host_under(model), stored, step.facts["samples"], trunks=trunks)
    spent: dict[str, float] = {}
    for name in step.facts["tables"]:
        path, table = folder / f"{name}.safetensors", split.tables[name]
        if not path.exists() and (name != "train" or (sampler is not None and held_out_rows(source))):
            start = time.perf_counter()
            if name == "train" and sampler is not None:
                features, drawn = sample_held_out(sampler, table.texts, table.pairs, QUIET)
            else:
                features, drawn = _draw(model, sampler, table)
            spent[name] = round(time.perf_counter() - start, 3)
            save_arrays(path, {"features": features, "samples": drawn})
    return {"seconds": spent}


def pooled(step: Step, folder: Path, store: StepStore) -> dict[str, Any]:
    """The adapters of all seeds, side by side: nothing is run."""
    for name in step.facts["tables"]:
        if name == "train":
            continue
        seen = [read_arrays(store.folder(need.kind, need.key) / f"{name}.safetensors", sealed=False)
                for need in step.needs.values()]  # fmt: skip
        drawn = np.stack([log_softmax(arrays["logits"]).astype(np.float32) for arrays in seen])
        features = np.stack([arrays["features"] for arrays in seen]).mean(axis=0, dtype=np.float32)
        save_arrays(folder / f"{name}.safetensors", {"features": features, "samples": drawn})
    return {"samples": len(step.needs)}


def held_out_rows(posterior: Step) -> bool:
    """Whether a posterior's samples hold the train rows too: K-fold adapters', each by the one that has not seen it."""
    return posterior.facts["posterior"] == "kfold"


def _draw(model: AdaptedModel, sampler: Sampler | None, table: TextTable) -> tuple[NDArray[Any], NDArray[Any]]:
    if sampler is not None:
        return sample_both(sampler, table.texts, table.pairs, QUIET)
    made = extract(model, table.texts, table.pairs, how=QUIET)
    return made.features, log_softmax(made.logits)[None].astype(np.float32)


def _onto(step: Step, source: onto.Source, model: AdaptedModel, split: Split) -> Stored:
    """Posterior `step.facts["posterior"]` on the adapter."""
    own: dict[str, Any] = dict(step.facts["own"])

    def texts(name: str) -> LabelledTexts:
        return labelled(split.tables[name], list(model.labels))

    def rows(name: str) -> Representations:
        table = split.tables[name]
        return extract(model, table.texts, table.pairs, labels=table.label_ids(model.labels), how=QUIET)

    match step.facts["posterior"]:
        case "mc_dropout":
            return onto.make_mc_dropout(source, **own)
        case "heads":
            return onto.make_heads(source, model, rows("validation"), **own)  # held out: trained rows are memorised
        case "tfb":
            return onto.make_tfb(source, texts("validation"), **own)
        case "laplace":
            chosen = None if own.pop("evidence", True) else rows("validation")
            return onto.make_laplace(source, model, rows("train"), chosen, **own)
        case "laplace_lora":
            held = None if own.pop("evidence") else texts("validation")
            return onto.make_laplace_lora(source, texts("train"), held, **own)
        case other:
            raise AssertionError(other)


def _trained(step: Step) -> bool:
    """Whether the posterior has a training run of its own."""
    return "plan" in step.facts


def _adapter_of(step: Step, store: StepStore) -> Path:
    need = step.needs["adapter"]
    return store.folder(need.kind, need.key) / "adapter"


def _split(step: Step) -> Split:
    choices: Choices | None = as_choices(_fact(step, "letters"))
    data = DataSet.model_validate(step.where["data"])
    return read_split(data, Path(step.where["root"]), True if choices is None else choices.template)


def _load(step: Step, folder: Path) -> AdaptedModel:
    return load(str(folder), device=step.where["device"], precision=_fact(step, "precision"))


def _fact(step: Step, name: str) -> Any:
    """From the step, or the one among those it needs that was told."""
    return next(s.facts[name] for s in step.all() if name in s.facts)


def _costs(stored: Stored) -> dict[str, Any]:
    seconds, size = seconds_and_bytes(stored)
    return {"made_seconds": round(seconds, 3), "bytes": size, "stored": stored.posterior.stored,
            "samples": stored.samples}  # fmt: skip
