"""Scores learned from errors that have a knob to choose (a grid, a ridge path): one careful procedure for all of them.

    candidates' scores of held-out rows -> gain over softmax response, fold by fold -> choice -> nested out-of-fold
    scores of that choice -> guard -> final fit on all fitting rows.

`fit` says where errors come from: `train` (the adapter's own training rows), `calibration` (K folds), or `both` (each
fold with all train rows added; called cross-fitted in AdUE). A candidate never scores a row that trained it.
"""

from abc import abstractmethod
from copy import copy
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from dubio.arrays import Float64
from dubio.containers import Representations, concatenate
from dubio.errors import DubioError
from dubio.log_space import log_error
from dubio.scores.base import MethodConfig, Score, State, fold_of, needed
from dubio.scores.learned.guard import guard
from dubio.scores.learned.model_selection import fold_gains

_CONSTANT = 1e-8  # a spread below this share of the mean, or of the largest spread, is rounding


class SelectedConfig(MethodConfig):
    """fit: which rows' errors to learn from. guard: fall back to softmax response unless better on held-out rows."""

    fit: Literal["train", "calibration", "both"] = "calibration"
    guard: bool = False


class SelectedScore(Score):
    """Base of the learned scores; a subclass gives its candidates, its rule of choice and its final fit."""

    Config = SelectedConfig
    uses_calibration = True
    fell_back_: bool

    def _fit(self, train: Representations | None, calibration: Representations | None) -> None:
        held_out = needed(calibration, "calibration", self)
        fixed = None if self.config.fit == "calibration" else needed(train, "train", self)
        errors, folds, incumbent = held_out.errors, fold_of(held_out), log_error(held_out.logits)
        seen = self._watch(fixed, held_out, folds)
        gains = fold_gains(seen, incumbent, errors, folds)
        chosen = self._choose(gains)
        honest = np.empty(len(held_out), dtype=np.float64)
        for fold in range(gains.shape[1]):  # nested: each fold under what the other folds choose
            theirs = self._choose(np.delete(gains, fold, axis=1))
            honest[folds == fold] = seen[theirs, folds == fold]
        verdict = guard(honest, incumbent, errors, folds, units=held_out.units[1])
        self.fell_back_ = bool(self.config.guard and not verdict.kept)
        self._honest, self._judged = honest, held_out
        own = None if self.config.fit == "train" else held_out
        rows = concatenate([table for table in (fixed, own) if table is not None])
        self.facts_ = {
            **self._finish(rows, chosen),
            "candidates": len(gains),
            "cross_validated_gain": float(gains[chosen].mean()),
            "luckiest_gain": float(gains.mean(axis=1).max()),
            "guard": verdict.facts(),
            "fell_back": self.fell_back_,
            "errors_fitted_on": int(rows.errors.sum()),
        }

    def out_of_fold(self, train: Representations | None, calibration: Representations) -> Float64:
        """As in Score, from the folds that the choice already used; for the calibration rows of the last `fit`."""
        judged = cast(Representations | None, getattr(self, "_judged", None))
        if judged is None or not _same(judged, calibration):
            raise DubioError("out-of-fold scores exist for the calibration rows of the last fit only; fit again")
        return log_error(calibration.logits) if self.fell_back_ else self._honest.copy()

    def twin(self, other: Score) -> Self | None:
        """A copy under the config of `other` where the two differ in nothing but the guard; else None.

        The guard only decides which scores come out in the end, so nothing is fitted again.
        """
        same = (
            type(other) is type(self) and self.config.model_copy(update={"guard": other.config.guard}) == other.config
        )
        if not same or self.head is not other.head:
            return None
        made = copy(self)
        made.config = other.config
        made.fell_back_ = bool(other.config.guard and not self.facts_["guard"]["kept"])
        made.facts_ = {**self.facts_, "fell_back": made.fell_back_}
        return made

    def restore(self, state: State) -> Self:
        """As in Score; also recovers whether the guard had fallen back."""
        if not isinstance(state.facts["fell_back"], bool):
            raise DubioError(f"{type(self).__name__}: the stored fact fell_back is neither true nor false; fit again")
        self.fell_back_, self._judged = state.facts["fell_back"], None
        return super().restore(state)

    def _score(self, rows: Representations) -> Float64:
        return log_error(rows.logits) if self.fell_back_ else self._learned_score(rows)

    def _watch(
        self, fixed: Representations | None, held_out: Representations, folds: NDArray[np.int64]
    ) -> NDArray[Any]:
        """`[K, N]` scores of the held-out rows under each candidate, never from rows that trained it."""
        if self.config.fit == "train":
            assert fixed is not None
            return self._candidates(fixed, held_out)
        out: NDArray[Any] | None = None
        for fold in np.unique(folds):
            others = [held_out.take(folds != fold)] + ([fixed] if fixed is not None else [])
            part = self._candidates(concatenate(others), held_out.take(folds == fold))
            if out is None:
                out = np.empty((len(part), len(held_out)), dtype=part.dtype)
            out[:, folds == fold] = part
        assert out is not None
        return out

    @abstractmethod
    def _candidates(self, rows: Representations, watch: Representations) -> NDArray[Any]:
        """Fits every candidate on `rows` and returns their scores `[K, M]` of `watch`."""

    @abstractmethod
    def _choose(self, gains: Float64) -> int:
        """The chosen candidate, from gains `[K, F]`."""

    @abstractmethod
    def _finish(self, rows: Representations, chosen: int) -> dict[str, Any]:
        """Fits the chosen candidate on all rows, keeps it, and returns facts about it."""

    @abstractmethod
    def _learned_score(self, rows: Representations) -> Float64: ...


def standardiser(features: NDArray[Any]) -> tuple[Float64, Float64]:
    """Mean and scale `[d]` of features `[N, d]`: (z - mean) / scale has unit variance, whatever the unit of z.

    A constant feature carries nothing: its scale is infinite, so it becomes 0 and stays harmless should it move later.
    """
    z = features.astype(np.float64)
    mean, spread = z.mean(axis=0), z.std(axis=0)
    return mean, np.where(spread > _CONSTANT * np.maximum(np.abs(mean), spread.max()), spread, np.inf)


def _same(one: Representations, other: Representations) -> bool:
    return one is other or (np.array_equal(one.logits, other.logits) and np.array_equal(one.errors, other.errors))
