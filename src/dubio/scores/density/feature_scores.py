"""Where a density looks: at what enters the classification head, or at the head's hidden layer, spectrally normalised.

    z' = act(W z / sigma(W) + b),    sigma(W): the largest singular value of the dense layer's weights

AdUE's authors score encoders (RoBERTa, ELECTRA) on z' and decoders on z; a head without a dense layer has its input as
z'. Divided by sigma, the layer stretches no distance. They take 64 power iterations for sigma; here it is exact. The
adapter itself is trained without it.

Papers: Liu et al. 2020 (arXiv 2006.10108); Vazhentsev et al. 2022 (ACL); AdUE, arXiv 2505.15443 (its code).
"""

import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.heads import KeptAndRest, head_arrays, head_spec, stored_head
from dubio.scores.base import Score, State

PREFIX = "hidden."


class OnFeatures(Score):
    """Base of the scores of features alone. Raises DubioError at fit where `space` is hidden and no head is given.

    hidden_: the head below its last layer, or None where the features are looked at as they are.
    """

    hidden_: nn.Module | None = None

    def fit(self, train: Representations | None, calibration: Representations | None = None) -> Self:
        """As any score's; the head's layers are kept with what is learned."""
        self.hidden_ = hidden_layers(self.head) if self.config.space == "hidden" else None
        super().fit(train, calibration)
        if self.hidden_ is not None:
            self.facts_ = {**self.facts_, "hidden": head_spec(self.hidden_)}
        return self

    def seen(self, rows: Representations) -> Representations:
        """The rows with the features that this score looks at."""
        if self.hidden_ is None:
            return rows
        with torch.inference_mode():
            parts = [
                self.hidden_(torch.from_numpy(np.array(rows.features[start : start + 4096]))).numpy()
                for start in range(0, len(rows), 4096)
            ]
        return replace(rows, features=np.concatenate(parts))

    def hidden_arrays(self) -> dict[str, NDArray[Any]]:
        """What `restore` needs of the layers."""
        found = {} if self.hidden_ is None else head_arrays(self.hidden_)
        return {PREFIX + name: value for name, value in found.items()}

    def state(self) -> State:
        """As any score's, with the layers' arrays."""
        own = super().state()
        return State({**own.arrays, **self.hidden_arrays()}, own.facts)

    def restore(self, state: State) -> Self:
        """As any score's; the head itself is not needed again."""
        self.hidden_ = None
        if state.facts.get("hidden"):
            own = {name[len(PREFIX) :]: v for name, v in state.arrays.items() if name.startswith(PREFIX)}
            self.hidden_ = stored_head(state.facts["hidden"], own)
        return super().restore(state)


def hidden_layers(head: nn.Module | None) -> nn.Sequential | None:
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
