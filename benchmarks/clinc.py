"""BayesLoRA on CLINC150: what the variance of MC-dropout inside the adapter tells in and out of scope. Last line: JSON.

    DUBIO_DATA=... python benchmarks/clinc.py [--seeds 0 1 2] [--rows 15000] [--out FOLDER]

MiniLM, adapters of rank 8 on query, key and value of the last TOP of six blocks, on the 150 intents; validation picks
the epoch. Judged on test (4,500 rows in scope) and the 1,000 out-of-scope ones: mean variance in and out and their
ratio (amplification), how well each score tells out of scope from in scope (OOD ROC-AUC) and wrong answers from right
ones (error ROC-AUC), and its Spearman correlation with errors. Always beside it: softmax response of the mean of the
same passes, and of one pass. A seed is a JSON file under results/clinc_minilm; summary: results/clinc_minilm.json.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from pyarrow import parquet

from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.data.bundled.packages import minilm_path
from dubio.files import write_json
from dubio.log_space import log_softmax
from dubio.measures import class_variance, log_complement, log_mean, mutual_information, predictive_entropy, response
from dubio.metrics import roc_auc, spearman
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.posteriors.base_model import load_host
from dubio.posteriors.from_adapter import make_mc_dropout, read_adapter
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior
from dubio.posteriors.trained import PosteriorPlan, train_posterior

QUIET, TOP, DROPOUT, LENGTH = Extraction(show=False), 3, 0.15, 64
SETTINGS = {"learning_rate": 2e-3, "epochs": 6, "batch_size": 64, "dropout": DROPOUT, "top_layers": TOP}


def rows_of(root, name, rows=None, seed=0):
    """A split, or so many rows of it."""
    table = parquet.read_table(root / f"{name}.parquet").to_pydict()
    at = np.random.default_rng(seed).permutation(len(table["label"]))[:rows]
    labels = np.array(table["label"], dtype=np.int64)[at]
    return LabelledTexts([table["text"][i] for i in at], None, labels, f"clinc150-{name}-{seed}-{len(at)}")


def told(score, wrong, variance):
    """What one score tells; `wrong` is of rows in scope, and the rows after them are out of scope."""
    inside = len(wrong)
    away = np.arange(len(score)) >= inside
    return {
        "ood_roc_auc": round(roc_auc(score, away), 4),
        "error_roc_auc": round(roc_auc(score[:inside], wrong), 4),
        "spearman_with_errors": round(spearman(score[:inside], wrong.astype(float)), 4),
        "spearman_with_variance": round(spearman(score[:inside], variance[:inside]), 4),
    }


def judged(drawn, labels):
    """Scores of samples `[S, N, C]` whose first len(labels) rows are in scope."""
    log_p, inside = log_mean(drawn), len(labels)
    answers = log_p.argmax(axis=1)
    wrong = answers[:inside] != labels
    variance = class_variance(drawn)
    scores = {
        "class_variance": variance, "mutual_information": mutual_information(drawn),
        "predictive_entropy": predictive_entropy(drawn), "softmax_response": response(drawn, answers),
    }  # fmt: skip
    raw = np.exp(variance)
    return {
        "accuracy": round(float(1 - wrong.mean()), 4),
        "variance": {
            "in": float(raw[:inside].mean()), "out": float(raw[inside:].mean()),
            "right": float(raw[:inside][~wrong].mean()), "wrong": float(raw[:inside][wrong].mean()),
            "amplification": round(float(raw[inside:].mean() / raw[:inside].mean()), 3),
            "amplification_of_medians": round(float(np.median(raw[inside:]) / np.median(raw[:inside])), 3),
        },
        "scores": {name: told(score, wrong, variance) for name, score in scores.items()},
    }  # fmt: skip


def seed_of(root, seed, options):
    """One adapter and its systems."""
    labels = json.loads((root / "label_names.json").read_text())
    train, held = rows_of(root, "train", options.rows, seed), rows_of(root, "validation")
    test, away = rows_of(root, "test"), rows_of(root, "oos_test")
    texts, start = [*test.texts, *away.texts], time.perf_counter()
    found = {"seed": seed, "systems": {}}

    def folder_of(kind):
        folder = options.out / f"clinc-{seed}-{len(train.texts)}-{kind}"
        plan = TrainingPlan(max_length=LENGTH, seed=seed, show=False, **SETTINGS)
        if not (folder / "adapter_config.json").exists():
            train_posterior(kind, str(minilm_path()), labels, (train, held), folder, plan, PosteriorPlan(members=1))
        return folder

    def add(name, stored, host, samples):
        began = time.perf_counter()
        drawn = sample(Sampler(host, stored, samples), texts, None, QUIET)
        costs = {"samples": samples, "seconds": round(time.perf_counter() - began, 1)}
        found["systems"][name] = {**costs, **judged(drawn, test.labels)}
        print(seed, name, found["systems"][name], flush=True)

    one = folder_of("ensemble")
    model = load(one)
    log_p = log_softmax(extract(model, texts, how=QUIET).logits)
    answers = log_p.argmax(axis=1)
    wrong = answers[: len(test.labels)] != test.labels
    alone = log_complement(log_p, answers)
    found["one_pass"] = {"accuracy": round(float(1 - wrong.mean()), 4), "softmax_response": told(alone, wrong, alone)}
    source = read_adapter(model, one)
    for masks in ("sample", "token"):
        stored = make_mc_dropout(source, rate=DROPOUT, masks=masks)
        add(f"MC-dropout, a mask for each {masks}", stored, source.host, 20)
    if options.ranks:
        host, _ = load_host(str(minilm_path()), labels, max_length=LENGTH)
        add("rank-wise dropout", load_posterior(folder_of("rank_dropout"), "rank_dropout"), host, 20)
    return {**found, "seconds": round(time.perf_counter() - start, 1)}


def finished(root, options, seed_of):
    """The result of every seed, each a file that is made where it is not there."""
    runs = []
    for seed in options.seeds:
        path = options.results / f"{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_json(path, seed_of(root, seed, options))
        runs.append(json.loads(path.read_text()))
    return runs


def spread(values):
    return [round(float(np.mean(values)), 4), round(float(np.std(values)), 4)]


def summary(runs):
    """Mean and s.d. over seeds of everything."""
    one = [run["one_pass"]["softmax_response"] for run in runs]
    table = {"one pass": {"softmax_response": {m: spread([o[m] for o in one]) for m in one[0] if "variance" not in m}}}
    for name in dict.fromkeys(name for run in runs for name in run["systems"]):
        systems = [run["systems"][name] for run in runs if name in run["systems"]]
        table[name] = {
            "accuracy": spread([s["accuracy"] for s in systems]),
            "variance": {key: [float(f"{f([s['variance'][key] for s in systems]):.3g}") for f in (np.mean, np.std)]
                         for key in systems[0]["variance"]},
            **{score: {m: spread([s["scores"][score][m] for s in systems]) for m in systems[0]["scores"][score]}
               for score in systems[0]["scores"]},
        }  # fmt: skip
    return table


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=15000)
    parser.add_argument("--ranks", action="store_true", help="rank-wise variational dropout besides")
    parser.add_argument("--out", type=Path, default=Path("runs/clinc"))
    parser.add_argument("--results", type=Path, default=Path("results/clinc_minilm"))
    options = parser.parse_args()
    runs = finished(Path(os.environ["DUBIO_DATA"]) / "clinc150", options, seed_of)
    found = {"settings": {**SETTINGS, "rows": options.rows, "seeds": options.seeds}, "table": summary(runs)}
    write_json(options.results.with_suffix(".json"), found)
    print(json.dumps({"seeds": len(runs), "systems": list(found["table"])}))


if __name__ == "__main__":
    main()
