"""Posteriors over LoRA adapters as systems: MiniLM on texts, SmolLM2 on questions. Resumes; last line: JSON.

    DUBIO_DATA=... python benchmarks/posteriors.py [--model smollm2 --device cuda] [--sets sst2 ...] [--seeds 0 1 2]
        [--more] [--out FOLDER]

Train: rows of the set's own train split; others of it pick epochs, temperature and TFB's noise; test: another split,
opened once a system (see `cases`). LoRA: rank 8, LoRA-XS: rank 16, both on query, key and value; where only the last
blocks are adapted, the rest of every pass is shared. Each system is judged by its own predictions; its passes are timed
against one pass just before. A cell is a JSON file under results/posteriors_MODEL that grows row by row, so that a
killed run goes on; the summary of all cells is results/posteriors_MODEL.json. --more: BLoB, rank-wise dropout,
Laplace over A and B, and ensembles of heads besides.
"""

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from cases import MINILM, SMOLLM2
from dubio.adapters.plan import TrainingPlan
from dubio.containers import Representations
from dubio.files import write_json
from dubio.log_space import log_softmax
from dubio.measures import log_complement, log_mean
from dubio.metrics import Bootstrap, evaluate_system
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.posteriors.base_model import load_host
from dubio.posteriors.engine.prefix_cache import Trunks, sharing_trunks
from dubio.posteriors.from_adapter import (
    make_heads,
    make_laplace,
    make_laplace_lora,
    make_mc_dropout,
    make_tfb,
    read_adapter,
)
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior, seconds_and_bytes
from dubio.posteriors.trained import PosteriorPlan, train_posterior
from dubio.scores.logits.temperature import TemperatureScaledResponse

QUIET = Extraction(show=False)
MODELS = {"minilm": MINILM, "smollm2": SMOLLM2}
# A quarter of the peak rate: between the half and the tenth of SWAG-LoRA's authors (arXiv 2405.03425).
SWAG = {"swag_epochs": 3, "collections": 5, "deviations": 10}
SYSTEMS = (
    "LoRA", "LoRA + temperature", "SWAG-LoRA", "ensemble of 5", "LoRA-XS", "LoRA-XS + temperature", "B-LoRA-XS",
    "MC-dropout", "Laplace", "TFB",
)  # fmt: skip
MORE = ("Laplace-LoRA", "Laplace-LoRA, draws", "heads", "BLoB", "rank-wise dropout")
SAMPLES = 10
WANTED = ("accuracy", "nll", "brier", "ece_equal_width_15", "aurc", "error_roc_auc")


def judged(method, log_p, labels, costs):
    """One row of the table from log-probabilities `[N, C]`."""
    own = log_complement(log_p, log_p.argmax(axis=1))
    found = evaluate_system("test", method, np.exp(log_p), labels, own, bootstrap=Bootstrap(draws=1))
    values = {m.metric.removeprefix("system_"): m.value for m in found}
    return {"method": method, **{name: values[name] for name in WANTED if name in values}, **costs}


