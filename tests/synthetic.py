"""Representations with a known truth: a linear head that is slightly wrong, and errors that features explain."""

import numpy as np
from torch import from_numpy, nn, no_grad

from dubio.containers import Representations


def planted(rows=600, d=12, classes=3, seed=0, flip=0.5, spread=1.5):
    """(representations, head): labels follow the true weights, the adapter's head is off by `flip`."""
    truth = np.random.default_rng(99)
    weight = truth.normal(size=(classes, d)) * spread / np.sqrt(d) * 2
    wrong = weight + flip * truth.normal(size=weight.shape) / np.sqrt(d)
    bias = truth.normal(size=classes) * 0.1
    g = np.random.default_rng(seed)
    z = g.normal(size=(rows, d)).astype(np.float32)
    labels = np.argmax(z @ weight.T + bias + g.gumbel(size=(rows, classes)), axis=1)
    head = nn.Linear(d, classes)
    with no_grad():
        head.weight.copy_(from_numpy(wrong))
        head.bias.copy_(from_numpy(bias))
        logits = head(from_numpy(z)).numpy()
    return Representations.of(z, logits, labels), head
