"""Does the decoder learn to answer by letters? One LoRA adapter, epoch by epoch, on held-out rows. Last line: JSON.

    DUBIO_DATA=... python benchmarks/letters.py SET [--rows N] [--blocks N] [--epochs N] [--rate R] [--device cuda]

SET is one of the questions of `cases`; --blocks: adapt the last so many alone.
"""

import argparse
import json
import warnings
from dataclasses import replace

from cases import SMOLLM2
from dubio.adapters.targets import lora_targets
from dubio.posteriors.base_model import load_host
from dubio.posteriors.training.optim import StackPlan
from dubio.posteriors.training.parameters import LoraParameters, targets_of
from dubio.posteriors.training.trainer import train_stack


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("set", choices=list(SMOLLM2))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--blocks", type=int)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    case = replace(SMOLLM2[options.set], rows=options.rows or SMOLLM2[options.set].rows)
    host, _ = load_host(case.base, case.labels, device=options.device, max_length=case.length, choices=case.choices)
    train, held, _ = case.tables(options.set, 0)
    parameters = LoraParameters(
        host, targets_of(host, lora_targets(host.model), options.blocks), 8, 2.0, frozen_head=True
    )
    plan = StackPlan(learning_rate=options.rate, epochs=options.epochs, batch_size=32, dropout=0.1)
    history = train_stack(parameters, train, held, plan).history
    told = {key: [round(epoch[key][0], 3) for epoch in history] for key in ("accuracy", "nll")}
    print(json.dumps({"set": options.set, "rows": len(train.texts), "blocks": options.blocks, **told}))


if __name__ == "__main__":
    main()
