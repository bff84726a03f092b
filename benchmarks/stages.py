"""An ensemble of adapters of MiniLM on SST-2, from its first epoch to late overfitting, in and out of domain.

    DUBIO_DATA=... python benchmarks/stages.py [--rows 1000] [--members 5] [--epochs 12] [--seeds 0 1 2] [--out FOLDER]

The experiment of arXiv 2402.12264 where the model does learn (SmolLM2 answers no questions by letters after so few: see
choices.py): adapters of rank 8 on the last three of six blocks, trained at once at a constant rate. At each kept epoch,
on the 872 sentences of SST-2's validation split and on 1,000 utterances to assistants that CLINC150 has out of scope:
accuracy, NLL and ECE of members and mean, mutual information and entropy of right and wrong answers, their histograms,
and how well either tells the utterances. A killed run goes on.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch

from choices import judged, log_probabilities
from clinc import LENGTH, TOP, finished, rows_of, spread
from dubio.adapters.plan import LabelledTexts
from dubio.adapters.targets import lora_targets
from dubio.data.bundled.packages import minilm_path
from dubio.files import write_json
from dubio.measures import log_complement, log_mean, mutual_information, predictive_entropy
from dubio.metrics import roc_auc
from dubio.posteriors.base_model import load_host
from dubio.posteriors.training.optim import StackPlan
from dubio.posteriors.training.parameters import LoraParameters, fresh_layers, targets_of
from dubio.posteriors.training.trainer import train_stack
from posteriors import tables_of


def seed_of(root, seed, options):
    """Every kept epoch of one ensemble."""
    names, start = ["0", "1"], time.perf_counter()
    host, missing = load_host(str(minilm_path()), names, max_length=LENGTH)
    train, held, inside = tables_of("sst2", options.rows, seed)
    outside = rows_of(root / "clinc150", "oos_test")
    texts = [*inside.texts, *outside.texts]
    both = LabelledTexts(texts, None, np.zeros(len(texts), dtype=np.int64), "")
    targets = targets_of(host, lora_targets(host.model), TOP)
    parameters = LoraParameters(host, targets, 8, 2.0, fresh_layers(host, missing))
    plan = StackPlan(
        seeds=tuple(options.members * seed + m for m in range(options.members)), learning_rate=options.rate,
        weight_decay=0.0, epochs=options.epochs, batch_size=32, keep=tuple(options.keep), constant=True, show=False,
    )  # fmt: skip
    (options.out / str(seed)).mkdir(parents=True, exist_ok=True)
    run, found = train_stack(parameters, train, held, plan, work=options.out / str(seed)), []
    for epoch, values in sorted(run.kept.items()):
        with torch.no_grad():
            table = log_probabilities(host, parameters, values, both)
        count = len(inside.labels)
        domain = judged(table[:, :count], inside.labels, len(names))[0]
        log_p = log_mean(table)
        scores = {"mutual_information": mutual_information(table), "entropy": predictive_entropy(table),
                  "softmax_response": log_complement(log_p, log_p.argmax(axis=1))}  # fmt: skip
        away = np.arange(len(both.texts)) >= count
        found.append({
            "epoch": epoch, "in_domain": domain, "ood_roc_auc": {n: roc_auc(s, away) for n, s in scores.items()},
            "out_of_domain": {n: float(scores[n][count:].mean()) for n in ("mutual_information", "entropy")},
        })  # fmt: skip
        print(seed, epoch, domain["members"], domain["ensemble"], found[-1]["ood_roc_auc"], flush=True)
    return {"seed": seed, "seconds": round(time.perf_counter() - start, 1), "history": run.history, "epochs": found}


def summary(runs):
    """Mean and s.d. over seeds at each epoch."""
    out = []
    for at in zip(*(run["epochs"] for run in runs), strict=True):
        flat = [
            {
                **{f"members {m}": v for m, v in e["in_domain"]["members"].items()},
                **{f"ensemble {m}": v for m, v in e["in_domain"]["ensemble"].items()},
                **{f"{score} {kind}": v for score in ("mutual_information", "entropy")
                   for kind, v in e["in_domain"][score].items()},
                **{f"{score} out of domain": v for score, v in e["out_of_domain"].items()},
                **{f"error ROC-AUC of {score}": v for score, v in e["in_domain"]["error_roc_auc"].items()},
                **{f"OOD ROC-AUC of {score}": v for score, v in e["ood_roc_auc"].items()},
            }
            for e in at
        ]  # fmt: skip
        out.append({"epoch": at[0]["epoch"], **{name: spread([f[name] for f in flat]) for name in flat[0]}})
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--keep", type=int, nargs="+", default=[1, 2, 4, 8, 12])
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    parser.add_argument("--results", type=Path, default=Path("results/stages_minilm"))
    options = parser.parse_args()
    runs = finished(Path(os.environ["DUBIO_DATA"]), options, seed_of)
    settings = {key: value for key, value in vars(options).items() if not isinstance(value, Path)}
    write_json(options.results.with_suffix(".json"), {"settings": settings, "epochs": summary(runs)})
    print(json.dumps({"seeds": len(runs), "epochs": options.keep}))


if __name__ == "__main__":
    main()
