"""Extraction against a transformers pipeline (batch 32) on the same adapter and rows, in one run. Last line: JSON.

    DUBIO_DATA=... python benchmarks/extract.py [--rows 384] [--repeats 3] [--out runs/bench]

For 20 Newsgroups and SST-5: a LoRA of MiniLM is trained once (and kept under --out), then test rows go through the
pipeline in float32 and through `dubio.extract` in float32 and bfloat16, in turns. `ratio_float32` and `ratio_bfloat16`
are rows/s over the pipeline's on 20 Newsgroups, medians over repeats; `labels_differ` counts rows whose label is not
the pipeline's; `auc_*` is the error ROC-AUC of softmax response. bfloat16 is only fast where the processor has
bfloat16 products, which the line tells; elsewhere it is timed once.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from peft import PeftModel
from pyarrow import parquet

from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.adapters.trainer import train_adapter
from dubio.data.bundled.packages import minilm_path
from dubio.log_space import log_error
from dubio.metrics import roc_auc
from dubio.models.bases.base import has_bfloat16
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load

SETS = {"newsgroups20": (20, 512), "sst5": (5, 128)}  # classes, tokens a row at most


def rows_of(root, name, split, count, seed):
    table = parquet.read_table(Path(root) / name / f"{split}.parquet").to_pydict()
    full = [i for i, text in enumerate(table["text"]) if text.strip()]
    chosen = np.random.default_rng(seed).permutation(full)[:count]
    return [table["text"][i] for i in chosen], np.array([table["label"][i] for i in chosen], dtype=np.int64)


def adapter_of(root, name, out):
    """A LoRA trained for a few minutes: accurate enough that its labels and errors mean something."""
    folder = out / name
    if not (folder / "adapter_config.json").exists():
        texts, labels = rows_of(root, name, "train", 2200, 0)
        train, held = slice(0, 2000), slice(2000, None)
        parts = [LabelledTexts(texts[s], None, labels[s], f"{name}-{s.start}") for s in (train, held)]
        names = [f"class {i}" for i in range(SETS[name][0])]
        plan = TrainingPlan(learning_rate=2e-3, epochs=2, max_length=64, dropout=0.0, base_dropout=False)
        train_adapter(str(minilm_path()), names, *parts, folder, plan)
    return folder


def as_users_do(folder, labels):
    """The PEFT model as its documentation loads it: base, then adapter on top, not merged."""
    names = dict(enumerate(labels))
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        minilm_path(), num_labels=len(names), id2label=names, label2id={v: k for k, v in names.items()}
    )
    return PeftModel.from_pretrained(base, folder).eval()


def timed(run, texts):
    start = time.perf_counter()
    found = run()
    return len(texts) / (time.perf_counter() - start), found


def compare(root, name, out, options):
    folder, length = adapter_of(root, name, out), SETS[name][1]
    texts, labels = rows_of(root, name, "test", options.rows, 1)
    models = {p: load(folder, precision=p, max_length=length) for p in ("float32", "bfloat16")}
    labels_of = models["float32"].labels
    classify = transformers.pipeline(
        "text-classification",
        model=as_users_do(folder, labels_of),
        tokenizer=models["float32"].tokenizer,
        batch_size=32,
    )
    id_of = {label: i for i, label in enumerate(labels_of)}
    runs = {
        "pipeline": lambda: classify(texts, truncation=True, max_length=length),
        **{p: lambda m=m: extract(m, texts, how=Extraction(show=False)) for p, m in models.items()},
    }
    rates, found = {key: [] for key in runs}, {}
    for repeat in range(options.repeats):
        for key, run in runs.items():
            if repeat and key == "bfloat16" and not has_bfloat16("cpu"):
                continue  # emulated: once is enough to know
            rate, found[key] = timed(run, texts)
            rates[key].append(rate)
    wanted = np.array([id_of[row["label"]] for row in found["pipeline"]])
    result = {"rows_per_second_pipeline": round(float(np.median(rates["pipeline"])), 1)}
    for p in models:
        table = found[p]
        ratios = np.array(rates[p]) / np.array(rates["pipeline"][: len(rates[p])])
        result |= {
            f"ratio_{p}": round(float(np.median(ratios)), 2),
            f"ratios_{p}": [round(float(r), 2) for r in ratios],
            f"labels_differ_{p}": int((table.predictions != wanted).sum()),
            f"auc_{p}": round(100 * roc_auc(log_error(table.logits), table.predictions != labels), 2),
        }
    return {"rows": len(texts), **result}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    root = os.environ.get("DUBIO_DATA", "")
    if not Path(root, "newsgroups20").is_dir():
        raise SystemExit("set DUBIO_DATA to the folder that holds newsgroups20/ and sst5/")
    transformers.logging.set_verbosity_error()
    found = {name: compare(root, name, options.out, options) for name in SETS}
    for name, figures in found.items():
        print(name, figures)
    news = found["newsgroups20"]
    print(json.dumps({
        "ratio_float32": news["ratio_float32"], "ratio_bfloat16": news["ratio_bfloat16"],
        "bfloat16_products": has_bfloat16("cpu"), "threads": torch.get_num_threads(), **found,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
