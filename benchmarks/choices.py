"""An ensemble of adapters of SmolLM2 on ARC-Easy, in and out of domain (MMLU STEM), epoch by epoch. Last line: JSON.

    DUBIO_DATA=... python benchmarks/choices.py [--rows 400] [--members 5] [--epochs 6] [--out FOLDER]

The experiment of arXiv 2402.12264 at the size of a small CPU: adapters of rank 8 on query, key and value of the last
--top blocks (so that what lies below runs once for the whole training), trained at once, the LM head's letters frozen.
At each kept epoch: accuracy, NLL and ECE of the members and of their mean, mutual information and entropy of right and
wrong answers, and how well either tells MMLU from ARC. A killed run goes on from its last epoch.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from pyarrow import compute, parquet

from cases import questions
from dubio.adapters.plan import LabelledTexts
from dubio.adapters.targets import lora_targets
from dubio.data.bundled.packages import smollm2_gguf_path
from dubio.files import write_json
from dubio.measures import log_complement, log_mean, mutual_information, predictive_entropy
from dubio.metrics import Bootstrap, evaluate_system, roc_auc
from dubio.models.tokens.answer_letters import Choices
from dubio.models.tokens.batching import batches, pad, tokenize
from dubio.posteriors.base_model import load_host
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.training.parameters import LoraParameters, targets_of
from dubio.posteriors.training.trainer import StackPlan, train_stack

LETTERS, LENGTH, BINS = "ABCD", 160, 12


def that_fit(host, path, rows, seed, chosen=None):
    """So many questions with four choices that fit LENGTH tokens, shuffled by the seed: texts and labels."""
    table = parquet.read_table(path)
    four = table.filter(compute.equal(compute.list_value_length(table["choices"]), 4))
    four = four if chosen is None else four.filter(chosen(four))
    kept = four.take(np.random.default_rng(seed).permutation(len(four))[: 2 * rows])
    read = questions(kept, host.choices, "all")
    lengths = [len(ids) for ids in host.tokenizer(read.texts)["input_ids"]]
    at = np.flatnonzero(np.array(lengths) <= LENGTH)[:rows]
    return LabelledTexts([read.texts[int(i)] for i in at], None, read.labels[at], f"{path}-{seed}-{len(at)}")


def log_probabilities(host, parameters, values, rows):
    """`[M, N, C]` of the members."""
    with torch.no_grad():
        stack = parameters.stack(values)
    engine = StackEngine(host.model, host.site, stack, host.inputs)
    tokens = tokenize(host, rows.texts, rows.pairs)
    out = np.empty((len(stack), len(rows.texts), len(host.labels)))
    for at in batches(np.array([len(ids) for ids in tokens["input_ids"]]), 2048):
        batch = pad({key: [ids[i] for i in at] for key, ids in tokens.items()}, host)
        out[:, at] = torch.log_softmax(engine.predict(batch).double(), dim=2).numpy()
    return out


def system(log_p, labels):
    own = log_complement(log_p, log_p.argmax(axis=1))
    found = evaluate_system("test", "", np.exp(log_p), labels, own, bootstrap=Bootstrap(draws=1))
    wanted = ("accuracy", "nll", "ece_equal_width_15", "aurc", "error_roc_auc")
    return {m.metric[7:]: round(m.value, 4) for m in found if m.metric[7:] in wanted}


def judged(table, labels, classes=4):
    """Members, their mean, and what mutual information and entropy say of right and wrong answers."""
    members = [system(own, labels) for own in table]
    mean, mi = log_mean(table), mutual_information(table)
    entropy, wrong = predictive_entropy(table), mean.argmax(axis=1) != labels
    edges = [np.linspace(0, np.log(classes), BINS + 1), np.linspace(0, max(float(mi.max()), 1e-6), BINS + 1)]
    pictures = {name: np.histogram2d(entropy[at], mi[at], edges)[0].astype(int).tolist()
                for name, at in (("right", ~wrong), ("wrong", wrong))}  # fmt: skip
    return {
        "members": {key: round(float(np.mean([m[key] for m in members])), 4) for key in members[0]},
        "ensemble": system(mean, labels),
        "mutual_information": {"right": float(mi[~wrong].mean()), "wrong": float(mi[wrong].mean())},
        "entropy": {"right": float(entropy[~wrong].mean()), "wrong": float(entropy[wrong].mean())},
        "error_roc_auc": {"mutual_information": roc_auc(mi, wrong), "entropy": roc_auc(entropy, wrong)},
        "histogram": {"entropy_edges": edges[0].tolist(), "mi_edges": edges[1].tolist(), **pictures},
    }, mi, entropy  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--held", type=int, default=100)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--keep", type=int, nargs="+", default=[1, 3, 6])
    parser.add_argument("--top", type=int, default=6)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=Path("runs/choices"))
    parser.add_argument("--results", type=Path, default=Path("results/choices_smollm2.json"))
    options = parser.parse_args()
    root, start = Path(os.environ["DUBIO_DATA"]), time.perf_counter()
    choices = Choices.of({"letters": list(LETTERS)})
    host, _ = load_host(str(smollm2_gguf_path()), choices.labels, max_length=LENGTH, choices=choices)
    train = that_fit(host, root / "arc_easy" / "train.parquet", options.rows, 0)
    held = that_fit(host, root / "arc_easy" / "validation.parquet", options.held, 1)
    inside = that_fit(host, root / "arc_easy" / "test.parquet", options.test, 2)
    stem = that_fit(
        host, root / "mmlu" / "test.parquet", options.test, 3, lambda t: compute.equal(t["category"], "stem")
    )
    targets = targets_of(host, lora_targets(host.model), options.top)
    parameters = LoraParameters(host, targets, 8, 2.0, frozen_head=True)
    plan = StackPlan(
        seeds=tuple(range(options.members)), learning_rate=options.rate, weight_decay=0.0, epochs=options.epochs,
        batch_size=16, keep=tuple(options.keep),
    )  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    run = train_stack(parameters, train, held, plan, work=options.out)
    trained, epochs = time.perf_counter() - start, []
    zero = {name: value[:1] for name, value in parameters.start(plan.seeds).items()}
    for epoch, values in [(0, zero), *sorted(run.kept.items())]:
        found, (mi, entropy) = {}, ([], [])
        for name, rows in (("arc_easy", inside), ("mmlu_stem", stem)):
            found[name], one, other = judged(log_probabilities(host, parameters, values, rows), rows.labels)
            mi.append(one)
            entropy.append(other)
        away = np.repeat([False, True], [len(mi[0]), len(mi[1])])
        found["ood_roc_auc"] = {"mutual_information": roc_auc(np.concatenate(mi), away),
                                "entropy": roc_auc(np.concatenate(entropy), away)}  # fmt: skip
        epochs.append({"epoch": epoch, **found})
        print({"epoch": epoch, "in": found["arc_easy"]["ensemble"], "ood": found["ood_roc_auc"]}, flush=True)
    settings = {key: value for key, value in vars(options).items() if not isinstance(value, Path)}
    write_json(options.results, {
        "model": "SmolLM2-135M-Instruct (Q4_1)", "settings": settings, "history": run.history,
        "rows": {"train": len(train.texts), "arc_easy": len(inside.texts), "mmlu_stem": len(stem.texts)},
        "train_seconds": round(trained, 1), "epochs": epochs,
    })  # fmt: skip
    print(json.dumps({"train_seconds": round(trained, 1), "epochs": [e["epoch"] for e in epochs]}))


if __name__ == "__main__":
    main()
