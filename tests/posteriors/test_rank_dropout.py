"""Rank-wise variational dropout: its divergence against the integral, its gauge, and the ranks that it cuts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from tiny_runs import PLAN, parameters, rows

from dubio.errors import DubioError
from dubio.posteriors.methods.rank_dropout import (
    RankDropout,
    RankDropoutParameters,
    gauged,
    log_uniform_kl,
    rank_scores,
)  # fmt: skip
from dubio.posteriors.training.parametrisation import facts_of, form_of
from dubio.posteriors.training.trainer import _Run


def integral(log_alpha):
    """KL(N(1, alpha) || log-uniform) + const = E log|1 + sqrt(alpha) z| - 1/2 log alpha, less its limit E log|z|."""
    root = np.exp(log_alpha / 2)
    at = -1 / root

    def f(z):
        return np.log(abs(1 + root * z)) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

    points = [at] if abs(at) < 12 else None
    value = quad(f, -12, 12, points=points, limit=400)[0]
    return value - log_alpha / 2 + (np.euler_gamma + np.log(2)) / 2


@pytest.mark.parametrize("log_alpha", [-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0])
def test_divergence_is_the_integral_within_the_error_of_the_approximation(log_alpha):
    found = float(log_uniform_kl(torch.tensor(log_alpha, dtype=torch.float64)))
    assert found == pytest.approx(integral(log_alpha), abs=0.012)


def spoiled(values, targets, seed=0):
    """The same products B A from other numbers: A_i times c, B_i over c."""
    g, found = torch.Generator().manual_seed(seed), dict(values)
    for name in targets:
        a = values[f"layer/{name}.a"]
        c = torch.exp(torch.randn(a.shape[:2], generator=g))
        found[f"layer/{name}.a"], found[f"layer/{name}.b"] = a * c[:, :, None], values[f"layer/{name}.b"] / c[:, None]
    return found


def test_the_gauge_keeps_the_product_and_makes_everything_else_a_function_of_it():
    made = parameters(kind=RankDropoutParameters)
    values = made.start((1, 2))
    other = spoiled(values, made.targets)
    for name in made.targets:
        a, b = gauged(values[f"layer/{name}.a"], values[f"layer/{name}.b"])
        torch.testing.assert_close(b @ a, values[f"layer/{name}.b"] @ values[f"layer/{name}.a"])
        torch.testing.assert_close(a.norm(dim=2), b.norm(dim=1))
    torch.testing.assert_close(made.kl(values), made.kl(other))
    draws = [
        made.sampled(v, [torch.Generator().manual_seed(i) for i in (5, 6)]).tensors() for v in (values, other)
    ]  # fmt: skip
    for name, value in draws[0].items():
        torch.testing.assert_close(draws[1][name], value, atol=1e-5, rtol=1e-4)
    dead = torch.zeros(1, 2, 3), torch.zeros(1, 4, 2)
    assert all(torch.equal(x, y) for x, y in zip(gauged(*dead), dead, strict=True))


def test_a_stacked_step_sees_the_noise_of_the_variances():
    made = replace(parameters(kind=RankDropoutParameters), log_variance=-2.0)
    values = made.start((0,) * 400)
    noise = [torch.Generator().manual_seed(i) for i in range(400)]
    mean, drawn = made.stack(values).tensors(), made.sampled(values, noise).tensors()
    for name in (f"layer/{made.targets[0]}.a", f"layer/{made.targets[0]}.b"):
        assert float((drawn[name] - mean[name]).std()) == pytest.approx(np.exp(-1.0), rel=0.05)


def planted():
    """Parameters of one member, where one rank of the first layer and every rank of the second are dead."""
    made = parameters(kind=RankDropoutParameters)
    values = {n: v.clone() for n, v in made.start((3,)).items()}
    g = torch.Generator().manual_seed(0)
    for name in made.targets:
        values[f"layer/{name}.b"] = torch.randn(values[f"layer/{name}.b"].shape, generator=g)
    values[f"layer/{made.targets[0]}.b"][:, :, 2] = 1e-6
    values[f"layer/{made.targets[1]}.log_variance"][:] = 2.0
    values[f"layer/{made.targets[1]}.b"] *= 1e-4
    return made, values


def test_planted_dead_ranks_are_cut_and_told():
    made, values = planted()
    posterior = made.posterior(values, 3.0)
    first, second = made.targets[:2]
    assert posterior.fact("ranks") == {first: 3, second: 0, **dict.fromkeys(made.targets[2:], 4)}
    assert posterior.fact("ranks_kept") == 3 + 4 * (len(made.targets) - 2)
    a, b, log_variance = made._layer(values, first)
    assert (rank_scores(a, b, log_variance)[0] > 3).tolist() == [False, False, True, False]
    torch.testing.assert_close(posterior.tensors[f"mean|layer/{first}.a"], a[:, [0, 1, 3]])
    assert posterior.tensors[f"mean|layer/{first}.b"].shape[2] == 3
    stack = form_of(facts_of(made), made.host)(posterior.draw(2))
    assert set(stack.layers) == (set(made.targets) - {second}) | set(made.fresh)
    all_dead = made.posterior(values, -50.0)
    assert all_dead.fact("ranks_kept") == 1  # something has to stay


def test_draws_have_one_deviation_a_rank():
    made, values = planted()
    name = made.targets[0]
    values[f"layer/{name}.log_variance"] = torch.tensor([[-2.0, -4.0, -8.0, -6.0]])
    posterior = made.posterior(values, 1e6)
    draws, sigma = posterior.draw(20_000), torch.exp(torch.tensor([-1.0, -2.0, -4.0, -3.0]))
    _, b, _ = made._layer(values, name)
    torch.testing.assert_close(draws[f"layer/{name}.a"].std(dim=0), sigma[:, None].expand(4, 16), atol=0, rtol=0.05)
    torch.testing.assert_close(draws[f"layer/{name}.b"].std(dim=0), sigma.expand(16, 4), atol=0, rtol=0.05)
    torch.testing.assert_close(draws[f"layer/{name}.b"].mean(dim=0), b[0], atol=0.02, rtol=0)
    with pytest.raises(DubioError, match="lacks its variances"):
        RankDropout({}, {}).draw(2)


def test_a_run_learns_the_variances():
    made = parameters(kind=RankDropoutParameters)
    run = _Run(made, rows(), replace(PLAN, seeds=(1,), kl_weight=1e-6, kl_schedule="each", learning_rate=2e-2))
    values = run.begin(None).values
    name = f"layer/{made.targets[0]}.log_variance"
    before = values[name].detach().clone()
    losses = torch.cat([loss for epoch in range(4) for loss in run.epoch(values, epoch)])
    assert losses[-10:].mean() < losses[:10].mean()
    assert (values[name] - before).abs().max() > 0.05
