"""A Laplace approximation on the last layer of the head: Gaussian around the trained weights, from the curvature.

    posterior precision = sum_n (diag p_n - p_n p_n') x (phi_n phi_n') + tau I,    phi_n: input of the last layer, and 1

`full` keeps the whole matrix, `kron` its Kronecker factors (A = mean of phi phi', G = sum of diag p - p p'), `diag` its
diagonal; tau, the prior precision, by the marginal likelihood or by the NLL of held-out rows. Samples are draws of the
layer, of which the logits are linear.

Papers: MacKay 1992; Daxberger et al. 2021 (arXiv 2106.14806); over LoRA, Yang et al. 2024 (arXiv 2308.13111).
Cost: one pass over train; seconds. The body runs once for all samples.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from dubio.arrays import Float64, Int64
from dubio.errors import DubioError
from dubio.posteriors.base import Posterior, generator, shared

Structure = Literal["full", "kron", "diag"]
FULL = 5000  # numbers in a layer whose whole matrix is kept: 200 MB
P = TypeVar("P", bound=Posterior)


class Laplace(Posterior):
    """tensors: `mean|NAME` `[1, ...]` of the adapter; `vectors`, `values` (and `vectors_out`, `values_out` for kron).

    facts: layer (name of the last layer in the head), structure, tau. Eigenvalues are of the likelihood's curvature.
    """

    kind: ClassVar[str] = "laplace"

    def draw(self, samples: int, seed: int = 0) -> dict[str, Tensor]:
        """Draws of the last layer; everything else is shared."""
        values, layer, tau = shared(self.part("mean"), samples), self.fact("layer"), float(self.fact("tau"))
        weight = self.tensors[f"mean|head/{layer}.weight"]
        classes, width = weight.shape[1:]
        bias = f"head/{layer}.bias" in values
        shape = (samples, classes, width + bias)
        eps = torch.randn(shape, generator=generator(seed, 0), dtype=torch.float64)
        noise = self._coloured(eps, tau)
        values[f"head/{layer}.weight"] = (weight + noise[:, :, :width]).float()
        if bias:
            values[f"head/{layer}.bias"] = (self.tensors[f"mean|head/{layer}.bias"] + noise[:, :, width]).float()
        return values

    def _coloured(self, eps: Tensor, tau: float) -> Tensor:
        """`[S, C, h]` noise with the posterior's covariance, from standard normal noise."""
        values = self.tensors["values"].double()
        if self.fact("structure") == "diag":
            return eps / (values + tau).sqrt()
        vectors = self.tensors["vectors"].double()
        if self.fact("structure") == "full":
            return ((eps.flatten(1) / (values + tau).sqrt()) @ vectors.t()).reshape(eps.shape)
        out, out_values = self.tensors["vectors_out"].double(), self.tensors["values_out"].double()
        scaled = eps / (out_values[:, None] * values[None, :] + tau).sqrt()
        return out @ scaled @ vectors.t()


def fit_laplace(
    values: dict[str, Tensor], head: nn.Sequential, features: np.ndarray, *, structure: Structure = "kron",
    tau: float | None = None, labels: Int64 | None = None,
) -> Laplace:  # fmt: skip
    """From an adapter's parameters `[1, ...]`, its head, and features `[N, d]` of its training rows.

    tau: the prior precision; None: by the marginal likelihood, for which `labels` `[N]` are needed.
    Raises DubioError where the head's last layer is not linear.
    """
    last = len(head) - 1
    if not isinstance(head[last], nn.Linear):
        raise DubioError("Laplace needs a head that ends in a linear layer; this one does not")
    with torch.inference_mode():
        phi = head[:last](torch.from_numpy(features)).double().numpy()
        logits = head[last](torch.from_numpy(phi).float()).double().numpy()
    if f"head/{last}.bias" in values:
        phi = np.concatenate([phi, np.ones((len(phi), 1))], axis=1)
    if structure == "full" and logits.shape[1] * phi.shape[1] > FULL:
        raise DubioError(
            f"the whole matrix of {logits.shape[1]} classes by {phi.shape[1]} inputs is too large; use structure kron"
        )
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    tensors, spectrum = _curvature(phi, np.exp(log_p), structure)
    weights = [values[f"head/{last}.{part}"] for part in ("weight", "bias") if f"head/{last}.{part}" in values]
    square = float(sum(w.double().pow(2).sum() for w in weights))
    if tau is None:
        if labels is None:
            raise DubioError("the marginal likelihood needs labels of the training rows; give them, or tau")
        fit = float(log_p[np.arange(len(labels)), labels].sum())
        tau = best_precision(spectrum, square, fit)
    mean = {f"mean|{name}": value for name, value in values.items()}
    return Laplace({**mean, **tensors}, {"layer": str(last), "structure": structure, "tau": tau, "rows": len(phi)})


