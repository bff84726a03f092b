"""AdUE's 144 trials as one stack against the same trials one by one, in one run. Last line: JSON with `ratio`.

    python benchmarks/adue_grid.py [--rows 2000] [--repeats 3]

One by one means what everybody does: torch.optim.Adam, OneCycleLR, autograd, one head at a time. Both watch the same
rows after every epoch; the best ROC-AUC over the grid must agree.
"""

import argparse
import copy
import json
import math
import time

import numpy as np
import torch
from torch import nn

from dubio.scores.learned.adue import AdUEConfig
from dubio.scores.learned.adue_stack import FitRows, Recipe, train_stack
from dubio.scores.learned.model_selection import error_auc


def make(rows, d, classes, seed):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, d, generator=g)
    weight = torch.randn(classes, d, generator=torch.Generator().manual_seed(9)) * 0.15
    logits = z @ weight.T
    noise = -torch.log(-torch.log(torch.rand(rows, classes, generator=g)))
    off = logits + z @ (torch.randn(classes, d, generator=torch.Generator().manual_seed(10)) * 0.05).T
    return z, logits, (off + noise).argmax(1) != logits.argmax(1), weight


def one_by_one(head, rows, trials, recipe, watch):
    seen = {}
    for index, trial in enumerate(trials):
        model = copy.deepcopy(head)
        start = [p.detach().clone() for p in model.parameters()]
        batches = math.ceil(len(rows.features) / recipe.batch_size)
        optimizer = torch.optim.Adam(model.parameters(), lr=trial.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, trial.learning_rate, total_steps=trial.epochs * batches, pct_start=0.1, cycle_momentum=False
        )
        generator = torch.Generator().manual_seed(recipe.seed)
        base = 1 - torch.softmax(rows.logits, dim=1).amax(dim=1)
        errors = rows.errors.float()
        for epoch in range(trial.epochs):
            order = torch.randperm(len(rows.features), generator=generator)
            for i in order.split(recipe.batch_size):
                u = 1 - torch.logsumexp(100 * torch.softmax(model(rows.features[i]), dim=1), dim=1) / 100
                distance = sum(((p - q) ** 2).sum() for p, q in zip(model.parameters(), start, strict=True))
                loss = nn.functional.binary_cross_entropy(u.clamp(1e-7, 1 - 1e-7), errors[i])
                loss = loss + trial.alpha * ((u - base[i]) ** 2).mean() + trial.beta * distance
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                u = 1 - torch.logsumexp(100 * torch.softmax(model(watch), dim=1), dim=1) / 100
            seen[index, epoch + 1] = u.numpy()
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    z, logits, errors, weight = make(options.rows, 384, 3, 0)
    watch, _, watched, _ = make(1000, 384, 3, 1)
    head = nn.Linear(384, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(weight)
    rows = FitRows(z, logits, errors, torch.ones(len(z)))
    trials, recipe = AdUEConfig().trials(), Recipe()
    stacked = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        together, _ = train_stack(head, rows, trials, recipe, watch)
        stacked.append(time.perf_counter() - start)
    start = time.perf_counter()
    alone = one_by_one(head, rows, trials, recipe, watch)
    serial = time.perf_counter() - start
    keys = sorted(together)
    best = [float(error_auc(np.stack([seen[k] for k in keys]), watched.numpy()).max()) for seen in (together, alone)]
    gap = max(float(np.abs(together[k] - alone[k]).max()) for k in keys)
    print(f"{len(trials)} trials, {options.rows} rows x 384, 3 classes, {torch.get_num_threads()} threads")
    print(f"one by one {serial:.1f} s; stacked {min(stacked):.2f} to {max(stacked):.2f} s; largest gap in U {gap:.1e}")
    median = sorted(stacked)[len(stacked) // 2]
    found = {"ratio": round(serial / median, 1), "auc_stack": round(best[0], 5), "auc_one_by_one": round(best[1], 5)}
    print(json.dumps({**found, "seconds_stack": round(median, 2), "seconds_one_by_one": round(serial, 1)}))


if __name__ == "__main__":
    main()
