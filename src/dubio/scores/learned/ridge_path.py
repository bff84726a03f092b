"""The ridge path of an anchored logistic regression, by Newton's method, with optional directions for each group.

Minimises, for each ridge r from large to small (each warm-started by the last),

    mean_i log(1 + exp(-t_i eta_i)) + (r/2) (|u|_k^2 + sum_c |w_c|^2),   eta_i = offset_i + x_i.u + z_i.w_{g_i},

with t = +1 for errors and -1 otherwise, g the group of the row, and z the last `d` columns of x. The Hessian of all w_c
is block-diagonal, so their blocks are eliminated one by one: a step costs N D^2 + G d^3, not N (D + G d)^2. The N D^2
is for X^T P X, which the ridge does not enter: formed to see that one ridge is solved, it serves the next one's start.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import expit
from threadpoolctl import threadpool_limits

from dubio.arrays import Bool, Float64

_SMALL = 1e10  # N D^2 below which the threads of one matrix product wait for each other longer than they work


@dataclass(frozen=True)
class Design:
    """x `[N, D]`, offset `[N]`, groups `[N]` in [0, G), penalty `[D]` (relative weights k of the ridge on u).

    own: how many trailing columns of x also get a direction for each group (0: none).
    """

    x: Float64
    offset: Float64
    groups: NDArray[np.int64]
    penalty: Float64
    count: int
    own: int = 0

    def predict(self, shared: Float64, grouped: Float64) -> Float64:
        """The linear predictor `[N]` for coefficients u `[D]` and w `[G, own]`."""
        eta = self.offset + self.x @ shared
        if self.own:
            every = self.x[:, -self.own :] @ grouped.T  # for all groups: cheaper than gathering a direction a row
            eta += every[np.arange(len(eta)), self.groups]
        return eta

    def sorted(self) -> tuple["Design", NDArray[np.int64]]:
        """The same with the rows of each group side by side, and the order `[N]` that brings them there."""
        order = np.argsort(self.groups, kind="stable")
        x, offset, groups = self.x[order], self.offset[order], self.groups[order]
        return Design(x, offset, groups, self.penalty, self.count, self.own), order


def solve_path(design: Design, errors: Bool, ridges: Float64) -> list[tuple[Float64, Float64]]:
    """(u `[D]`, w `[G, own]`) for each ridge, in the given order (descending is fastest)."""
    shared, grouped = np.zeros(design.x.shape[1]), np.zeros((design.count, design.own))
    if design.own:
        design, order = design.sorted()
        errors = errors[order]
    path: list[tuple[Float64, Float64]] = []
    with threadpool_limits(1 if design.x.size * design.x.shape[1] < _SMALL else None):
        at = _Point(design, errors, shared, grouped)
        for ridge in ridges:
            at = _newton(at, float(ridge))
            path.append((at.shared, at.grouped))
    return path


def objective(design: Design, errors: Bool, ridge: float, shared: Float64, grouped: Float64) -> float:
    """The minimised function, in nats a row."""
    return _Point(design, errors, shared, grouped).value(ridge)


@dataclass(frozen=True, eq=False)
class _Point:
    """Coefficients u `[D]` and w `[G, own]`, and what the objective looks like there whatever the ridge."""

    design: Design
    errors: Bool
    shared: Float64
    grouped: Float64

    @cached_property
    def eta(self) -> Float64:
        return self.design.predict(self.shared, self.grouped)

    @cached_property
    def derivatives(self) -> tuple[list[Float64], list[Float64]]:
        """`X^T (p - e) / N` and `X^T diag(p (1 - p)) X / N` of each group's rows; of all rows, if none has its own."""
        rows, design = len(self.errors), self.design
        p = expit(self.eta)
        residual, roots = (p - self.errors) / rows, np.sqrt(p * (1 - p) / rows)
        ends = np.searchsorted(design.groups, np.arange(design.count + 1)) if design.own else [0, rows]
        parts = [slice(start, end) for start, end in pairwise(ends)]
        # NumPy forms only one triangle of `a.T @ a`, so roots on both sides halve the work.
        halves = (design.x[part] * roots[part, None] for part in parts)
        return [design.x[part].T @ residual[part] for part in parts], [half.T @ half for half in halves]

    def value(self, ridge: float) -> float:
        """The objective, in nats a row."""
        nll = np.logaddexp(0.0, np.where(self.errors, -self.eta, self.eta)).mean()
        return float(nll + ridge / 2 * ((self.design.penalty * self.shared**2).sum() + (self.grouped**2).sum()))

    def moved(self, size: float, direction: tuple[Float64, Float64]) -> "_Point":
        shared, grouped = self.shared + size * direction[0], self.grouped + size * direction[1]
        return _Point(self.design, self.errors, shared, grouped)


def _newton(at: _Point, ridge: float, steps: int = 50) -> _Point:
    value = at.value(ridge)
    for _ in range(steps):
        direction, decrement = _direction(at, ridge)
        if decrement < 1e-10:
            break
        size = 1.0
        while size > 1e-6:  # the objective is convex: halving always ends
            trial = at.moved(size, direction)
            new = trial.value(ridge)
            if new <= value - 1e-4 * size * decrement:
                break
            size /= 2
        else:
            break
        at, value = trial, new
    return at


def _direction(at: _Point, ridge: float) -> tuple[tuple[Float64, Float64], float]:
    """Newton direction (for u and w) and the squared decrement, by eliminating the groups' blocks."""
    own, penalty = at.design.own, at.design.penalty
    slopes, grams = at.derivatives
    gradient = sum(slopes, start=ridge * penalty * at.shared)
    hessian, reduced = np.diag(ridge * penalty), gradient.copy()
    if not own:
        step = -cho_solve(cho_factor(hessian + grams[0]), gradient)
        return (step, np.zeros_like(at.grouped)), float(-gradient @ step)
    kept: list[tuple[Any, Float64, Float64]] = []
    for slope, gram, coefficients in zip(slopes, grams, at.grouped, strict=True):
        pull, cross = slope[-own:] + ridge * coefficients, gram[:, -own:]
        factor = cho_factor(gram[-own:, -own:] + ridge * np.eye(own))
        half = solve_triangular(factor[0], cross.T, lower=factor[1], trans=0 if factor[1] else 1)
        hessian += gram - half.T @ half
        reduced -= cross @ cho_solve(factor, pull)
        kept.append((factor, cross, pull))
    step = -cho_solve(cho_factor(hessian), reduced)
    steps = np.stack([-cho_solve(factor, pull + cross.T @ step) for factor, cross, pull in kept])
    decrement = -gradient @ step - sum(float(k[2] @ s) for k, s in zip(kept, steps, strict=True))
    return (step, steps), float(decrement)
