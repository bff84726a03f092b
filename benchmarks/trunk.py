"""Training and searching with what lies below the adapted blocks read once, and read again each time. Last line: JSON.

    python benchmarks/trunk.py [--rows 160] [--held 64] [--words 40] [--epochs 3] [--repeats 3]

SmolLM2-135M, LoRA of rank 8 on its last six of thirty blocks, answers of two classes. `swag`: a SWAG-LoRA run (as many
epochs again at a constant rate), `ensemble`: five members, `tfb`: TFB's search on the held-out rows: seconds with the
rows' trunk read once, over seconds without. `tail`: the ensemble's with a last block that looks at one token of each
row, over those where it looks at all. Seconds of this process's CPU, all ways in turns, medians.
"""

import argparse
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from dubio.adapters.training import LabelledTexts, TrainingPlan
from dubio.demo.models import smollm2_gguf_path
from dubio.models.loading import load
from dubio.posteriors.onto import make_tfb, read_adapter
from dubio.posteriors.trained import PosteriorPlan, train_posterior
from dubio.posteriors.trunk import Trunks, sharing_trunks

WORDS = ["good", "bad", "film", "plot", "and", "the"]


def rows_of(count, words, seed):
    g = np.random.default_rng(seed)
    texts = [" ".join(g.choice(WORDS, g.integers(words // 2, words))) for _ in range(count)]
    return LabelledTexts(texts, None, g.integers(0, 2, count), f"made-up-{count}-{words}-{seed}")


def main():
    parser = argparse.ArgumentParser()
    for name, value in (("rows", 160), ("held", 64), ("words", 40), ("epochs", 3), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(options.rows, options.words, 0), rows_of(options.held, options.words, 1)
    base, names = str(smollm2_gguf_path()), ["a", "b"]
    plan = TrainingPlan(
        epochs=options.epochs, batch_size=16, max_length=64, top_layers=6, base_dropout=False, show=False
    )  # fmt: skip
    extra = {"swag": PosteriorPlan(swag_epochs=options.epochs), "ensemble": PosteriorPlan(members=5)}
    kinds = {"swag": "swag_lora", "ensemble": "ensemble"}

    with tempfile.TemporaryDirectory() as root:
        made = iter(Path(root) / str(i) for i in range(10**6))

        def trained(name):
            folder = next(made)
            train_posterior(kinds[name], base, names, rows, folder, plan, extra[name])
            return folder

        model = load(folder := trained("swag"))
        source = read_adapter(model, folder)
        jobs = {name: lambda name=name: trained(name) for name in kinds}
        jobs["tfb"] = lambda: make_tfb(source, rows[1], samples=10)
        jobs["tail"] = jobs["ensemble"]
        seen = {(name, way): [] for name in jobs for way in ("new", "old")}
        for _ in range(options.repeats):
            for (name, way), spent in seen.items():
                old, changed = way == "old", "tail_of" if name == "tail" else "Trunks"
                trunks = Trunks(0 if old and changed == "Trunks" else 2 << 30)
                with ExitStack() as leaving:
                    if old and changed == "tail_of":
                        leaving.enter_context(patch("dubio.posteriors.engine.tail_of", lambda _: None))
                    leaving.enter_context(patch("dubio.posteriors.onto.Trunks", lambda trunks=trunks: trunks))
                    leaving.enter_context(sharing_trunks(trunks))
                    start = time.process_time()
                    jobs[name]()
                spent.append(time.process_time() - start)
    middle = {key: float(np.median(spent)) for key, spent in seen.items()}
    told = {name: round(middle[name, "new"] / middle[name, "old"], 3) for name in jobs}
    told |= {f"{name}_s": round(middle[name, "new"], 1) for name in jobs}
    print(json.dumps({**vars(options), **told}))


if __name__ == "__main__":
    main()
