"""What the invariants share: data with planted errors, and every registered method built small.

A registered method needs nothing here to be tested; what is slow by default is listed in `SMALL` by its class.
"""

from functools import cache

import numpy as np
import torch
from torch import nn

from dubio.containers import Representations
from dubio.scores.registry import METHODS

CLASSES, WIDTH = 3, 12
PRECISIONS = ("float32", "bfloat16")
SMALL = {
    "AdUE": {"learning_rates": (3e-2, 1e-3), "epochs": (5,), "alphas": (0.0,), "betas": (1e-2,), "batch_size": 64},
    "RDE": {"rows": 200},
    "RefittedHead": {"strengths": (1e-3, 1e-1)},
    "AnchoredProbe": {"ridges": (1.0, 0.03, 1e-3)},
}
_AXES = np.linalg.qr(np.random.default_rng(7).normal(size=(WIDTH, WIDTH)))[0]
_MEANS, _TELLTALE = 3.0 * _AXES[:CLASSES], 1.5 * _AXES[CLASSES]


def class_of(method):
    return method.target.partition(":")[2]


assert {*SMALL} <= {class_of(method) for method in METHODS.values()}


def as_bfloat16(values):
    """Float32 numbers with the eight bits of mantissa that a bfloat16 pass leaves."""
    return torch.from_numpy(np.asarray(values, dtype=np.float32)).bfloat16().float().numpy()


@cache
def linear_head():
    head = nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(0.5 * _MEANS + 1.5 * _AXES[[4, 5, 6]]))
        head.bias.copy_(torch.tensor([0.05, -0.05, 0.0]))
    return head.eval().requires_grad_(False)


def with_labels(features, labels, head=None):
    """Representations of these features under a float32 head, as extraction leaves them."""
    with torch.no_grad():
        logits = (head or linear_head())(torch.from_numpy(features)).numpy()
    return Representations.of(features, logits, labels)


def planted(rows, seed, hard=0.3, precision="float32"):
    """Errors are planted half way between two classes: there the head is unsure, and the training rows are few.

    hard: share of such rows; half of them are wrong, and hardly any other row is. Wrong rows also lie off along an axis
    that the head does not look at, so that whatever learns from errors has something to find.
    """
    g = np.random.default_rng(seed)
    first = g.integers(0, CLASSES, rows)
    second = (first + g.integers(1, CLASSES, rows)) % CLASSES
    between = g.random(rows) < hard
    z = np.where(between[:, None], (_MEANS[first] + _MEANS[second]) / 2, _MEANS[first])
    z = z + g.normal(size=(rows, WIDTH)) * np.where(between, 0.9, 0.6)[:, None]
    labels = np.where(between & (g.random(rows) < 0.5), second, first)
    wrong = between & (labels != (z @ _MEANS.T).argmax(axis=1))
    features = (z + wrong[:, None] * _TELLTALE).astype(np.float32)
    return with_labels(as_bfloat16(features) if precision == "bfloat16" else features, labels)


@cache
def tables(precision="float32"):
    """(train, calibration, test) with errors in each."""
    return (
        planted(450, 1, 0.15, precision),
        planted(300, 2, 0.3, precision),
        planted(240, 3, 0.3, precision),
    )


def small(name, head=None):
    """The registered method, unfitted, with a small grid."""
    method = METHODS[name]
    return method.build(head=head or linear_head(), **SMALL.get(class_of(method), {}))


@cache
def fitted(name, precision="float32"):
    """The method fitted on `tables(precision)`; shared, so read only."""
    train, calibration, _ = tables(precision)
    return small(name).fit(train, calibration)
