"""The stack engine on a GPU: passes and training of M adapters of a decoder, against a loop. Last line: JSON.

    python benchmarks/stack_gpu.py [--members 5 20] [--rows 1 4 16 64] [--tokens 64] [--repeats 5]

The model has the shape of SmolLM2-135M (30 blocks, width 576) and random weights, on which no time depends; LoRA of
rank 8 on query and value of every block. One pass: the PEFT model with one adapter. Loop: `set_adapter` and a pass for
each of M. Stack: one call of the engine. Medians over turns, the device waited for each time; in float32 and bfloat16
(`gap_*`: the largest difference of logits over the largest logit). Training: M = 5 adapters at once against one after
another, 16 steps of 32 rows, and with blocks that run again in the backward pass. `memory_*`: peak bytes on the device
over those of one.
"""

import argparse
import gc
import json
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, LlamaConfig, PreTrainedTokenizerFast

from dubio.adapters.plan import LabelledTexts
from dubio.models.head_location import find_site
from dubio.posteriors.base_model import load_host
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.from_peft import stack_of
from dubio.posteriors.training.optim import StackPlan
from dubio.posteriors.training.parameters import LoraParameters, targets_of
from dubio.posteriors.training.trainer import train_stack
from stack import loop

SHAPE = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
         "intermediate_size": 1536, "vocab_size": 49152, "pad_token_id": 1, "tie_word_embeddings": True}  # fmt: skip
WORDS = [f"w{i}" for i in range(500)]
TRAINED = 5


def base(folder):
    """The random base with a tokenizer of made-up words."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(LlamaConfig(**SHAPE, num_labels=3))
    model.save_pretrained(folder)
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<s>", "<pad>", "<unk>", *WORDS])}, "<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)


def members(folder, count, dtype):
    """The base with `count` adapters of random numbers, on the device."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, dtype=torch.float32)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS",
                        modules_to_save=["score"])  # fmt: skip
    model = get_peft_model(model, config, adapter_name="0")
    for i in range(1, count):
        model.add_adapter(str(i), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return model.eval().requires_grad_(False).to("cuda", dtype)


def batch_of(rows, tokens):
    ids = torch.randint(3, 500, (rows, tokens), generator=torch.Generator().manual_seed(rows * tokens)).cuda()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def measured(ways, repeats, warm=True):
    """Name -> (median seconds, peak bytes), the ways taken in turns; warm: after one more turn that does not count."""
    spent, peak = {name: [] for name in ways}, {}
    for turn in range(not warm, repeats + 1):
        for name, way in ways.items():
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
            start = time.perf_counter()
            way()
            torch.cuda.synchronize()
            if turn:
                spent[name].append(time.perf_counter() - start)
            peak[name] = torch.cuda.max_memory_allocated()
    return {name: (float(np.median(seconds)), peak[name]) for name, seconds in spent.items()}


def passes(folder, options, dtype):
    """Loop and stack over one pass, for every M and batch size."""
    found, kind = {}, str(dtype).removeprefix("torch.")
    for count in options.members:
        model = members(folder, count, dtype)
        batches = {rows: batch_of(rows, options.tokens) for rows in options.rows}
        looped = {rows: measured({
            "one": partial(loop, model, batches[rows], 1), "loop": partial(loop, model, batches[rows], count),
        }, options.repeats) for rows in options.rows}  # fmt: skip
        expected = loop(model, batch_of(4, options.tokens), count).float()
        stack = stack_of(model, [str(i) for i in range(count)])
        inner = model.unload()
        engine = StackEngine(inner, find_site(inner), stack.to("cuda"))
        for rows, before in looped.items():
            after = measured({"stack": partial(engine.forward, batches[rows], 32768)}, options.repeats)
            (one, least), (whole, _), (own, peak) = before["one"], before["loop"], after["stack"]
            found[f"{kind}_m{count}_b{rows}"] = {
                "one_ms": round(1000 * one, 2), "loop_over_one": round(whole / one, 2),
                "stack_over_one": round(own / one, 2), "loop_over_stack": round(whole / own, 2),
                "memory_over_one": round(peak / least, 2),
            }  # fmt: skip
        gap = (engine.forward(batch_of(4, options.tokens))[1].float() - expected).abs().max() / expected.abs().max()
        found[f"gap_{kind}_m{count}"] = float(f"{float(gap):.2g}")
        del model, stack, inner, engine  # else the next M's single pass is charged for these
        gc.collect()
        torch.cuda.empty_cache()
    return found


def rows_of(count, words, seed):
    g = np.random.default_rng(seed)
    labels = g.integers(0, 3, count)
    texts = [" ".join([WORDS[y], *g.choice(WORDS[3:], words - 1)]) for y in labels]
    return LabelledTexts(texts, None, labels.astype(np.int64), f"made-up-{seed}-{count}")


def training(folder, options):
    """M runs at once against one after another: seconds and peak bytes."""
    host, _ = load_host(str(folder), ["a", "b", "c"], device="cuda", max_length=options.tokens)
    parameters = LoraParameters(host, targets_of(host, ("q_proj", "v_proj")), 8, 2.0)
    train, held = rows_of(16 * 32, options.tokens, 0), rows_of(64, options.tokens, 1)

    def run(*seeds, recompute=False):
        plan = StackPlan(seeds=seeds, learning_rate=1e-3, epochs=1, batch_size=32, show=False, recompute=recompute)
        return train_stack(parameters, train, held, plan).history[0]

    losses = []
    run(9)
    run(*range(10, 10 + TRAINED))
    found = measured({
        "one": partial(run, 0), "separate": lambda: losses.extend(run(m)["train_loss"][0] for m in range(TRAINED)),
        "stacked": lambda: losses.append(run(*range(TRAINED))["train_loss"]),
        "recomputed": partial(run, *range(TRAINED), recompute=True),
    }, 1, warm=False)  # fmt: skip
    gap = np.abs(np.array(losses[-1]) - losses[:TRAINED]).max()
    told = {"train_one_s": round(found["one"][0], 3), "train_loss_gap": float(f"{gap:.2g}")}
    for name in ("stacked", "recomputed"):
        told[f"train_{name}_over_separate"] = round(found[name][0] / found["separate"][0], 3)
        told[f"train_{name}_memory_over_one"] = round(found[name][1] / found["one"][1], 2)
    return told


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--members", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        base(folder)
        found = training(folder, options)
        print(json.dumps(found), flush=True)
        for dtype in (torch.float32, torch.bfloat16):
            found |= passes(folder, options, dtype)
            print(json.dumps(found), flush=True)
    print(
        json.dumps(
            {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "tokens": options.tokens, **found}
        )
    )


if __name__ == "__main__":
    main()
