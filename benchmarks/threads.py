"""Threads that share one model, each a text a call, as in a web server. Last line: JSON with `ratio`, alone / together.

    OMP_NUM_THREADS=1 python benchmarks/threads.py [--threads 8] [--calls 100]

A BERT of MiniLM's size with random weights. `one`: calls a second of a single thread. `together`: of all threads, as a
plain model runs them. `alone`: the same where each pass waits for the others, as models do that keep state (learned
prompts, rotary positions that grow, families that are not known). `turn_us`: microseconds that taking a turn and
catching what enters the head add to a call.
"""

import argparse
import json
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from dubio.data.bundled.packages import minilm_path
from dubio.models.adapted import AdaptedModel
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.models.threads import catching, together

TEXT = "the delivery was two days late and nobody answered the phone"


def built(folder: Path) -> AdaptedModel:
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=3
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm_path()).save_pretrained(folder)
    return load(folder)


def calls_a_second(model, threads, calls):
    def ask():
        for _ in range(calls):
            extract(model, [TEXT], how=Extraction(show=False))

    started = [threading.Thread(target=ask) for _ in range(threads)]
    start = time.perf_counter()
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return threads * calls / (time.perf_counter() - start)


def turn_us(model, repeats=20_000):
    start = time.perf_counter()
    for _ in range(repeats):
        with together(model.site.module), catching(model.site.module):
            pass
    return 1e6 * (time.perf_counter() - start) / repeats


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = built(Path(folder))
    waiting = replace(model)
    waiting.__dict__["_keeps_state"] = True  # in place of what is looked up once
    calls_a_second(model, 1, 20)
    rates = {
        "one": calls_a_second(model, 1, options.calls),
        "together": calls_a_second(model, options.threads, options.calls),
        "alone": calls_a_second(waiting, options.threads, options.calls),
    }
    print(json.dumps({
        "ratio": round(rates["alone"] / rates["together"], 3), **{name: round(rate, 1) for name, rate in rates.items()},
        "turn_us": round(turn_us(model), 2), "threads": options.threads, "of_torch": torch.get_num_threads(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
