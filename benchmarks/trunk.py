"""Training and searching where what lies below the adapted blocks is read once, over before. Last line: JSON.

    python benchmarks/trunk.py [--rows 96] [--held 48] [--words 40] [--epochs 3] [--repeats 1]

SmolLM2-135M, LoRA of rank 8 on its last six of thirty blocks, answers of two classes. `swag`: a SWAG-LoRA run (as many
epochs again at a constant rate), `ensemble`: five members, `tfb`: TFB's search on the held-out rows. Before: each phase
of a run read what lies below the adapted blocks for its training rows, and every validation and every step of a search
ran the whole model. `tail`: the ensemble with a last block that looks at one token of each row, over one where it looks
at all. Ratios of seconds of this process's CPU, loading apart, ways in turns, medians.
"""

import argparse
import json
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.data.bundled.packages import smollm2_gguf_path
from dubio.models.loading import load
from dubio.posteriors.engine.prefix_cache import Trunks
from dubio.posteriors.from_adapter import make_tfb, read_adapter
from dubio.posteriors.trained import PosteriorPlan, train_posterior
from dubio.posteriors.training.trainer import train_stack

WORDS = ["good", "bad", "film", "plot", "and", "the"]


def rows_of(count, words, seed):
    g = np.random.default_rng(seed)
    texts = [" ".join(g.choice(WORDS, g.integers(words // 2, words))) for _ in range(count)]
    return LabelledTexts(texts, None, g.integers(0, 2, count), f"made-up-{count}-{words}-{seed}")


class Before(Trunks):
    """Keeps the training rows alone, of one phase."""

    def __init__(self, rows):
        super().__init__()
        self.count = len(rows[0].texts)

    def read(self, engine, host, tokens):
        """None for all other rows."""
        return super().read(engine, host, tokens) if len(tokens["input_ids"]) == self.count else None


def timed(work):
    """The same, which adds up its seconds."""

    def run(*args, **kwargs):
        start = time.process_time()
        try:
            return work(*args, **kwargs)
        finally:
            run.seconds += time.process_time() - start

    run.seconds = 0.0
    return run


def main():
    parser = argparse.ArgumentParser()
    for name, value in (("rows", 96), ("held", 48), ("words", 40), ("epochs", 3), ("repeats", 1)):
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

    with (
        tempfile.TemporaryDirectory() as root,
        patch("dubio.posteriors.trained.train_stack", timed(train_stack)) as run,
    ):
        made = iter(Path(root) / str(i) for i in range(10**6))

        def trained(name):
            folder = next(made)
            train_posterior(kinds[name], base, names, rows, folder, plan, extra[name])
            return folder

        source = read_adapter(load(folder := trained("swag")), folder)
        search = timed(make_tfb)
        jobs = {name: (lambda name=name: trained(name), run) for name in kinds}
        jobs |= {"tfb": (lambda: search(source, rows[1], samples=10), search), "tail": jobs["ensemble"]}
        seen = {(name, way): [] for name in jobs for way in ("new", "old")}
        for _ in range(options.repeats):
            for (name, way), spent in seen.items():
                job, clock = jobs[name]
                before = clock.seconds
                with ExitStack() as leaving:
                    if way == "old" and name == "tail":
                        leaving.enter_context(patch("dubio.posteriors.engine.engine.tail_of", lambda _: None))
                    elif way == "old":
                        leaving.enter_context(patch("dubio.posteriors.from_adapter.Trunks", lambda: Trunks(0)))
                        apart = patch(
                            "dubio.posteriors.training.trainer.sharing_trunks", lambda: nullcontext(Before(rows))
                        )
                        leaving.enter_context(apart)
                    job()
                spent.append(clock.seconds - before)
                print(name, way, round(spent[-1], 1), flush=True)
    middle = {key: float(np.median(spent)) for key, spent in seen.items()}
    told = {name: round(middle[name, "new"] / middle[name, "old"], 3) for name in jobs}
    told |= {f"{name}_s": round(middle[name, "new"], 1) for name in jobs}
    print(json.dumps({**vars(options), **told}))


if __name__ == "__main__":
    main()
