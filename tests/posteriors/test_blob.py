"""BLoB against torch.distributions, autograd written out, and the closed form of a linear-Gaussian posterior."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import PLAN, parameters, rows
from torch.distributions import Normal, kl_divergence

from dubio.errors import DubioError
from dubio.posteriors.engine.stack import AdapterStack, Layout, LowRank, StackedLinear
from dubio.posteriors.methods.blob import Blob, BlobParameters, gaussian_kl, implicit_step
from dubio.posteriors.training.parametrisation import facts_of, form_of
from dubio.posteriors.training.trainer import _Run


def generators(count, seed=0):
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def test_divergence_equals_torch_distributions():
    made = parameters(kind=BlobParameters)
    values = made.start((1, 2))
    rho = torch.cat([value.flatten() for name, value in values.items() if name.endswith(".rho")])
    assert 0.05 / 2**0.5 <= rho.min() < rho.max() <= 0.05
    assert rho.std() > 0.003
    values = {n: v.double() for n, v in values.items()}
    expected = torch.zeros(2, dtype=torch.float64)
    for name in made.targets:
        own = Normal(values[f"layer/{name}.a"], values[f"layer/{name}.rho"] ** 2)
        expected += kl_divergence(own, Normal(0.0, torch.tensor(0.2, dtype=torch.float64))).sum(dim=(1, 2))
    torch.testing.assert_close(made.kl(values), expected)
    assert gaussian_kl(torch.zeros(1), torch.full((1,), 0.2), 0.2).abs() < 1e-6


def test_flipout_has_the_noise_of_its_formula_and_rows_are_uncorrelated():
    """E = B M x; Cov = scale^2 B diag(sum_j Omega_ij^2 x_j^2) B', for each row, and 0 between rows."""
    g, members, n = torch.Generator().manual_seed(0), 6000, 3
    base = torch.nn.Linear(4, 3)
    mean, deviation, b = torch.randn(2, 4, generator=g), torch.rand(2, 4, generator=g), torch.randn(3, 2, generator=g)
    x = torch.randn(n, 2, 4, generator=g)  # two tokens a row
    noise = deviation * torch.randn(members, 2, 4, generator=g)
    layout = Layout(members, n, False, generators=generators(members))
    wide = LowRank(mean.expand(members, -1, -1), b.expand(members, -1, -1), 0.5, noise)
    with torch.no_grad():
        out = StackedLinear(base, wide, layout)(x).reshape(members, n, 2, 3).double()
        expected = (base(x) + 0.5 * x @ mean.T @ b.T).double()
    torch.testing.assert_close(out.mean(dim=0), expected, atol=0.06, rtol=0)
    for row in range(n):
        for first, second in ((0, 0), (1, 1), (0, 1)):  # one adapter for all tokens of a row
            spread = (deviation**2 * x[row, first] * x[row, second]).sum(dim=1).double()
            covariance = 0.25 * b.double() @ torch.diag(spread) @ b.double().T
            found = np.cov(out[:, row, first].T.numpy(), out[:, row, second].T.numpy())[:3, 3:]
            np.testing.assert_allclose(found, covariance, atol=0.08 * float(covariance.abs().max()) + 0.02)
    between = np.cov(out[:, 0, 0].T.numpy(), out[:, 1, 0].T.numpy())
    assert abs(between[:3, 3:]).max() < 0.06 * between.max()


def test_a_table_that_all_rows_share_gets_one_pair_of_signs():
    layout = Layout(2, rows=4, generators=generators(2))
    assert layout.flipped(torch.randn(2, 7, 5), torch.randn(2, 3, 5)).shape == (2, 7, 3)


def test_gradient_of_the_whole_objective_is_that_of_the_sum_written_out():
    g = torch.Generator().manual_seed(0)
    base, x = torch.nn.Linear(5, 3), torch.randn(4, 5, generator=g)
    labels, eps, weight = torch.tensor([0, 2, 1, 1]), torch.randn(2, 5, generator=g), 0.01

    def fresh():
        made = torch.Generator().manual_seed(3)
        return [torch.randn(*s, generator=made).requires_grad_(True) for s in ((2, 5), (3, 2), (2, 5))]

    mean, b, rho = fresh()
    layout = Layout(1, 4, False, generators=generators(1, 9))
    layer = StackedLinear(base, LowRank(mean[None], b[None], 2.0, (rho**2 * eps)[None]), layout)
    loss = torch.nn.functional.cross_entropy(layer(x), labels) + weight * gaussian_kl(mean, rho**2, 0.2).sum()
    loss.backward()

    mean_, b_, rho_ = fresh()
    drawn = generators(1, 9)[0]
    s = 2 * torch.randint(0, 2, (4, 1, 5), generator=drawn)[:, 0] - 1
    t = 2 * torch.randint(0, 2, (4, 1, 2), generator=drawn)[:, 0] - 1
    total = torch.zeros(())
    for i in range(4):
        a = mean_ + rho_**2 * eps * torch.outer(t[i], s[i])
        z = (base.weight + 2.0 * b_ @ a) @ x[i] + base.bias
        total = total - torch.log_softmax(z, dim=0)[labels[i]] / 4
    for m, r in zip(mean_.flatten(), rho_.flatten(), strict=True):
        total = total + weight * (torch.log(0.2 / r**2) + (r**4 + m**2) / (2 * 0.04) - 0.5)
    total.backward()
    torch.testing.assert_close(loss, total)
    for own, direct in ((mean, mean_), (b, b_), (rho, rho_)):
        torch.testing.assert_close(own.grad, direct.grad, atol=1e-5, rtol=1e-5)


