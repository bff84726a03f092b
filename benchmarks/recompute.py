"""Training M members at once, with all activations kept and with blocks run again: seconds, memory. Last line: JSON.

    python benchmarks/recompute.py [--model smollm2] [--members 5] [--steps 8] [--rows 32] [--words 60]

LoRA of rank 8 on query, key and value of every block of MiniLM or SmolLM2. Each way runs in a process of its own, in
turns; its memory is the peak of that process above a run of one step of one row, which holds the libraries and the
model. `with_model`: the same with the bytes of the base's weights on both sides.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch

from dubio.adapters.plan import LabelledTexts
from dubio.adapters.targets import lora_targets
from dubio.data.bundled.packages import minilm_path, smollm2_gguf_path
from dubio.posteriors.base_model import load_host
from dubio.posteriors.training.optim import StackPlan
from dubio.posteriors.training.parameters import LoraParameters, targets_of
from dubio.posteriors.training.trainer import train_stack

BASES = {"minilm": minilm_path, "smollm2": smollm2_gguf_path}
WAYS = {"empty": (1, False), "one": (1, False), "stacked": (None, False), "recomputed": (None, True)}


def rows_of(count, words):
    g = np.random.default_rng(count)
    texts = [" ".join(g.choice(["good", "bad", "film", "plot", "and", "the"], words)) for _ in range(count)]
    return LabelledTexts(texts, None, g.integers(0, 2, count), f"made-up-{count}-{words}")


def run_once(way, options):
    """Prints seconds of the epoch and the peak of this process."""
    torch.set_num_threads(1)
    members, again = WAYS[way]
    size = 1 if way == "empty" else options.rows
    host, _ = load_host(str(BASES[options.model]()), ["a", "b"], max_length=options.words + 2)
    parameters = LoraParameters(host, targets_of(host, lora_targets(host.model)), 8, 2.0)
    train = rows_of(size * (1 if way == "empty" else options.steps), options.words)
    plan = StackPlan(
        seeds=tuple(range(members or options.members)), epochs=1, batch_size=size, dropout=0.05, recompute=again,
        show=False,
    )  # fmt: skip
    start = time.perf_counter()
    train_stack(parameters, train, rows_of(2, 4), plan)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model = sum(weight.numel() * weight.element_size() for weight in host.model.parameters())
    print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak, "model": model}))


def main():
    parser = argparse.ArgumentParser()
    for name, value in (("members", 5), ("steps", 8), ("rows", 32), ("words", 60), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--model", choices=list(BASES), default="minilm")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run_once(options.way, options)
        return
    seen = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way, found in seen.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    middle = {way: {key: float(np.median([f[key] for f in found])) for key in found[0]} for way, found in seen.items()}
    least, model = middle["empty"]["peak"], middle["empty"]["model"]
    one = middle["one"]["peak"] - least
    told = {"model": options.model, "members": options.members, "one_s": round(middle["one"]["seconds"], 2)}
    for way in ("stacked", "recomputed"):
        told[f"{way}_seconds_over_one"] = round(middle[way]["seconds"] / middle["one"]["seconds"], 2)
        own = middle[way]["peak"] - least
        told[f"{way}_memory_over_one"] = round(own / one, 2)
        told[f"{way}_with_model_over_one"] = round((own + model) / (one + model), 2)
    told["one_mib"], told["model_mib"] = round(one / 2**20), round(model / 2**20)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
