"""The slow reference of AdUE: one trial at a time, by autograd on the textbook loss, torch's Adam and OneCycleLR."""

import copy
import math

import torch
from torch import nn

from dubio.scores.learned.adue_stack import FitRows


def as_rows(table, resample=False, weights=None):
    """Fitting rows; resampled ones draw an error six times as often as a right row unless weights are given."""
    errors = torch.from_numpy(table.errors)
    if weights is None:
        weights = torch.where(errors, 3.0, 0.5) if resample else torch.ones(len(table))
    return FitRows(torch.from_numpy(table.features), torch.from_numpy(table.logits), errors, weights, resample)


def balanced(table, how):
    """Fitting rows, right and wrong ones of the same total weight, by `weights` or by `resample`; or as they are."""
    wrong = table.errors.mean()
    weights = [0.5 / wrong if e else 0.5 / (1 - wrong) for e in table.errors]
    return as_rows(table, how == "resample", torch.tensor(weights)) if how != "none" else as_rows(table)


def one_by_one(head, rows, trial, recipe, watch):
    """{epochs done: U of the rows `watch`}."""
    model = copy.deepcopy(head).train()
    start = [p.detach().clone() for p in model.parameters()]
    batches = math.ceil(len(rows.features) / recipe.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, trial.learning_rate, total_steps=trial.epochs * batches, pct_start=0.1, cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    ceiling = 1 - 1 / rows.logits.shape[1] if recipe.scaled else 1.0
    base = (1 - torch.softmax(rows.logits, dim=1).amax(dim=1)) / ceiling
    seen = {}
    for epoch in range(trial.epochs):
        if rows.resample:
            order = torch.multinomial(rows.weights.double(), len(rows.features), replacement=True, generator=generator)
        else:
            order = torch.randperm(len(rows.features), generator=generator)
        for batch in range(batches):
            i = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
            u = (1 - torch.logsumexp(100 * torch.softmax(model(rows.features[i]), dim=1), dim=1) / 100) / ceiling
            distance = sum(((p - q) ** 2).sum() for p, q in zip(model.parameters(), start, strict=True))
            weight = None if rows.resample else rows.weights[i]
            loss = nn.functional.binary_cross_entropy(u.clamp(1e-7, 1 - 1e-7), rows.errors[i].float(), weight)
            loss = loss + trial.alpha * ((u - base[i]) ** 2).mean() + trial.beta * distance
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            model.eval()
            seen[epoch + 1] = (1 - torch.logsumexp(100 * torch.softmax(model(watch), dim=1), dim=1) / 100) / ceiling
            model.train()
    return seen