def held_out_nll(
    head: nn.Sequential, features: np.ndarray, labels: Int64, samples: int
) -> Callable[[Sequence[Posterior]], list[float]]:
    """Posteriors of the head's last layer -> NLL of their mean predictions on features `[N, d]` of held-out rows."""
    last: Any = head[-1]
    truth = torch.from_numpy(labels)
    with torch.inference_mode():
        phi = head[:-1](torch.from_numpy(features)).double()

    def nll(posterior: Posterior) -> float:
        drawn, name = posterior.draw(samples), f"head/{len(head) - 1}"
        total = torch.full((len(labels),), -torch.inf, dtype=torch.float64)
        for s in range(samples):  # one after another: all of many rows and classes may be large
            bias = None if last.bias is None else drawn[f"{name}.bias"][s].double()
            logits = nn.functional.linear(phi, drawn[f"{name}.weight"][s].double(), bias)
            total = torch.logaddexp(total, torch.log_softmax(logits, dim=1)[torch.arange(len(labels)), truth])
        return float((np.log(samples) - total).mean())

    return lambda posteriors: [nll(posterior) for posterior in posteriors]


def searched(posterior: P, nlls: Callable[[Sequence[P]], Sequence[float]], powers: Sequence[float]) -> P:
    """With the tau of the least NLL among 10 ** `powers` and half a power on either side of the best of them.

    nlls: those of several posteriors at once.
    """
    trail: dict[float, float] = {}
    for steps in (powers, (-0.5, 0.5)):
        middle = 0.0 if not trail else min(trail, key=lambda power: trail[power])
        asked = [middle + step for step in steps]
        trail |= zip(asked, nlls([posterior.with_facts(tau=10.0**power) for power in asked]), strict=True)
    best = min(trail, key=lambda power: trail[power])
    told = [[10.0**power, found] for power, found in sorted(trail.items())]
    return posterior.with_facts(tau=10.0**best, search=told)


def best_precision(spectrum: Float64, square: float, fit: float) -> float:
    """The tau that maximises log p(D | theta) + log N(theta; 0, 1/tau) - 1/2 log det(curvature + tau) + const."""

    def evidence(log_tau: float) -> float:
        tau = float(np.exp(log_tau))
        ratio = np.log(spectrum + tau).sum() - len(spectrum) * log_tau
        return fit - 0.5 * tau * square - 0.5 * float(ratio)

    grid = np.linspace(np.log(1e-4), np.log(1e6), 101)
    at = int(np.argmax([evidence(x) for x in grid]))
    bounds = (grid[max(0, at - 1)], grid[min(100, at + 1)])
    found: Any = minimize_scalar(lambda x: -evidence(x), bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def _curvature(phi: Float64, p: Float64, structure: Structure) -> tuple[dict[str, Tensor], Float64]:
    """(tensors, eigenvalues `[C * h]`) of the generalised Gauss-Newton matrix of the softmax likelihood."""
    rows, classes = p.shape
    width = phi.shape[1]
    if structure == "diag":
        values = (p * (1 - p)).T @ phi**2
        return {"values": torch.from_numpy(values)}, values.ravel()
    if structure == "full":
        whole = np.empty((classes, width, classes, width))
        for i in range(classes):
            for j in range(classes):
                weight = p[:, i] * ((i == j) - p[:, j])
                whole[i, :, j] = (phi * weight[:, None]).T @ phi
        values, vectors = np.linalg.eigh(whole.reshape(classes * width, classes * width))
        values = values.clip(min=0)
        return {"values": torch.from_numpy(values), "vectors": torch.from_numpy(vectors)}, values
    inputs = phi.T @ phi / rows
    outputs = np.diag(p.sum(axis=0)) - p.T @ p
    values, vectors = np.linalg.eigh(inputs)
    out_values, out = np.linalg.eigh(outputs)
    values, out_values = values.clip(min=0), out_values.clip(min=0)
    tensors = {"values": values, "vectors": vectors, "values_out": out_values, "vectors_out": out}
    return {name: torch.from_numpy(t) for name, t in tensors.items()}, np.outer(out_values, values).ravel()
