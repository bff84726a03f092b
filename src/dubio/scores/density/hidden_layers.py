"""The classification head below its last layer, spectrally normalised, as a torch module (see `feature_scores`)."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from dubio.arrays import Float32
from dubio.errors import DubioError
from dubio.heads import KeptAndRest, head_arrays, head_spec, stored_head

__all__ = ["head_arrays", "head_spec", "of", "run", "stored_head"]
_ROWS = 4096  # at a time


def run(body: nn.Module, features: Float32) -> Float32:
    """`[N, d']` what leaves the layers for features `[N, d]`."""
    with torch.inference_mode():
        parts = [
            body(torch.from_numpy(np.array(features[start : start + _ROWS]))).numpy()
            for start in range(0, len(features), _ROWS)
        ]
    return np.concatenate(parts)


def of(head: nn.Module | None) -> nn.Sequential | None:
    """The head up to what enters its last layer, its dense layer normalised; None where it has no such layer.

    Raises DubioError without a head, or where it is made of custom layers.
    """
    if head is None:
        raise DubioError("the hidden layer of the head is asked for; pass the classification head as head=")
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    dense = [i for i, layer in enumerate(layers[:-1]) if isinstance(layer, nn.Linear)]
    if not dense or any(isinstance(layer, KeptAndRest) for layer in layers):  # a decoder's: its input is what there is
        return None
    body = copy.deepcopy(nn.Sequential(*layers[:-1])).float().cpu().eval().requires_grad_(False)
    if any(layer["layer"] == "custom" for layer in head_spec(body)):
        raise DubioError("the head is made of custom layers; leave space=hidden out")
    weight: Any = body[dense[-1]].weight
    sigma = float(torch.linalg.matrix_norm(weight.double(), 2))
    if sigma > 0:
        weight.div_(sigma)
    return body