class Cell:
    """One set and seed; a row that its file holds already is not made again."""

    def __init__(self, case, name, seed, device, out, path):
        self.case, self.name, self.seed, self.device, self.out, self.path = case, name, seed, device, out, path
        self.train, self.held, self.test = case.tables(name, seed)
        self.found = json.loads(path.read_text()) if path.exists() else []
        self.trunks = Trunks()

    def has(self, method):
        """Whether its row is there."""
        return any(row["method"] == method for row in self.found)

    def keep(self, row):
        """Adds a row to the file, with the machine that made it."""
        on = f"{os.cpu_count()} CPUs" if self.device == "cpu" else torch.cuda.get_device_name()
        self.found.append({**row, "machine": f"{on}, torch {torch.__version__}"})
        write_json(self.path, self.found)
        print(self.name, self.seed, row, flush=True)

    def trained(self, kind, settings, extra=None, more_epochs=0):
        """The folder of a posterior that takes a training run of its own."""
        extra = extra or PosteriorPlan(**SWAG, swag_rate=settings["learning_rate"] / 4)
        folder = self.out / f"{self.name}-{self.seed}-{self.case.rows}-{kind}"
        plan = TrainingPlan(
            max_length=self.case.length, seed=self.seed, batch_size=self.case.batch, top_layers=self.case.top,
            epochs=self.case.epochs + more_epochs, device=self.device, precision="float32", show=False, **settings,
        )  # fmt: skip
        if not (folder / "adapter_config.json").exists():
            rows = (self.train, self.held)
            with sharing_trunks(self.trunks):
                train_posterior(kind, self.case.base, self.case.labels, rows, folder, plan, extra, self.case.choices)
        return folder

    def forward(self, folder, table):
        """The adapter under `folder`, what it gives on the rows, and the seconds of that."""
        model = load(folder, base=self.case.base, device=self.device)
        start = time.perf_counter()
        made = extract(model, table.texts, table.pairs, labels=table.labels, how=QUIET)
        return model, made, time.perf_counter() - start

    def single(self, method, folder, kind):
        """One adapter, as it is and with a temperature from the held-out rows."""
        if self.has(f"{method} + temperature"):
            return
        made = self.forward(folder, self.test)[1]
        record = json.loads((folder / "dubio_training.json").read_text())
        costs = {
            "samples": 1, "stored": load_posterior(folder, kind).posterior.fact("trainable"), "predict_over_one": 1.0,
            "made_seconds": round(sum(epoch["seconds"] for epoch in record["history"]), 1),
            "best_epoch": record["best_epoch"],
        }  # fmt: skip
        held = self.forward(folder, self.held)[1]
        fitted = TemperatureScaledResponse().fit(None, Representations.of(held.features, held.logits, held.labels))
        t = float(fitted.temperature_[0])
        if not self.has(method):
            self.keep(judged(method, log_softmax(made.logits), self.test.labels, costs))
        scaled = judged(f"{method} + temperature", log_softmax(made.logits / t), self.test.labels, costs)
        self.keep({**scaled, "temperature": t})

    def add(self, method, make, host, one, made_on="LoRA"):
        """A posterior that `make` gives; one: folder of the adapter whose single pass it is timed against."""
        if self.has(method):
            return
        stored = make()
        alone = self.forward(one, self.test)[2]
        start = time.perf_counter()
        count = stored.samples if stored.posterior.centre else min(SAMPLES, stored.samples)
        drawn = sample(Sampler(host, stored, count), self.test.texts, self.test.pairs, QUIET)
        spent = time.perf_counter() - start
        seconds, size = seconds_and_bytes(stored)
        costs = {
            "samples": len(drawn), "stored": stored.posterior.stored, "bytes": size, "made_seconds": round(seconds, 1),
            "predict_over_one": round(spent / alone, 2), "made_on": made_on,
        }  # fmt: skip
        self.keep(judged(method, log_mean(drawn), self.test.labels, costs))

    def run(self, more):
        """Every system."""
        case = self.case
        rest = [name for name in MORE if case.choices is None or name != "heads"]  # the heads of letters are frozen
        if all(self.has(method) for method in (*SYSTEMS, *(rest if more else ()))):
            return self.found
        host, _ = load_host(
            case.base, case.labels, device=self.device, max_length=case.length, choices=case.choices
        )  # fmt: skip
        lora = self.trained("swag_lora", case.lora)
        self.single("LoRA", lora, "swag_lora")

        def own(method, kind, settings=case.lora, extra=None, more_epochs=0, made_on="LoRA"):
            def make():
                return load_posterior(self.trained(kind, settings, extra, more_epochs), kind)

            self.add(method, make, host, lora, made_on)

        own("SWAG-LoRA", "swag_lora")
        own("ensemble of 5", "ensemble", extra=PosteriorPlan(members=5))
        self.single("LoRA-XS", self.trained("swag_lora_xs", case.xs, more_epochs=case.more_epochs), "swag_lora_xs")
        own("B-LoRA-XS", "swag_lora_xs", case.xs, more_epochs=case.more_epochs, made_on="LoRA-XS")
        model, features, _ = self.forward(lora, self.train)
        source = read_adapter(model, lora)
        self.add("MC-dropout", lambda: make_mc_dropout(source, rate=0.1), source.host, lora)
        self.add("Laplace", lambda: make_laplace(source, model, features), source.host, lora)
        self.add("TFB", lambda: make_tfb(source, self.held), source.host, lora)
        if more:
            self.add("Laplace-LoRA", lambda: make_laplace_lora(source, self.train), source.host, lora)
            held = self.held
            self.add(
                "Laplace-LoRA, draws",
                lambda: make_laplace_lora(source, self.train, held, linear=False),
                source.host,
                lora,
            )
            if "heads" in rest:
                self.add("heads", lambda: make_heads(source, model, features), source.host, lora)
            own("BLoB", "blob", extra=PosteriorPlan())
            own("rank-wise dropout", "rank_dropout", extra=PosteriorPlan())
        return self.found


def summary(cells):
    """Mean and s.d. over seeds, by set and method."""
    groups = {}
    for (name, _), rows in cells.items():
        for row in rows:
            groups.setdefault((name, row["method"]), []).append(row)
    return [
        {"set": name, "method": method, "seeds": len(rows), "samples": rows[0]["samples"], "stored": rows[0]["stored"],
         **{m: [round(float(f([r[m] for r in rows if m in r])), 4) for f in (np.mean, np.std)] for m in WANTED},
         "predict_over_one": round(float(np.mean([r["predict_over_one"] for r in rows])), 2)}
        for (name, method), rows in groups.items()
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=list(MODELS), default="minilm")
    parser.add_argument("--sets", nargs="+", help="default: all of the model's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/posteriors"))
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    cases, cells = MODELS[options.model], {}
    if unknown := sorted({*(options.sets or ())} - set(cases)):
        parser.error(f"--sets: {options.model} has no case {unknown[0]}; known: {', '.join(cases)}")
    sets, results = options.sets or list(cases), options.results or Path(f"results/posteriors_{options.model}")
    for seed in options.seeds:
        for name in sets:
            path, start = results / f"{name}-{seed}.json", time.perf_counter()
            path.parent.mkdir(parents=True, exist_ok=True)
            cell = Cell(cases[name], name, seed, options.device, options.out / options.model, path)
            cells[name, seed] = cell.run(options.more)
            print(name, seed, f"{time.perf_counter() - start:.0f} s", flush=True)
    plans = {
        name: {field: value for field, value in asdict(cases[name]).items() if field not in ("make", "files")}
        for name in sets
    }
    swag = {**SWAG, "swag_rate": "learning_rate / 4"}
    found = {"sets": plans, "swag": swag, "table": summary(cells)}
    write_json(results.with_suffix(".json"), found)
    for row in found["table"]:
        print({k: row[k] for k in ("set", "method", "seeds", "stored", "accuracy", "nll", "ece_equal_width_15")})
    print(json.dumps({"cells": len(cells), "rows": {name: plan["rows"] for name, plan in plans.items()}}))


if __name__ == "__main__":
    main()
