"""Posteriors over LoRA adapters of MiniLM on RTE, CoLA and SST-2, as systems, with costs. Resumes; last line: JSON.

    DUBIO_DATA=... python benchmarks/posteriors.py [--sets rte cola sst2] [--seeds 0 1 2] [--more] [--out FOLDER]

Train: ROWS rows of the set's own train split; 500 others pick epochs, temperature and TFB's noise; test: the set's
validation split, opened once a system. LoRA: rank 8, LoRA-XS: rank 16, both on query, key and value of the last TOP of
six blocks, so that half of every pass is shared. Each system is judged by its own predictions; its passes are timed
against one pass just before. A cell is a JSON file under results/posteriors_minilm that grows row by row, so that a
killed run goes on; the summary of all cells is results/posteriors_minilm.json. --more: BLoB, rank-wise dropout,
Laplace over A and B, and ensembles of heads besides.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from pyarrow import parquet

from dubio.adapters.training import LabelledTexts, TrainingPlan
from dubio.containers import Representations
from dubio.demo.models import minilm_path
from dubio.files import write_json
from dubio.measures import log_complement, log_mean
from dubio.metrics import Bootstrap, evaluate_system
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.posteriors.hosts import load_host
from dubio.posteriors.onto import make_heads, make_laplace, make_laplace_lora, make_mc_dropout, make_tfb, read_adapter
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior, seconds_and_bytes
from dubio.posteriors.trained import PosteriorPlan, train_posterior
from dubio.scores.log_space import log_softmax
from dubio.scores.temperature import TemperatureScaledResponse

QUIET, HELD, TOP = Extraction(show=False), 500, 3
ROWS = {"rte": 1200, "cola": 4000, "sst2": 8000}
EPOCHS = {"rte": 5, "cola": 4, "sst2": 4}
LORA = {"learning_rate": 2e-3, "dropout": 0.1}
XS = {"learning_rate": 4e-3, "dropout": 0.0, "rank": 16, "alpha": 16}
XS_EPOCHS = 2  # more than LoRA
# A quarter of the peak rate: between the half and the tenth of SWAG-LoRA's authors (arXiv 2405.03425).
SWAG = {"swag_epochs": 3, "collections": 5, "deviations": 10}
SYSTEMS = (
    "LoRA", "LoRA + temperature", "SWAG-LoRA", "ensemble of 5", "LoRA-XS", "LoRA-XS + temperature", "B-LoRA-XS",
    "MC-dropout", "Laplace", "TFB",
)  # fmt: skip
MORE = ("heads", "BLoB", "rank-wise dropout", "Laplace-LoRA")
SAMPLES = 10
MACHINE = f"{platform.machine()}, {os.cpu_count()} logical CPUs, torch {torch.__version__}"
WANTED = ("accuracy", "nll", "brier", "ece_equal_width_15", "aurc", "error_roc_auc")


def tables_of(name, rows, seed):
    """(train, held-out, test) of a set; the seed only picks rows of train."""
    root = Path(os.environ["DUBIO_DATA"]) / name
    whole, test = (parquet.read_table(root / f"{split}.parquet").to_pydict() for split in ("train", "validation"))
    order = np.random.default_rng(seed).permutation(len(whole["label"]))
    held, train = order[:HELD], order[HELD : HELD + rows]

    def part(table, at, split):
        first, second = ("text_a", "text_b") if "text_a" in table else ("text", None)
        pairs = None if second is None else [table[second][i] for i in at]
        labels = np.array([table["label"][i] for i in at], dtype=np.int64)
        return LabelledTexts([table[first][i] for i in at], pairs, labels, f"{name}-{split}-{seed}-{len(at)}")

    return part(whole, train, "train"), part(whole, held, "held"), part(test, range(len(test["label"])), "test")


def judged(method, log_p, labels, costs):
    """One row of the table from log-probabilities `[N, C]`."""
    own = log_complement(log_p, log_p.argmax(axis=1))
    found = evaluate_system("test", method, np.exp(log_p), labels, own, bootstrap=Bootstrap(draws=1))
    values = {m.metric.removeprefix("system_"): m.value for m in found}
    return {"method": method, **{name: values[name] for name in WANTED if name in values}, **costs}


class Cell:
    """One set and seed; a row that its file holds already is not made again."""

    def __init__(self, name, seed, out, path):
        self.name, self.seed, self.out, self.path = name, seed, out, path
        self.train, self.held, self.test = tables_of(name, ROWS[name], seed)
        self.labels, self.length = ["0", "1"], 128 if name == "rte" else 64
        self.found = json.loads(path.read_text()) if path.exists() else []

    def has(self, method):
        """Whether its row is there."""
        return any(row["method"] == method for row in self.found)

    def keep(self, row):
        """Adds a row to the file."""
        self.found.append(row)
        write_json(self.path, self.found)
        print(self.name, self.seed, row, flush=True)

    def trained(self, kind, settings, extra=None, more_epochs=0):
        """The folder of a posterior that takes a training run of its own."""
        extra = extra or PosteriorPlan(**SWAG, swag_rate=settings["learning_rate"] / 4)
        folder = self.out / f"{self.name}-{self.seed}-{ROWS[self.name]}-{kind}"
        plan = TrainingPlan(max_length=self.length, seed=self.seed, batch_size=32, show=False, top_layers=TOP,
                            epochs=EPOCHS[self.name] + more_epochs, **settings)  # fmt: skip
        if not (folder / "adapter_config.json").exists():
            train_posterior(kind, str(minilm_path()), self.labels, (self.train, self.held), folder, plan, extra)
        return folder

    def forward(self, folder, table):
        """The adapter under `folder`, what it gives on the rows, and the seconds of that."""
        model = load(folder)
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
        drawn = sample(Sampler(host, stored, min(SAMPLES, stored.samples)), self.test.texts, self.test.pairs, QUIET)
        spent = time.perf_counter() - start
        seconds, size = seconds_and_bytes(stored)
        costs = {
            "samples": len(drawn), "stored": stored.posterior.stored, "bytes": size, "made_seconds": round(seconds, 1),
            "predict_over_one": round(spent / alone, 2), "made_on": made_on,
        }  # fmt: skip
        self.keep(judged(method, log_mean(drawn), self.test.labels, costs))

    def run(self, more):
        """Every system."""
        if all(self.has(method) for method in (*SYSTEMS, *(MORE if more else ()))):
            return self.found
        host, _ = load_host(str(minilm_path()), self.labels, max_length=self.length)
        lora = self.trained("swag_lora", LORA)
        self.single("LoRA", lora, "swag_lora")

        def own(method, kind, settings=LORA, extra=None, more_epochs=0, made_on="LoRA"):
            def make():
                return load_posterior(self.trained(kind, settings, extra, more_epochs), kind)

            self.add(method, make, host, lora, made_on)

        own("SWAG-LoRA", "swag_lora")
        own("ensemble of 5", "ensemble", extra=PosteriorPlan(members=5))
        self.single("LoRA-XS", self.trained("swag_lora_xs", XS, more_epochs=XS_EPOCHS), "swag_lora_xs")
        own("B-LoRA-XS", "swag_lora_xs", XS, more_epochs=XS_EPOCHS, made_on="LoRA-XS")
        model, features, _ = self.forward(lora, self.train)
        source = read_adapter(model, lora)
        self.add("MC-dropout", lambda: make_mc_dropout(source, rate=0.1), source.host, lora)
        self.add("Laplace", lambda: make_laplace(source, model, features), source.host, lora)
        self.add("TFB", lambda: make_tfb(source, self.held), source.host, lora)
        if more:
            self.add("heads", lambda: make_heads(source, model, features), source.host, lora)
            own("BLoB", "blob", extra=PosteriorPlan())
            own("rank-wise dropout", "rank_dropout", extra=PosteriorPlan())
            self.add("Laplace-LoRA", lambda: make_laplace_lora(source, self.train, self.held), source.host, lora)
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
    parser.add_argument("--sets", nargs="+", default=["rte", "cola", "sst2"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/posteriors"))
    parser.add_argument("--results", type=Path, default=Path("results/posteriors_minilm"))
    options = parser.parse_args()
    cells = {}
    for seed in options.seeds:
        for name in options.sets:
            path, start = options.results / f"{name}-{seed}.json", time.perf_counter()
            path.parent.mkdir(parents=True, exist_ok=True)
            cells[name, seed] = Cell(name, seed, options.out, path).run(options.more)
            print(name, seed, f"{time.perf_counter() - start:.0f} s", flush=True)
    found = {
        "rows": ROWS,
        "held_out": HELD,
        "machine": MACHINE,
        "top_layers": TOP,
        "epochs": EPOCHS,
        "lora": LORA,
        "xs": {**XS, "more_epochs": XS_EPOCHS},
        "swag": {**SWAG, "swag_rate": "learning_rate / 4"},
        "table": summary(cells),
    }
    write_json(options.results.with_suffix(".json"), found)
    for row in found["table"]:
        print({k: row[k] for k in ("set", "method", "seeds", "stored", "accuracy", "nll", "ece_equal_width_15")})
    print(json.dumps({"cells": len(cells), "rows": ROWS}))


if __name__ == "__main__":
    main()