def test_plain_noise_is_on_a_itself_and_the_mean_is_untouched():
    made = replace(parameters(kind=BlobParameters), flipout=False)
    values = made.start((1, 2))
    name = made.targets[0]
    layer = made.sampled(values, generators(2)).layers[name]
    assert layer.noise is None
    again = replace(made, flipout=True).sampled(values, generators(2)).layers[name]
    torch.testing.assert_close(layer.a - values[f"layer/{name}.a"], again.noise)
    assert torch.equal(again.a, made.stack(values).layers[name].a)


def test_the_posterior_of_a_linear_gaussian_layer_is_recovered():
    """y = a x + noise of variance v, prior N(0, beta^2): the variance of q is 1 / (sum x^2 / v + 1 / beta^2)."""
    g, n, v, beta = torch.Generator().manual_seed(0), 64, 0.5, 0.7
    x = torch.randn(n, 3, generator=g)
    x = torch.linalg.qr(x).Q * torch.tensor([8.0, 3.0, 0.5])  # inputs are orthogonal: no correlations to miss
    y = x @ torch.tensor([0.6, -0.4, 0.9]) + v**0.5 * torch.randn(n, generator=g)
    mean, rho = torch.zeros(1, 1, 3, requires_grad=True), torch.full((1, 1, 3), 0.4, requires_grad=True)
    base, one = torch.nn.Linear(3, 1, bias=False), torch.ones(1, 1, 1)
    base.weight.requires_grad_(False).zero_()
    optimiser, noise = torch.optim.Adam([mean, rho], lr=0.02), generators(1, 5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, 1500)
    for _ in range(1500):
        eps = torch.randn(1, 1, 3, generator=noise[0])
        layer = StackedLinear(base, LowRank(mean, one, 1.0, rho**2 * eps), Layout(1, n, False, generators=noise))
        loss = ((layer(x)[:, 0] - y) ** 2).sum() / (2 * v) + gaussian_kl(mean, rho**2, beta).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    precision = (x**2).sum(dim=0) / v + 1 / beta**2
    torch.testing.assert_close(mean.detach()[0, 0], (x.T @ y) / v / precision, atol=0.05, rtol=0)
    torch.testing.assert_close(rho.detach()[0, 0] ** 2, precision**-0.5, atol=0, rtol=0.1)


def test_draws_have_the_mean_and_the_deviation_that_were_trained():
    made = parameters(kind=BlobParameters)
    values = made.start((4,))
    posterior = made.posterior(values)
    name = f"layer/{made.targets[1]}"
    draws = posterior.draw(20_000)[f"{name}.a"]
    torch.testing.assert_close(draws.mean(dim=0), values[f"{name}.a"][0], atol=1e-4, rtol=0)
    torch.testing.assert_close(draws.std(dim=0), values[f"{name}.rho"][0] ** 2, atol=0, rtol=0.04)
    assert posterior.fact("kl") == pytest.approx(float(made.kl(values)[0]))
    assert not any(".rho" in key for key in posterior.tensors)
    stack = form_of(facts_of(made), made.host)(posterior.draw(2))
    assert isinstance(stack, AdapterStack)
    with pytest.raises(DubioError, match="lacks its deviations"):
        Blob({}, {}).draw(2)


def test_the_implicit_step_is_that_of_sgd_where_it_is_short_and_stays_bounded_where_it_is_not():
    start = torch.tensor([0.03, 0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(gaussian_kl(torch.zeros(4), start**2, 0.2).sum(), start)
    moved = implicit_step(start.detach(), 1e-7, 0.2) - start.detach()
    torch.testing.assert_close(moved, -1e-7 * grad, rtol=1e-3, atol=0)
    for rho in (0.0, 1e-6, 0.04, 0.4, 3.0):  # it solves its equation, and does not go past the optimum rho^2 = beta
        x = implicit_step(torch.tensor(rho, dtype=torch.float64), 0.01, 0.2)
        assert float(x - rho - 0.02 / x + 0.02 * x**3 / 0.04) == pytest.approx(0, abs=1e-4)
        assert min(rho, 0.2**0.5) - 1e-4 <= float(x) <= max(rho, 0.2**0.5) + 1e-4


def test_descent_on_the_divergence_widens_what_is_narrow_and_leaves_b_alone():
    made = parameters(kind=BlobParameters)
    run = _Run(made, rows(), replace(PLAN, seeds=(1,)))
    values = run.begin(None).values
    before = {n: v.detach().clone() for n, v in values.items()}
    made.descend(values, 1e-4)
    assert made.kl(values) < made.kl(before)
    for name, value in values.items():
        if name.endswith(".rho"):
            assert (value > before[name]).all()
        assert torch.equal(value, before[name]) != name.endswith((".a", ".rho"))
