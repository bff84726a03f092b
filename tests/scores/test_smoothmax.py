"""The identities of the uncertainty head, and the stable form against the textbook one in double precision."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dubio.scores.learned.smoothmax import (
    entropy_uncertainty,
    error_loss,
    loss_slope,
    smoothmax_uncertainty,
    softmax_uncertainty,
)


def textbook(logits, smoothness):
    p = torch.softmax(logits.double(), dim=-1)
    return 1 - torch.logsumexp(smoothness * p, dim=-1) / smoothness


@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("smoothness", [20.0, 100.0, 1000.0])
def test_equals_the_textbook_form(classes, smoothness):
    logits = torch.randn(500, classes, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    torch.testing.assert_close(
        smoothmax_uncertainty(logits, smoothness), textbook(logits, smoothness), atol=1e-12, rtol=1e-9
    )


@given(st.integers(2, 30), st.floats(0.01, 30), st.integers(0, 10**6))
def test_stays_within_log_c_over_lambda_of_softmax_response_and_under_its_ceiling(classes, scale, seed):
    logits = torch.randn(64, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    u, sr = smoothmax_uncertainty(logits, 100.0), softmax_uncertainty(logits)
    assert float((u - sr).abs().max()) <= np.log(classes) / 100 + 1e-6
    assert float(u.max()) <= 1 - 1 / classes + 1e-6
    assert float(u.min()) > 0


def test_keeps_digits_where_one_minus_p_has_none():
    logits = torch.tensor([[60.0, 0.0, 0.0], [61.0, 0.0, 0.0]])
    u = smoothmax_uncertainty(logits, 100.0)
    torch.testing.assert_close(u, 2 * torch.exp(-logits[:, 0]), rtol=1e-5, atol=0)


def test_no_row_has_a_dead_gradient():
    logits = (torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)) * 12).requires_grad_()
    u = smoothmax_uncertainty(logits, 20.0)
    error_loss(u[:, None], torch.ones(2000, dtype=torch.bool), torch.ones(2000)).sum().backward()
    assert logits.grad is not None
    assert bool((logits.grad.abs().sum(dim=1) > 0).all())


def test_scaled_form_reaches_one_at_a_uniform_output():
    u = smoothmax_uncertainty(torch.zeros(1, 4), 1e6, scaled=True)
    assert float(u) == pytest.approx(1.0, abs=1e-4)


def test_loss_equals_torchs_binary_cross_entropy():
    g = torch.Generator().manual_seed(3)
    u, errors = torch.rand(50, 4, generator=g) * 0.9 + 0.05, torch.rand(50, generator=g) < 0.4
    weights = torch.rand(50, generator=g)
    expected = torch.nn.functional.binary_cross_entropy(
        u, errors.float()[:, None].expand(50, 4), weight=weights[:, None].expand(50, 4), reduction="none"
    ).mean(dim=0)
    torch.testing.assert_close(error_loss(u, errors, weights), expected)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("classes", "scale"), [(2, 2.0), (3, 8.0), (20, 1.0)])
def test_slope_in_closed_form_equals_automatic_differentiation(classes, scale, scaled):
    g = torch.Generator().manual_seed(classes)
    logits = (torch.randn(80, classes, 4, generator=g, dtype=torch.float64) * scale).requires_grad_()
    errors, weights = torch.rand(80, generator=g) < 0.4, torch.rand(80, generator=g).double()
    base, alpha = torch.rand(80, generator=g).double(), torch.tensor([0.0, 0.1, 0.3, 1.0]).double()
    u = smoothmax_uncertainty(logits.transpose(1, 2), 100.0, scaled)
    loss = error_loss(u, errors, weights) + alpha * ((u - base[:, None]) ** 2).mean(dim=0)
    (expected,) = torch.autograd.grad(loss.sum(), logits)
    ours = loss_slope(logits.detach(), (errors, base, weights), alpha, 100.0, scaled)
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-12)


def test_slope_is_finite_and_alive_at_ties_and_saturation_in_float32():
    logits = torch.tensor([[0.0, 0.0, 0.0], [30.0, 0.0, -5.0], [30.0, 30.0, 0.0]])[:, :, None]
    target = (torch.tensor([False, True, True]), torch.zeros(3), torch.ones(3))
    for smoothness in (20.0, 100.0):
        slope = loss_slope(logits, target, torch.zeros(1), smoothness)
        assert bool(torch.isfinite(slope).all())
        assert float(slope[1].abs().max()) > 0.1  # a sure and wrong row pulls hard


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_the_entropy_is_numpys_and_its_slope_autograds(classes):
    torch.manual_seed(1)
    logits = (4 * torch.randn(9, classes, 5, dtype=torch.float64)).requires_grad_(True)
    p = torch.softmax(logits, dim=1).detach().numpy()
    u = entropy_uncertainty(logits.transpose(1, 2))
    np.testing.assert_allclose(u.detach(), -(p * np.log(p)).sum(axis=1) / np.log(classes), atol=1e-12)
    errors, base, weights = torch.rand(9) < 0.5, torch.rand(9), 0.5 + torch.rand(9)
    alpha = torch.rand(5)
    loss = error_loss(u, errors, weights) + alpha * ((u - base[:, None]) ** 2).mean(dim=0)
    loss.sum().backward()
    ours = loss_slope(logits.detach(), (errors, base, weights), alpha, None)
    torch.testing.assert_close(ours, logits.grad, atol=1e-10, rtol=1e-6)
    assert 0 <= float(entropy_uncertainty(torch.tensor([[80.0, 0.0, 0.0]]))) < 1e-30
    assert float(entropy_uncertainty(torch.zeros(1, 7))) == pytest.approx(1.0)
