"""AdUE: an uncertainty head grown from the classification head (arXiv 2505.15443; METHODS 1a-1e).

A copy of the whole head is trained so that `U = 1 - SmoothMax(softmax(head(z)))` predicts the adapter's errors:

    L = BCE(U, e) + alpha * mean((U - U_SR)^2) + beta * ||theta - theta_0||^2,      theta_0 = the copied head.

The grid of 144 trials is trained as one stack. It is chosen by cross-validation on calibration rows: for each trial
the best stopping epoch, then the most cautious trial within one standard error of the best, then the guard, which
keeps softmax response unless a paired bootstrap of out-of-fold scores says that AdUE is better.

Errors come from `train` (the paper), `calibration`, or `both` (cross-fitted: calibration folds with all train rows
added). U ranks rows; it is no probability of error (its ceiling is 1 - 1/C): recalibrate it.
Cost: seconds on a CPU to fit; one more head per row to score.
"""

from dataclasses import asdict
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from numpy.typing import NDArray
from torch import nn

from dubio.arrays import Bool, Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.heads import build_head, head_arrays, head_spec, load_head_arrays
from dubio.scores.adue_stack import FitRows, Recipe, Trial, train_stack
from dubio.scores.base import State
from dubio.scores.selected import SelectedConfig, SelectedScore
from dubio.scores.selection import one_standard_error
from dubio.scores.smoothmax import smoothmax_uncertainty


class AdUEConfig(SelectedConfig):
    """fit, guard: see SelectedConfig (`both` is the cross-fitted variant). init: `head` (the method) or its two ablations. balance: of errors in the BCE.

    smoothness: lambda, at least 20. scaled: divide U by 1 - 1/C. The four tuples span the grid; epochs are also upper bounds of the early stopping.
    """

    fit: Literal["train", "calibration", "both"] = "train"
    init: Literal["head", "random_head", "random_linear"] = "head"
    balance: Literal["none", "resample", "weights"] = "none"
    smoothness: float = Field(100.0, ge=20)
    scaled: bool = False
    learning_rates: tuple[float, ...] = (1e-3, 1e-4, 1e-5)
    epochs: tuple[int, ...] = (5, 10, 20)
    alphas: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0)
    betas: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0)
    batch_size: int = Field(128, ge=1)
    seed: int = 42

    def trials(self) -> list[Trial]:
        """The grid, every combination once."""
        return [Trial(*point) for point in product(self.learning_rates, self.epochs, self.alphas, self.betas)]


class AdUE(SelectedScore):
    """U of the trained copy of the head, in (0, 1 - 1/C]; or log softmax response where the guard fell back.

    `head_` is the trained copy; `facts_` says which trial was chosen, its gain, and what the guard decided.
    """

    Config = AdUEConfig

    def _candidates(self, rows: Representations, watch: Representations) -> NDArray[Any]:
        seen, _ = train_stack(
            self._starting_head(rows), self._rows(rows), self.config.trials(), self._recipe(),
            torch.from_numpy(np.array(watch.features, dtype=np.float32)),
        )  # fmt: skip
        return np.stack([seen[candidate] for candidate in self._stops()])

    def _stops(self) -> list[tuple[int, int]]:
        """Every (trial, epochs done) in one order: what the selection may choose from."""
        return [(i, done + 1) for i, trial in enumerate(self.config.trials()) for done in range(trial.epochs)]
