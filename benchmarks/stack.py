"""The stack engine against a loop over PEFT adapters, M adapters of MiniLM on one base, in one run. Last line: JSON.

    python benchmarks/stack.py [--members 5] [--repeats 15] [--threads N]

One pass: the PEFT model with one adapter. Loop: `set_adapter` and a pass for each of M. Stack: one pass of the engine.
All three in turns, medians of wall time; `loop_over_one_bB_tT` and `stack_over_one_bB_tT` for B rows of T tokens,
adapters on query, key and value of all layers, and with `top_` on the upper half of the layers. `peak_over_one`: peak
memory of a process that runs the stack over that of one that runs a single adapter. The logits of both ways agree.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification

from dubio.data.bundled.packages import minilm_path
from dubio.models.head_location import find_site
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.from_peft import stack_of

SIZES = ((1, 16), (8, 32), (32, 128))


def members(count, layers):
    """MiniLM with `count` adapters of random numbers on the layers of these indices (None: all)."""
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(minilm_path(), num_labels=3)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "key", "value"], layers_to_transform=layers,
                        task_type="SEQ_CLS", modules_to_save=["classifier"])  # fmt: skip
    model = get_peft_model(base, config, adapter_name="0")
    for i in range(1, count):
        model.add_adapter(str(i), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return model.eval().requires_grad_(False)


def batch_of(rows, tokens):
    ids = torch.randint(1000, 20000, (rows, tokens), generator=torch.Generator().manual_seed(rows * tokens))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}


def loop(model: PeftModel, batch, count):
    out = []
    with torch.inference_mode():
        for i in range(count):
            model.set_adapter(str(i))
            out.append(model(**batch).logits)
    return torch.stack(out)


def timed(ways, repeats):
    """Median seconds of each way, taken in turns so that a busy moment hits all of them."""
    spent = {name: [] for name in ways}
    for turn in range(repeats + 2):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn >= 2:  # the first two warm up
                spent[name].append(time.perf_counter() - start)
    return {name: float(np.median(seconds)) for name, seconds in spent.items()}


def engine_of(count, layers):
    """The adapters as a stack on a base of their own."""
    model = members(count, layers)
    stack = stack_of(model, [str(i) for i in range(count)])
    base = model.unload()
    return StackEngine(base, find_site(base), stack)


def compare(count, layers, repeats, prefix):
    model, engine = members(count, layers), engine_of(count, layers)
    found = {}
    for rows, tokens in SIZES:
        batch = batch_of(rows, tokens)
        expected, (_, logits) = loop(model, batch, count), engine.forward(batch)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        ways = {
            "one": lambda batch=batch: loop(model, batch, 1),
            "loop": lambda batch=batch: loop(model, batch, count),
            "stack": lambda batch=batch: engine.forward(batch),
        }
        seconds = timed(ways, repeats)
        at = f"{prefix}b{rows}_t{tokens}"
        found |= {f"{way}_over_one_{at}": round(seconds[way] / seconds["one"], 3) for way in ("loop", "stack")}
        found[f"loop_over_stack_{at}"] = round(seconds["loop"] / seconds["stack"], 3)
        found[f"one_ms_{at}"] = round(1000 * seconds["one"], 2)
    return found


def peak(count, way):
    """Peak resident bytes of a fresh process that runs the largest batch by one way."""
    command = [sys.executable, __file__, "--members", str(count), "--peak", way]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def run_once(count, way):
    batch = batch_of(*SIZES[-1])
    if way == "one":
        loop(members(1, None), batch, 1)
    else:
        engine_of(count, None).forward(batch)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peak", choices=("one", "stack"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.peak:
        return run_once(options.members, options.peak)
    result = compare(options.members, None, options.repeats, "")
    result |= compare(options.members, [3, 4, 5], options.repeats, "top_")
    result["peak_over_one"] = round(peak(options.members, "stack") / peak(options.members, "one"), 3)
    print(json.dumps({"members": options.members, "threads": torch.get_num_threads(), **result}))
    return None


if __name__ == "__main__":
    main()
