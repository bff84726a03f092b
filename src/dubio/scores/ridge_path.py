"""The ridge path of an anchored logistic regression, by Newton's method, with optional directions for each group.

Minimises, for each ridge r from large to small (each warm-started by the last),

    mean_i log(1 + exp(-t_i eta_i)) + (r/2) (|u|_k^2 + sum_c |w_c|^2),   eta_i = offset_i + x_i.u + z_i.w_{g_i},

with t = +1 for errors and -1 otherwise, g the group of the row, and z the last `d` columns of x. The Hessian of all w_c
is block-diagonal, so their blocks are eliminated one by one: a step costs N D^2 + G d^3, not N (D + G d)^2.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import expit

from dubio.arrays import Bool, Float64


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
            eta = eta + np.einsum("nd,nd->n", self.x[:, -self.own :], grouped[self.groups])
        return eta


def solve_path(design: Design, errors: Bool, ridges: Float64) -> list[tuple[Float64, Float64]]:
    """(u `[D]`, w `[G, own]`) for each ridge, in the given order (descending is fastest)."""
    shared, grouped = np.zeros(design.x.shape[1]), np.zeros((design.count, design.own))
    path: list[tuple[Float64, Float64]] = []
    for ridge in ridges:
        shared, grouped = _newton(design, errors, float(ridge), shared, grouped)
        path.append((shared, grouped))
    return path


def objective(design: Design, errors: Bool, ridge: float, shared: Float64, grouped: Float64) -> float:
    """The minimised function, in nats a row."""
    eta = design.predict(shared, grouped)
    nll = np.logaddexp(0.0, np.where(errors, -eta, eta)).mean()
    return float(nll + ridge / 2 * ((design.penalty * shared**2).sum() + (grouped**2).sum()))


def _newton(
    design: Design, errors: Bool, ridge: float, shared: Float64, grouped: Float64, steps: int = 50
) -> tuple[Float64, Float64]:
    value = objective(design, errors, ridge, shared, grouped)
    for _ in range(steps):
        direction, decrement = _direction(design, errors, ridge, (shared, grouped))
        if decrement < 1e-10:
            break
        size = 1.0
        while size > 1e-6:  # the objective is convex: halving always ends
            trial = shared + size * direction[0], grouped + size * direction[1]
            new = objective(design, errors, ridge, *trial)
            if new <= value - 1e-4 * size * decrement:
                break
            size /= 2
        else:
            break
        (shared, grouped), value = trial, new
    return shared, grouped


def _direction(design: Design, errors: Bool, ridge: float, at: tuple[Float64, Float64]) -> tuple[Any, float]:
    """Newton direction (for u and w) and the squared decrement, by eliminating the groups' blocks."""
    shared, grouped = at
    rows, own = len(errors), design.own
    p = expit(design.predict(shared, grouped))
    residual, curvature = (p - errors) / rows, p * (1 - p) / rows
    gradient = design.x.T @ residual + ridge * design.penalty * shared
    if not own:
        hessian = _gram(design.x, curvature) + np.diag(ridge * design.penalty)
        step = -cho_solve(cho_factor(hessian), gradient)
        return (step, np.zeros_like(grouped)), float(-gradient @ step)
    hessian, reduced = np.diag(ridge * design.penalty), gradient.copy()
    kept: list[tuple[Any, Float64, Float64]] = []
    for group in range(design.count):
        mine = design.groups == group
        x = design.x[mine]
        gram = _gram(x, curvature[mine])
        pull = x[:, -own:].T @ residual[mine] + ridge * grouped[group]
        factor = cho_factor(gram[-own:, -own:] + ridge * np.eye(own))
        cross = gram[:, -own:]
        half = solve_triangular(factor[0], cross.T, lower=factor[1], trans=0 if factor[1] else 1)
        hessian += gram - half.T @ half
        reduced -= cross @ cho_solve(factor, pull)
        kept.append((factor, cross, pull))
    step = -cho_solve(cho_factor(hessian), reduced)
    steps = np.stack([-cho_solve(factor, pull + cross.T @ step) for factor, cross, pull in kept])
    decrement = -gradient @ step - sum(float(k[2] @ s) for k, s in zip(kept, steps, strict=True))
    return (step, steps), float(decrement)


def _gram(x: Float64, weights: Float64) -> Float64:
    """`X^T diag(weights) X`; NumPy forms only one triangle of `a.T @ a`, so roots on both sides halve the work."""
    half = x * np.sqrt(weights)[:, None]
    return half.T @ half
