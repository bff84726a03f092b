"""SmoothMax (or entropy) uncertainty of a head's logits and AdUE's losses, in torch, in the stable form (log-sum-exp).

With p_1 the largest probability and delta = 1 - p_1 taken from the other logits,

    U = 1 - (1/L) log sum_c exp(L p_c) = delta - (1/L) log1p( sum_{c != 1} exp(-L (p_1 - p_c)) ),

which needs no clamp, so no gradient dies. In its place one may take H[p] / log C, the entropy's share of its greatest
value (ours, as an ablation: at the start it ranks rows otherwise than softmax response does).
All functions take logits `[..., C]` and broadcast over leading dimensions.

Paper: AdUE (arXiv 2505.15443), equations 2-5.
"""

import math

import torch
from torch import Tensor

_CEILING = 1 - 1e-6  # of U inside the loss: only the scaled form comes near, at exact ties of all classes
_FLOOR = 1e-3  # U stays above this share of delta: keeps the logarithm finite and its gradient alive at L = 20


def softmax_uncertainty(logits: Tensor) -> Tensor:
    """`[...]` 1 - max p, with full relative precision however sure the head is."""
    top = logits.argmax(dim=-1, keepdim=True)
    others = torch.logsumexp(logits.scatter(-1, top, -torch.inf), dim=-1)
    return torch.sigmoid(others - logits.gather(-1, top).squeeze(-1))


def smoothmax_uncertainty(logits: Tensor, smoothness: float, scaled: bool = False) -> Tensor:
    """`[...]` AdUE's U = 1 - SmoothMax(softmax(logits)), in (0, 1 - 1/C].

    smoothness: the paper's lambda (100 there), at least 20. scaled: divide by 1 - 1/C, as the authors' later code.
    """
    probabilities = torch.softmax(logits, dim=-1)
    largest, top = probabilities.max(dim=-1, keepdim=True)
    delta = softmax_uncertainty(logits)
    gaps = (largest - probabilities).scatter(-1, top, torch.inf)
    u = delta - torch.log1p(torch.exp(-smoothness * gaps).sum(dim=-1)) / smoothness
    u = torch.maximum(u, _FLOOR * delta)
    return u / (1 - 1 / logits.shape[-1]) if scaled else u


def entropy_uncertainty(logits: Tensor) -> Tensor:
    """`[...]` H[softmax(logits)] / log C, in [0, 1]."""
    log_p = torch.log_softmax(logits, dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    return entropy.clamp(min=0) / math.log(logits.shape[-1])


def error_loss(u: Tensor, errors: Tensor, weights: Tensor) -> Tensor:
    """Weighted binary cross-entropy of U `[n, ...]` against errors `[n]`, averaged over rows; `[...]`, nats."""
    tiny, extra = torch.finfo(u.dtype).tiny, (1,) * (u.dim() - 1)
    wrong, weight = errors.view(-1, *extra), weights.view(-1, *extra)
    log_right = torch.log1p(-u.clamp(max=_CEILING))
    return -(weight * torch.where(wrong, torch.log(u.clamp(min=tiny)), log_right)).mean(dim=0)


def loss_slope(
    logits: Tensor, target: tuple[Tensor, Tensor, Tensor], alpha: Tensor, smoothness: float | None, scaled: bool = False
) -> Tensor:
    """Gradient `[n, C, G]` of BCE + alpha * MSE to softmax response, with respect to the logits `[n, C, G]`.

    target: errors `[n]`, softmax response `[n]` (scaled alike), weights `[n]`. alpha: `[G]`. smoothness: None for the
    entropy. In closed form, since automatic differentiation of these few small tensors costs more than the products
    around them.
    """
    errors, base, weights = target
    u, slope = _entropy_slope(logits) if smoothness is None else _smoothmax_slope(logits, smoothness)
    ceiling = 1 - 1 / logits.shape[1] if scaled else 1.0
    u = u / ceiling
    safe = u.clamp(torch.finfo(u.dtype).tiny, _CEILING)
    bce = weights[:, None] * torch.where(errors[:, None], -1 / safe, 1 / (1 - safe))
    outer = (bce + 2 * alpha * (u - base[:, None])) / (len(logits) * ceiling)
    return slope * outer.unsqueeze(1)


def _entropy_slope(logits: Tensor) -> tuple[Tensor, Tensor]:
    """U `[n, G]` and dU/dl_k = -p_k (log p_k + H) / log C."""
    log_p = torch.log_softmax(logits, dim=1)
    p, most = log_p.exp(), math.log(logits.shape[1])
    h = -(p * log_p).sum(dim=1)
    return h.clamp(min=0) / most, -p * (log_p + h.unsqueeze(1)) / most


def _smoothmax_slope(logits: Tensor, smoothness: float) -> tuple[Tensor, Tensor]:
    """U `[n, G]` and dU/dl_k = p_k (h_k - sum_c p_c h_c) / Q.

    h_c = 1 - exp(L (p_c - p_1)),   Q = sum_c exp(L (p_c - p_1)).
    """
    shifted = logits - logits.amax(dim=1, keepdim=True)
    exponentials = shifted.exp()
    tops = (shifted == 0).to(logits.dtype)
    extra = tops.sum(dim=1) - 1  # further classes tied with the largest: they count among the others
    others = (exponentials - tops).sum(dim=1) + extra
    total = others + 1
    p = exponentials / total.unsqueeze(1)
    h = -torch.expm1(smoothness * (p - (1 / total).unsqueeze(1)))
    rest = (1 - tops - h).clamp_(min=0).sum(dim=1) + extra
    delta = others / total
    u = delta - torch.log1p(rest) / smoothness
    floored = u < _FLOOR * delta
    slope = p * (h - (p * h).sum(dim=1, keepdim=True)) / (rest + 1).unsqueeze(1)
    if bool(floored.any()):
        towards = p * ((1 - tops) - delta.unsqueeze(1)) / total.unsqueeze(1)
        slope = torch.where(floored.unsqueeze(1), _FLOOR * towards, slope)
        u = torch.maximum(u, _FLOOR * delta)
    return u, slope
