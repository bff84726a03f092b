"""AdUE: an uncertainty head grown from the classification head (arXiv 2505.15443).

A copy of the whole head is trained so that `U = 1 - SmoothMax(softmax(head(z)))` predicts the adapter's errors:

    L = BCE(U, e) + alpha * mean((U - U_SR)^2) + beta * ||theta - theta_0||^2,      theta_0 = the copied head.

The grid of 144 trials is trained as one stack. It is chosen by cross-validation on calibration rows: for each trial
the best stopping epoch, then the most cautious trial within one standard error of the best, then the guard, which
keeps softmax response unless swaps of paired out-of-fold scores say that AdUE is better.

Errors come from `train` (the paper), `calibration`, or `both` (cross-fitted: calibration folds with all train rows
added). U ranks rows; it is no probability of error (its ceiling is 1 - 1/C): recalibrate it.
Cost: seconds on a CPU to fit; one more head per row to score.
"""

from dataclasses import asdict
from itertools import product
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from dubio.arrays import Bool, Float64
from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.heads import KeptAndRest, build_head, head_arrays, head_spec, load_head_arrays, stored_head
from dubio.scores.base import State
from dubio.scores.learned.adue_stack import FitRows, Recipe, Trial, train_stack, uncertainty_of
from dubio.scores.learned.cross_validated import SelectedConfig, SelectedScore
from dubio.scores.learned.model_selection import one_standard_error


class AdUEConfig(SelectedConfig):
    """fit, guard: see SelectedConfig. init: `head` (the method) or its two ablations. balance: of errors in the BCE.

    measure: of the head's probabilities; entropy is ours, an ablation. smoothness: lambda, at least 20. scaled: divide
    SmoothMax's U by 1 - 1/C, as the authors' later code.
    The four tuples span the grid; epochs are also upper bounds of the early stopping.
    """

    fit: Literal["train", "calibration", "both"] = "train"
    init: Literal["head", "random_head", "random_linear"] = "head"
    balance: Literal["none", "resample", "weights"] = "none"
    measure: Literal["smoothmax", "entropy"] = "smoothmax"
    smoothness: float = Field(100.0, ge=20)
    scaled: bool = False
    learning_rates: tuple[float, ...] = Field((1e-3, 1e-4, 1e-5), min_length=1)
    epochs: tuple[int, ...] = Field((5, 10, 20), min_length=1)
    alphas: tuple[float, ...] = Field((0.0, 0.1, 0.3, 1.0), min_length=1)
    betas: tuple[float, ...] = Field((0.01, 0.1, 0.5, 1.0), min_length=1)
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

    def _choose(self, gains: Float64) -> int:
        """Each trial stopped at its best epoch; then the most cautious trial within one standard error."""
        trials, means = self.config.trials(), gains.mean(axis=1)
        owner = np.array([trial for trial, _ in self._stops()])
        stopped = np.array([np.flatnonzero(owner == t)[np.argmax(means[owner == t])] for t in range(len(trials))])
        order = sorted(
            range(len(trials)),
            key=lambda t: (trials[t].beta, trials[t].alpha, -trials[t].learning_rate, -trials[t].epochs),
        )
        caution = np.empty(len(trials))
        caution[order] = np.arange(len(trials))
        return int(stopped[one_standard_error(gains[stopped], caution)])

    def _finish(self, rows: Representations, chosen: int) -> dict[str, Any]:
        index, stop = self._stops()[chosen]
        trial = self.config.trials()[index]
        self.head_ = self._starting_head(rows)
        _, stack = train_stack(self.head_, self._rows(rows), [trial], self._recipe(), stop=stop)
        self.head_.load_state_dict(stack.single(), strict=False)
        self.head_.requires_grad_(False).eval()
        return {**asdict(trial), "stopped_after": stop, "trials": len(self.config.trials())}

    def _learned_score(self, rows: Representations) -> Float64:
        with torch.no_grad():
            logits = self.head_(torch.from_numpy(np.array(rows.features, dtype=np.float32)))
            u = uncertainty_of(logits.double(), self._recipe())
        return u.numpy()

    def state(self) -> State:
        """The trained head's arrays and layers, the choice, and whether the guard fell back."""
        self.check_fitted()
        return State(head_arrays(self.head_), {**self.facts_, "head": head_spec(self.head_)})

    def restore(self, state: State) -> Self:
        """From `state`; a head of custom layers must have been given to the constructor as `head`."""
        self.head_ = stored_head(state.facts["head"], state.arrays, like=self.head)
        self.head_.requires_grad_(False).eval()
        return super().restore(State({}, {key: value for key, value in state.facts.items() if key != "head"}))

    def _recipe(self) -> Recipe:
        smoothness, scaled = self.config.smoothness, self.config.scaled
        if self.config.measure == "entropy":
            smoothness, scaled = None, False
        return Recipe(smoothness, scaled, self.config.batch_size, self.config.seed)

    def _starting_head(self, rows: Representations) -> nn.Module:
        """A fresh module with the initial weights; raises DubioError if `head` does not give the adapter's logits."""
        if self.head is None:
            raise DubioError("AdUE copies the classification head; pass it: AdUE(config, head=module)")
        if any(isinstance(layer, KeptAndRest) for layer in self.head.modules()):
            raise DubioError(
                "AdUE trains dozens of copies of the head, and a head over the whole vocabulary is too large"
            )
        some = rows.take(slice(0, 64))
        head = build_head(head_spec(self.head), like=self.head)
        load_head_arrays(head, head_arrays(self.head))
        with torch.no_grad():
            gap = float((head(torch.from_numpy(some.features)) - torch.from_numpy(some.logits)).abs().max())
        if gap > 1e-3 * max(1.0, float(np.abs(some.logits).max())):
            raise DubioError(f"the head does not map these features to these logits (off by {gap:.3g})")
        if self.config.init == "head":
            return head
        if self.config.init == "random_linear":
            head = build_head(head_spec(nn.Linear(rows.features.shape[1], rows.classes)))
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator: lend it a seed
            torch.manual_seed(self.config.seed)
            for layer in head.modules():
                if hasattr(layer, "reset_parameters"):
                    layer.reset_parameters()  # pyright: ignore[reportCallIssue]
        return head

    def _rows(self, table: Representations) -> FitRows:
        errors = table.errors
        weights = np.ones(len(table)) if self.config.balance == "none" else _balanced(errors)
        return FitRows(
            torch.from_numpy(np.array(table.features, dtype=np.float32)),
            torch.from_numpy(np.array(table.logits, dtype=np.float32)),
            torch.from_numpy(errors),
            torch.from_numpy(weights).float(),
            self.config.balance == "resample",
        )


def _balanced(errors: Bool) -> Float64:
    """`[N]` weights of mean 1 that give right and wrong rows the same total."""
    wrong = errors.mean()
    if wrong in (0.0, 1.0):
        raise DubioError("balancing needs both right and wrong rows among those fitted on; use balance='none'")
    return np.where(errors, 0.5 / wrong, 0.5 / (1 - wrong))
