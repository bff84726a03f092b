"""Stacked runs on tiny models: settings, rows that can be learnt, parameters, and the losses of a run."""

import json

import numpy as np
import torch

from dubio.adapters.plan import LabelledTexts
from dubio.adapters.targets import lora_targets
from dubio.posteriors.base_model import load_host
from dubio.posteriors.training.parameters import LoraParameters, fresh_layers, targets_of
from dubio.posteriors.training.trainer import StackPlan, _Run
from models.tiny import CLASSES, WORDS, base_folder

PLAN = StackPlan(seeds=(3, 4, 5), learning_rate=5e-3, weight_decay=0.05, epochs=5, batch_size=8, show=False)


def rows(count=80, seed=0):
    """Texts of random words; the class is which of three words comes first."""
    g = np.random.default_rng(seed)
    labels = g.integers(0, CLASSES, count)
    texts = [" ".join([WORDS[y], *g.choice(WORDS[5:], g.integers(2, 12))]) for y in labels]
    return LabelledTexts(texts, None, labels.astype(np.int64), f"rows-{seed}-{count}")


def parameters(family="bert", kind=LoraParameters, rank=4, penalty_targets=None, base=None):
    host, missing = load_host(str(base or base_folder(family)), [f"c{i}" for i in range(CLASSES)], max_length=32)
    targets = targets_of(host, penalty_targets or lora_targets(host.model))
    return kind(host, targets, rank, 2.0, fresh_layers(host, missing))


def losses_of(kind, plan, family="bert", steps=50):
    run = _Run(kind, rows(), plan)
    state = run.begin(None)
    found = [loss for epoch in range(plan.epochs) for loss in run.epoch(state.values, epoch)][:steps]
    return torch.stack(found), state.values


def told(run):
    """The history without its seconds."""
    return json.dumps([{key: value for key, value in entry.items() if key != "seconds"} for entry in run.history])
