"""A stack of trials against the same trials trained one by one with torch's own Adam, scheduler and losses."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from slow_adue import as_rows, one_by_one
from torch import nn

from dubio.scores.learned.adue_stack import Recipe, Trial, one_cycle, train_stack
from dubio.scores.learned.stacked_head import StackedHead
from synthetic import planted

TRIALS = [Trial(*t) for t in product((1e-2, 1e-3), (2, 4), (0.0, 0.3), (0.01, 1.0))]


class Odd(nn.Module):
    """A head of no known layers: the stack has to map over it."""

    def __init__(self, d, classes):
        super().__init__()
        self.mix = nn.Parameter(torch.randn(d, classes, generator=torch.Generator().manual_seed(5)) / d**0.5)

    def forward(self, x):
        return 3 * torch.tanh(x @ self.mix)


def heads():
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0.0), nn.Linear(8, 3))
    return {"linear": planted()[1], "no bias": nn.Linear(12, 3, bias=False), "dense": dense, "custom": Odd(12, 3)}


@pytest.mark.parametrize("name", ["linear", "no bias", "dense", "custom"])
def test_stack_equals_one_by_one(name):
    table, _ = planted(400)
    head, rows, recipe = heads()[name], as_rows(table), Recipe(batch_size=64)
    watch = torch.from_numpy(planted(100, seed=1)[0].features)
    seen, _stack = train_stack(head, rows, TRIALS, recipe, watch)
    assert set(seen) == {(i, e + 1) for i, t in enumerate(TRIALS) for e in range(t.epochs)}
    for index, trial in enumerate(TRIALS):
        for epoch, expected in one_by_one(head, rows, trial, recipe, watch).items():
            np.testing.assert_allclose(seen[index, epoch], expected, atol=2e-5)
    moved = np.abs(seen[0, 2] - seen[0, 1]).max()
    assert moved > 1e-3  # training did something, so the comparison means something


def test_resampled_stack_equals_one_by_one():
    table, head = planted(400)
    rows, watch = as_rows(table, resample=True), torch.from_numpy(table.features[:50])
    seen, _ = train_stack(head, rows, TRIALS[:2], Recipe(), watch)
    expected = one_by_one(head, rows, TRIALS[1], Recipe(), watch)
    np.testing.assert_allclose(seen[1, 2], expected[2], atol=2e-5)


def test_single_copy_returns_the_heads_own_shapes():
    for head in heads().values():
        own = dict(head.state_dict())
        for name, value in StackedHead(head, 1).single().items():
            torch.testing.assert_close(value, own[name])


def test_stopping_early_is_the_same_run_cut_short():
    table, head = planted(300)
    watch = torch.from_numpy(table.features[:40])
    full, _ = train_stack(head, as_rows(table), [TRIALS[4]], Recipe(), watch)
    _, stack = train_stack(head, as_rows(table), [TRIALS[4]], Recipe(), stop=1)
    copied = copy.deepcopy(head)
    copied.load_state_dict(stack.single())
    with torch.no_grad():
        u = 1 - torch.logsumexp(100 * torch.softmax(copied(watch), dim=1), dim=1) / 100
    np.testing.assert_allclose(full[0, 1], u, atol=1e-5)


@pytest.mark.parametrize("total", [8, 11, 37, 470])
def test_schedule_equals_one_cycle(total):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=total, pct_start=0.1)
    for step in range(total):
        ours = one_cycle(*(torch.tensor([v], dtype=torch.float64) for v in (step, total, 1e-3)))
        assert float(ours) == pytest.approx(schedule.get_last_lr()[0], rel=1e-4, abs=1e-12)
        optimizer.step()
        schedule.step() if step < total - 1 else None


def test_dropout_is_active_in_training_and_off_when_watching():
    head = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Dropout(0.5), nn.Linear(64, 3))
    stack, x = StackedHead(head, 2), torch.randn(5, 12)
    quiet = stack.logits(x)
    torch.testing.assert_close(quiet[:, :, 0], head.eval()(x))
    noisy = stack.logits(x, torch.Generator().manual_seed(0))
    assert float((noisy[..., 0] - noisy[..., 1]).detach().abs().max()) > 1e-3
