"""All calls into dubio of `same_numbers.py`: edit here where dubio's names, commands, options or files change.

Each function returns nested mappings whose keys are words that stay: names of methods, metrics, splits and tensors. A
word that dubio itself renames, such as a fact of a method, goes into RENAMED.
"""

import io
import json
import runpy
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from pyarrow import csv, parquet
from safetensors.numpy import load_file

import dubio
import same_numbers_data as data
from same_numbers_entries import figures, frame, numbers

ROOT = Path(__file__).resolve().parents[1]
RENAMED = {}  # a word of a key as it was -> as it is now, where it was renamed on purpose
METHODS = [
    "softmax_response", "entropy", "margin", "energy", "temperature", "md", "md_norm", "rmd", "rmd_norm", "rde",
    "rde_norm", "ddu", "ddu_norm", "knn", "huq_md", "huq_ddu", "adue", "adue_unguarded", "adue_balanced",
    "adue_calibration", "adue_cross_fitted", "probe", "probe_both", "probe_guarded", "probe_classwise",
    "refitted_train", "refitted_calibration", "refitted_both",
]  # fmt: skip
PAGES = ("findings.md", "gotchas.md")
FEW = ["softmax_response", "energy", "md", "probe_both", "adue_calibration"]
MEASURES = [
    "response", "temperature", "entropy", "expected_entropy", "mutual_information", "variance", "variation_ratio",
    "distilled",
]  # fmt: skip
SETTINGS = ("epochs=2", "learning_rate=0.03", "batch_size=32", "max_length=32", "seed=1")
TRAINED = {
    "ensemble": ("members=3", "penalty=0.001"), "kfold": ("members=2",),
    "swag_lora": ("swag_epochs=2", "collections=2", "deviations=3"),
    "swag_lora_xs": ("swag_epochs=2", "collections=2", "rank=4"), "blob": ("eps=0.1",),
    "rank_dropout": ("log_variance=-9",),
}  # fmt: skip
MADE = {
    "mc_dropout": ("--rate", "0.2", "--samples", "6"), "heads": ("--rows", "validation", "--samples", "4"),
    "tfb": ("--rows", "validation"), "laplace": ("--rows", "train", "--structure", "full"),
    "laplace_lora": ("--rows", "train", "--validation", "validation", "--structure", "diag"),
}  # fmt: skip


def fit_arrays(train, calibration, test, ood, head, methods=METHODS):
    """All that a fit on arrays gives. train, ...: features `[N, d]`, logits `[N, C]`, labels, groups (or None)."""
    rows = [dubio.Representations.of(*table) for table in (train, calibration, test, ood)]
    fitted = dubio.fit(*rows[:2], head, methods=[*methods])
    found = dubio.evaluate(fitted, rows[2], ood=rows[3], draws=200)
    out = {"choice": fitted.choice.method, "left out": " ".join(sorted(fitted.left_out))}
    out["metrics"] = figures([asdict(metric) for metric in found.metrics])
    for risk in (0.05, 0.1, 0.2):
        out[f"threshold at risk {risk}"] = numbers(asdict(dubio.promise(fitted, risk)))
    for name, method in fitted.methods.items():
        state, recalibration = method.score.state(), method.recalibrator.state()
        scores = dubio.score(fitted, rows[2], name)
        out[name] = {
            "learned": state.arrays, "recalibration": recalibration.arrays, "certified": method.certified,
            "facts": numbers(state.facts), "uncertainty": scores.uncertainty,
            "error probability": scores.error_probability,
        }  # fmt: skip
    return out


def fit_model(folder, adapter, tables, methods=METHODS, options=(), predictions=None):
    """fit, evaluate and score of an adapter by the command line, each table a file. options: of all three."""
    where = ("--artifact", folder, *options)
    judged = () if predictions is None else ("--predictions", predictions)
    train = ("--train", tables["train"], "--calibration", tables["calibration"])
    command("fit", adapter, *train, "--methods", ",".join(methods), *judged, *where)
    ood = ("--ood", tables["ood"]) if "ood" in tables else ()
    command("evaluate", adapter, "--test", tables["test"], *ood, "--report", folder / "report", "--risk", 0.2, *where)
    command("score", adapter, tables["test"], "--output", folder / "scored.parquet", "--risk", 0.2, *where)
    return {
        "artifact": artifact(folder / "dubio"),
        "metrics": figures(json.loads((folder / "report" / "metrics.json").read_text())),
        "scored": read_table(folder / "scored.parquet"),
    }


def posterior(folder, name, tiny):
    """A posterior's tensors and facts, and log-probabilities of its samples."""
    if name in TRAINED:
        adapter = folder / name
        own = [part for setting in (*SETTINGS, *TRAINED[name]) for part in ("--set", setting)]
        tables = ("--train", tiny["train"], "--validation", tiny["validation"])
        command("train", *tables, "--model", tiny["base"], "--out", adapter, "--posterior", name, *own)
    else:
        adapter = data.adapter(folder / name, tiny)
        command("posterior", adapter, name, *(tiny.get(option, option) for option in MADE[name]))
    model = dubio.load(adapter)
    texts = [row["text"] for row in data.rows_of(tiny["test"])[:12]]
    rows = dubio.extract(model, texts, posteriors=adapter)
    beside = adapter / "posteriors" / name
    facts = json.loads((beside / "posterior.json").read_text())
    return adapter, {
        "tensors": load_file(*beside.glob("*.safetensors")), "facts": numbers(facts["facts"]),
        "samples": facts["samples"], "log-probabilities": rows.samples[name], "features": rows.features,
        "logits": rows.logits, **({"adapter": trained(adapter)} if name in TRAINED else {}),
    }  # fmt: skip


