"""Posteriors over LoRA adapters of MiniLM on RTE, CoLA and SST-2, as systems, with costs. Resumes; last line: JSON.

    DUBIO_DATA=... python benchmarks/posteriors.py [--sets rte cola sst2] [--seeds 0 1 2] [--out FOLDER]

Train: ROWS rows of the set's own train split; 500 others pick epochs, temperature and TFB's noise; test: the set's
validation split, opened once a system. LoRA: rank 8, LoRA-XS: rank 16, both on query, key and value. Each system is
judged by its own predictions; its passes are timed against one pass just before. A finished cell is a JSON file under
results/posteriors_minilm, so that a killed run goes on, on another machine too; the summary of all cells is
results/posteriors_minilm.json.
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

QUIET, HELD = Extraction(show=False), 500
ROWS = {"rte": 500, "cola": 1500, "sst2": 1500}
LORA = {"learning_rate": 2e-3, "epochs": 5, "dropout": 0.1}
XS = {"learning_rate": 4e-3, "epochs": 10, "dropout": 0.0, "rank": 16, "alpha": 16}
# A quarter of the peak rate: between the half and the tenth of SWAG-LoRA's authors (arXiv 2405.03425).
SWAG = {"swag_epochs": 5, "collections": 2, "deviations": 10}
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


def cell(name, seed, rows, out):
    """Every system on one set and seed."""
    train, held, test = tables_of(name, rows, seed)
    labels = [str(c) for c in range(2)]
    length = {"rte": 128}.get(name, 64)
    found = []

    def trained(kind, settings, extra=None):
        extra = extra or PosteriorPlan(**SWAG, swag_rate=settings["learning_rate"] / 4)
        folder = out / f"{name}-{seed}-{rows}-{kind}"
        plan = TrainingPlan(max_length=length, seed=seed, batch_size=32, show=False, **settings)
        if not (folder / "adapter_config.json").exists():
            train_posterior(kind, str(minilm_path()), labels, (train, held), folder, plan, extra)
        return folder

    def forward(folder, table):
        model = load(folder)
        start = time.perf_counter()
        made = extract(model, table.texts, table.pairs, labels=table.labels, how=QUIET)
        return model, made, time.perf_counter() - start

    def add(method, stored, host, made_on):
        one = forward(swag, test)[2]
        start = time.perf_counter()
        drawn = sample(Sampler(host, stored, min(SAMPLES, stored.samples)), test.texts, test.pairs, QUIET)
        spent = time.perf_counter() - start
        seconds, size = seconds_and_bytes(stored)
        costs = {
            "samples": len(drawn), "stored": stored.posterior.stored, "bytes": size, "made_seconds": round(seconds, 1),
            "predict_over_one": round(spent / one, 2), "made_on": made_on,
        }  # fmt: skip
        found.append(judged(method, log_mean(drawn), test.labels, costs))
        print(found[-1], flush=True)

    def single(method, folder, kind):
        stored = load_posterior(folder, kind)
        _, rows_of_test, _ = forward(folder, test)
        numbers = stored.posterior.fact("trainable")
        record = json.loads((folder / "dubio_training.json").read_text())
        costs = {
            "samples": 1,
            "stored": numbers,
            "predict_over_one": 1.0,
            "made_seconds": round(sum(epoch["seconds"] for epoch in record["history"][: record["plan"]["epochs"]]), 1),
            "best_epoch": record["best_epoch"],
        }
        found.append(judged(method, log_softmax(rows_of_test.logits), test.labels, costs))
        held_rows = forward(folder, held)[1]
        scaled = TemperatureScaledResponse().fit(
            None, Representations.of(held_rows.features, held_rows.logits, held.labels)
        )
        t = float(scaled.temperature_[0])
        found.append(judged(f"{method} + temperature", log_softmax(rows_of_test.logits / t), test.labels,
                            {**costs, "temperature": t}))  # fmt: skip

    swag = trained("swag_lora", LORA)
    single("LoRA", swag, "swag_lora")
    host, _ = load_host(str(minilm_path()), labels, max_length=length)
    add("SWAG-LoRA", load_posterior(swag, "swag_lora"), host, "LoRA")
    add("ensemble of 5", load_posterior(trained("ensemble", LORA, PosteriorPlan(members=5)), "ensemble"), host, "LoRA")
    model, features, _ = forward(swag, train)
    source = read_adapter(model, swag)
    add("BLoB", load_posterior(trained("blob", LORA, PosteriorPlan()), "blob"), host, "LoRA")
    cut = trained("rank_dropout", LORA, PosteriorPlan())
    add("rank-wise dropout", load_posterior(cut, "rank_dropout"), host, "LoRA")
    add("MC-dropout", make_mc_dropout(source, rate=0.1), source.host, "LoRA")
    add("TFB", make_tfb(source, held), source.host, "LoRA")
    add("Laplace", make_laplace(source, model, features), source.host, "LoRA")
    add("Laplace-LoRA", make_laplace_lora(source, train, held), source.host, "LoRA")
    add("heads", make_heads(source, model, features), source.host, "LoRA")
    cores = trained("swag_lora_xs", XS)
    single("LoRA-XS", cores, "swag_lora_xs")
    add("B-LoRA-XS", load_posterior(cores, "swag_lora_xs"), host, "LoRA-XS")
    return found


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
    parser.add_argument("--out", type=Path, default=Path("runs/posteriors"))
    parser.add_argument("--results", type=Path, default=Path("results/posteriors_minilm"))
    options = parser.parse_args()
    cells = {}
    for seed in options.seeds:
        for name in options.sets:
            path = options.results / f"{name}-{seed}.json"
            if not path.exists():
                start = time.perf_counter()
                rows = cell(name, seed, ROWS[name], options.out)
                write_json(path, rows)
                print(name, seed, f"{time.perf_counter() - start:.0f} s", flush=True)
            cells[name, seed] = json.loads(path.read_text())
    found = {
        "rows": ROWS,
        "held_out": HELD,
        "machine": MACHINE,
        "lora": LORA,
        "xs": XS,
        "swag": {**SWAG, "swag_rate": "learning_rate / 4"},
        "table": summary(cells),
    }
    write_json(options.results.with_suffix(".json"), found)
    for row in found["table"]:
        print({k: row[k] for k in ("set", "method", "seeds", "stored", "accuracy", "nll", "ece_equal_width_15")})
    print(json.dumps({"cells": len(cells), "rows": ROWS}))


if __name__ == "__main__":
    main()