def train(folder, tables, *settings, letters=None):
    """An adapter of dubio's own trainer. letters: of the answers to questions."""
    named = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    asked = () if letters is None else ("--letters", letters)
    where = ("--train", tables["train"], "--validation", tables["validation"], "--model", tables["base"])
    command("train", *where, "--out", folder, *asked, *named)
    return trained(folder)


def grid(folder, tiny):
    """A grid of two seeds with posteriors and a variant: its outcomes, and its tables."""
    tables = {name: str(tiny[name]) for name in ("train", "validation", "calibration", "test", "ood")}
    values = {
        "name": "small", "about": "small", "trainer": "stack", "certification": 0.3, "seeds": [0, 1],
        "models": {"tiny": {"base": str(tiny["base"]), "family": "bert"}},
        "data": {"topics": {**tables, "rows": {"train": 150, "test": 100}}},
        "training": {"epochs": 2, "learning_rate": 0.03, "batch_size": 32, "max_length": 32},
        "methods": ["softmax_response", "md", "probe", "adue_unguarded", "mc_dropout.mutual_information"],
        "variants": {"adue_bce": {"of": "adue_unguarded", "alphas": [0.0], "betas": [0.0]}},
        "posteriors": {"ensemble": {"plan": {"members": 2}}, "mc_dropout": {"plan": {"rate": 0.2}, "samples": 3}},
        "predictions": ["ensemble"],
    }  # fmt: skip
    folder.mkdir()
    (folder / "grid.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    command("bench", "run", folder / "grid.yaml", "--store", folder / "store", "--results", folder / "results")
    results = folder / "results" / "small"
    found = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("tiny-*.json"))}
    return {
        "choice": {name: facts["choice"]["method"] for name, facts in found.items()},
        "outcomes": {name: numbers(facts) for name, facts in found.items()},
        "rows": {path.stem: read_table(path) for path in sorted(results.glob("tiny-*.parquet"))},
        "tables": shown(results, folder / "shown", 100),
    }


def shown(results, out, draws):
    """The tables of a grid's results."""
    published = ROOT / "configs" / "published.csv"
    command("bench", "show", results, "--draws", draws, "--out", out, "--published", published)
    return {path.stem: read_table(path) for path in sorted(out.glob("*.parquet"))}


def pages():
    """Page -> (template, text) of what is written from results/: what the template leaves open is computed."""
    docs = ROOT / "docs"
    builder = runpy.run_path(str(docs / "build.py"))
    made, readme = builder["pages"](), builder["readme"]()
    found = {name: ((docs / f"{name}.in").read_text(encoding="utf-8"), made[name]) for name in PAGES}
    start, end = (readme.index(mark) for mark in ("<!-- measured -->", "<!-- end -->"))
    return {**found, "README.md": (f"{readme[:start]}{{{{measured}}}}{readme[end:]}", readme)}


def demo_tables(folder):
    """Writes the demo's tables, one CSV a split."""
    from dubio.data.bundled.tables import write_demo_tables

    write_demo_tables(folder)


def read_table(path):
    """Column -> array, of a table that dubio wrote."""
    return frame(parquet.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path))


def artifact(folder):
    """Of what was fitted: every stored tensor by method, and the numeric facts of the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    out = {"choice": manifest["choice"]["method"], "left out": " ".join(sorted(manifest["left_out"])),
           "labels": " ".join(manifest["labels"]), "splits": numbers(manifest["splits"])}  # fmt: skip
    out["calibration"] = {f"{f['method']}/{f['metric']}": numbers(f) for f in manifest["calibration"]}
    for method in manifest["methods"]:
        facts = {part: numbers(method[part]) for part in ("facts", "recalibration")}
        out[method["name"]] = {"tensors": load_file(folder / method["file"]), **facts}
    shared = next(name for name in manifest["files"] if name.startswith("rows-"))
    return {**out, "rows": load_file(folder / shared)}


def trained(folder):
    """Of an adapter: its tensors, and the numbers of its training record but the settings."""
    record = json.loads((folder / "dubio_training.json").read_text())
    kept = {name: value for name, value in record.items() if name not in ("plan", "settings", "posterior_plan")}
    return {"tensors": load_file(folder / "adapter_model.safetensors"), "record": numbers(kept)}


def command(*arguments):
    """Runs dubio's command line in this process; a refusal ends the script and shows what was said."""
    from dubio.cli.main import main

    torch.manual_seed(0)
    said, before = io.StringIO(), sys.argv
    sys.argv = ["dubio", *map(str, arguments)]
    try:
        with redirect_stdout(said), redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main()
    except SystemExit as stop:
        if stop.code:
            raise SystemExit(f"{' '.join(sys.argv)}: {said.getvalue()}") from None
    finally:
        sys.argv = before
