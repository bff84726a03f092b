"""Each posterior against an independent computation: NumPy moments, closed forms, and what must hold of its draws."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from dubio.errors import ArtifactError, DubioError
from dubio.posteriors.methods.blob import Blob
from dubio.posteriors.methods.ensemble import Ensemble
from dubio.posteriors.methods.head_ensemble import fit_heads
from dubio.posteriors.methods.kfold import KFold
from dubio.posteriors.methods.laplace import best_precision, fit_laplace, held_out_nll, searched
from dubio.posteriors.methods.laplace_lora import LaplaceLora
from dubio.posteriors.methods.mc_dropout import McDropout
from dubio.posteriors.methods.rank_dropout import RankDropout
from dubio.posteriors.methods.swag import Moments, Swag
from dubio.posteriors.methods.tfb import Tfb
from dubio.posteriors.registry import POSTERIORS, get_posterior
from dubio.posteriors.store import Stored, find_posteriors, load_posterior, save_posterior


def lora(members=1, seed=0, width=6, out=5, rank=3):
    g = torch.Generator().manual_seed(seed)
    return {
        "layer/x.a": torch.randn(members, rank, width, generator=g),
        "layer/x.b": torch.randn(members, out, rank, generator=g),
        "head/0.weight": torch.randn(members, 3, out, generator=g),
        "head/0.bias": torch.randn(members, 3, generator=g),
    }


def made():
    """One of each."""
    moments = Moments(3, (".a", ".b"))
    for seed in range(5):
        moments.add(lora(seed=seed))
    one = {f"mean|{name}": value for name, value in lora().items()}
    head = torch.nn.Sequential(torch.nn.Linear(5, 3)).eval()
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    laplace = fit_laplace(lora(), head, features, tau=2.0)
    deviation = {"deviation|layer/x.a": torch.full((1, 3, 6), 0.1)}
    curved = {"values|layer/x.a": torch.ones(1, 3, 6)[0], "values|layer/x.b": torch.ones(3, 5)}
    return {
        "blob": Blob({**one, **deviation}),
        "rank_dropout": RankDropout({**one, "log_variance|layer/x": torch.full((1, 3), -4.0)}),
        "heads": fit_heads(lora(), head, features, np.arange(40) % 3),
        "laplace_lora": LaplaceLora({**one, **curved}, {"structure": "diag", "tau": 2.0}),
        "ensemble": Ensemble({f"member|{name}": value for name, value in lora(10).items()}),
        "kfold": KFold({f"member|{name}": value for name, value in lora(10).items()}),
        "mc_dropout": McDropout(one, {"rate": 0.2}), "swag_lora": moments.posterior(),
        "swag_lora_xs": moments.posterior(), "tfb": Tfb.rotated(lora(), 0.1), "laplace": laplace,
    }  # fmt: skip


@pytest.mark.parametrize("name", POSTERIORS)
def test_every_posterior_draws_alike_from_one_seed_and_survives_the_disk(name, tmp_path):
    posterior = made()[name]
    assert isinstance(posterior, get_posterior(name).load())
    draws, again, other = posterior.draw(4, 1), posterior.draw(4, 1), posterior.draw(4, 2)
    assert {n: tuple(v.shape[1:]) for n, v in draws.items()} == {n: tuple(v.shape[1:]) for n, v in lora().items()}
    assert all(len(value) == 4 and torch.equal(value, again[n]) for n, value in draws.items())
    assert name in ("ensemble", "kfold", "heads") or any(not torch.equal(value, other[n]) for n, value in draws.items())
    assert any(not torch.equal(value[0], value[1]) for value in draws.values())
    save_posterior(tmp_path, Stored(name, posterior, {"form": "lora"}, {"base": "b"}, 4))
    assert find_posteriors(tmp_path) == [name]
    loaded = load_posterior(tmp_path, name)
    assert (loaded.samples, loaded.form, loaded.base) == (4, {"form": "lora"}, {"base": "b"})
    assert all(torch.equal(value, loaded.posterior.draw(4, 1)[n]) for n, value in draws.items())
    assert loaded.posterior.stored == posterior.stored > 0


def test_swag_moments_equal_numpy():
    g = np.random.default_rng(0)
    trajectory = g.normal(size=(7, 4)).cumsum(axis=0)
    moments = Moments(3, (".core",))
    for theta in trajectory:
        moments.add({"layer/x.core": torch.tensor(theta.reshape(1, 2, 2)), "head/0.bias": torch.tensor([[theta[0]]])})
    found = moments.posterior()
    np.testing.assert_allclose(found.tensors["mean|layer/x.core"].flatten(), trajectory.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.tensors["variance|layer/x.core"].flatten(), trajectory.var(axis=0), atol=1e-6)
    expected = [trajectory[t] - trajectory[: t + 1].mean(axis=0) for t in (4, 5, 6)]
    np.testing.assert_allclose(found.tensors["deviations|layer/x.core"].reshape(3, 4), expected, atol=1e-6)
    assert "variance|head/0.bias" not in found.tensors  # the head stays a point
    assert found.stored == 4 * (1 + 1 + 3) + 1


@pytest.mark.parametrize(("rank", "low"), [(0, False), (1, False), (2, True), (10, True)])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_swag_samples_have_the_covariance_of_the_formula(rank, low, scale):
    g = np.random.default_rng(1)
    moments = Moments(rank, (".core",))
    for theta in 0.3 * g.normal(size=(6, 3)).cumsum(axis=0):
        moments.add({"layer/x.core": torch.tensor(theta.reshape(1, 1, 3))})
    posterior = moments.posterior(scale)
    assert ("deviations|layer/x.core" in posterior.tensors) == low
    draws = posterior.draw(40_000)["layer/x.core"].flatten(1).double().numpy()
    variance = posterior.tensors["variance|layer/x.core"].flatten().double().numpy()
    covariance = np.diag(variance)
    if low:
        d = posterior.tensors["deviations|layer/x.core"].flatten(1).double().numpy()
        covariance = covariance + d.T @ d / (len(d) - 1)
    np.testing.assert_allclose(np.cov(draws.T), scale * covariance, atol=0.04 * scale * covariance.max())
    np.testing.assert_allclose(draws.mean(axis=0), posterior.tensors["mean|layer/x.core"].flatten(), atol=0.02)


def test_swag_before_any_collection_is_refused():
    with pytest.raises(DubioError, match="collected nothing"):
        Moments(2, (".core",)).posterior()
    with pytest.raises(DubioError, match="scale must be at least 0"):
        Swag({}, {"scale": -1.0}).draw(2)


def test_mc_dropout_variance_is_the_formula_of_one_layer():
    values, q = lora(), 0.3
    posterior = McDropout({f"mean|{name}": value for name, value in values.items()}, {"rate": q})
    draws = posterior.draw(30_000)
    x = torch.randn(6, generator=torch.Generator().manual_seed(5))
    out = (
        torch.einsum("sor,sri,i->so", draws["layer/x.b"].expand(30_000, -1, -1), draws["layer/x.a"], x).double().numpy()
    )
    product = (values["layer/x.b"][0] @ values["layer/x.a"][0]).double().numpy()
    columns = product * x.double().numpy()
    expected = q / (1 - q) * columns @ columns.T
    np.testing.assert_allclose(np.cov(out.T), expected, atol=0.05 * np.abs(expected).max())
    np.testing.assert_allclose(out.mean(axis=0), product @ x.double().numpy(), atol=0.2)
    with pytest.raises(DubioError, match="MC-dropout at rate 0"):
        posterior.with_facts(rate=0.0).draw(2)


def test_tfb_keeps_the_product_and_its_noise_is_isotropic():
    values, sigma = lora(), 0.2
    posterior = Tfb.rotated(values, sigma)
    at_zero = posterior.with_facts(sigma=0.0).draw(1)
    product = values["layer/x.b"][0] @ values["layer/x.a"][0]
    torch.testing.assert_close(at_zero["layer/x.b"][0] @ at_zero["layer/x.a"][0], product, atol=1e-5, rtol=0)
    d = torch.linalg.svdvals(values["layer/x.b"][0])
    torch.testing.assert_close(posterior.tensors["singular|layer/x.b"], d, atol=1e-5, rtol=0)
    draws = posterior.draw(20_000)
    spread = (draws["layer/x.a"] - at_zero["layer/x.a"]).std(dim=(0, 2))
    np.testing.assert_allclose(spread, sigma / d, rtol=0.02)
    # vec of the update's noise: sigma^2 times the projection onto the columns of B, for every input
    noise = (draws["layer/x.b"] @ draws["layer/x.a"] - product).double().numpy()
    u = np.linalg.svd(values["layer/x.b"][0].numpy())[0][:, :3]
    np.testing.assert_allclose(np.cov(noise[:, :, 2].T), sigma**2 * u @ u.T, atol=0.03 * sigma**2)


def test_tfb_search_finds_the_largest_sigma_within_the_tolerance():
    found = Tfb.rotated(lora()).searched(lambda p: 0.5 * (1 + p.fact("sigma") ** 2), tolerance=0.01, steps=25)
    assert found.fact("sigma") == pytest.approx(0.1, rel=1e-3)
    falling = Tfb.rotated(lora()).searched(lambda p: 0.5 - 0.1 * p.fact("sigma"), steps=20)
    assert falling.fact("sigma") == pytest.approx(1.0, rel=1e-3)  # a fall is no violation
    with pytest.raises(DubioError, match="needs a LoRA"):
        Tfb.rotated({"head/0.bias": torch.zeros(1, 3)})


def last_layer(seed=0, rows=120):
    g = np.random.default_rng(seed)
    torch.manual_seed(seed)
    head = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).eval()
    values = {f"head/{name}": value.detach().clone().unsqueeze(0) for name, value in head.state_dict().items()}
    features = g.normal(size=(rows, 4)).astype(np.float32)
    return head, values, features, g.integers(0, 3, rows)


def slow_curvature(head, features):
    """The generalised Gauss-Newton matrix of the last layer (weight and bias), row by row, class-major."""
    with torch.no_grad():
        phi = head[:2](torch.from_numpy(features)).double().numpy()
        p = torch.softmax(head(torch.from_numpy(features)).double(), dim=1).numpy()
    total = 0
    for x, q in zip(np.c_[phi, np.ones(len(phi))], p, strict=True):
        total = total + np.kron(np.diag(q) - np.outer(q, q), np.outer(x, x))
    return total


@pytest.mark.parametrize("structure", ["full", "diag"])
def test_laplace_draws_have_the_inverse_of_the_curvature_as_covariance(structure):
    head, values, features, _ = last_layer()
    posterior = fit_laplace(values, head, features, structure=structure, tau=3.0)
    precision = slow_curvature(head, features) + 3.0 * np.eye(21)
    covariance = np.linalg.inv(precision) if structure == "full" else np.diag(1 / np.diag(precision))
    draws = posterior.draw(60_000)
    flat = torch.cat([draws["head/2.weight"], draws["head/2.bias"].unsqueeze(2)], dim=2).flatten(1).double().numpy()
    np.testing.assert_allclose(np.cov(flat.T), covariance, atol=0.03 * covariance.max())
    assert torch.equal(draws["head/0.weight"][0], draws["head/0.weight"][5])


def test_laplace_kron_is_the_product_of_its_factors():
    head, values, features, _ = last_layer()
    posterior = fit_laplace(values, head, features, structure="kron", tau=3.0)
    with torch.no_grad():
        phi = head[:2](torch.from_numpy(features)).double().numpy()
        p = torch.softmax(head(torch.from_numpy(features)).double(), dim=1).numpy()
    phi = np.c_[phi, np.ones(len(phi))]
    precision = np.kron(np.diag(p.sum(axis=0)) - p.T @ p, phi.T @ phi / len(phi)) + 3.0 * np.eye(21)
    draws = posterior.draw(60_000)
    flat = torch.cat([draws["head/2.weight"], draws["head/2.bias"].unsqueeze(2)], dim=2).flatten(1).double().numpy()
    covariance = np.linalg.inv(precision)
    np.testing.assert_allclose(np.cov(flat.T), covariance, atol=0.03 * covariance.max())


def test_prior_precision_maximises_the_evidence_on_a_grid():
    head, values, features, labels = last_layer()
    spectrum = np.linalg.eigvalsh(slow_curvature(head, features)).clip(min=0)
    square = float(sum(values[f"head/2.{part}"].double().pow(2).sum() for part in ("weight", "bias")))
    found = best_precision(spectrum, square, -1.0)

    def evidence(tau):
        return -0.5 * tau * square - 0.5 * (np.log(spectrum + tau).sum() - len(spectrum) * np.log(tau))

    grid = np.geomspace(1e-4, 1e6, 5001)
    assert evidence(found) >= max(evidence(tau) for tau in grid) - 1e-6
    fitted = fit_laplace(values, head, features, structure="full", labels=labels)
    assert fitted.fact("tau") == pytest.approx(found, rel=1e-3)
    with pytest.raises(DubioError, match="needs labels"):
        fit_laplace(values, head, features)


def test_held_out_rows_choose_the_prior_precision_of_a_last_layer():
    head, values, features, labels = last_layer()
    posterior = fit_laplace(values, head, features[:20], structure="full", tau=1.0)
    held, truth = features[20:], labels[20:]
    nlls = held_out_nll(head, held, truth, 40)

    def slow(tau):
        draws = posterior.with_facts(tau=tau).draw(40)
        own = [{name.removeprefix("head/"): value[s] for name, value in draws.items()} for s in range(40)]
        p = torch.stack([functional_call(head, h, (torch.from_numpy(held),)).softmax(dim=1) for h in own]).mean(dim=0)
        return -float(p[range(len(truth)), truth].log().mean())

    for tau in (0.1, 1.0, 100.0):
        assert nlls([posterior.with_facts(tau=tau)])[0] == pytest.approx(slow(tau), abs=1e-4)
    best = searched(posterior, nlls, range(-3, 6))
    assert len(best.fact("search")) == 11
    assert slow(best.fact("tau")) == pytest.approx(min(found for _, found in best.fact("search")), abs=1e-4)


def test_the_whole_matrix_of_a_large_layer_is_refused(monkeypatch):
    head, values, features, _ = last_layer()
    monkeypatch.setattr("dubio.posteriors.methods.laplace.FULL", 20)
    with pytest.raises(DubioError, match="3 classes by 7 inputs is too large; use structure kron"):
        fit_laplace(values, head, features, structure="full", tau=1.0)


def test_damaged_posteriors_are_named(tmp_path):
    save_posterior(tmp_path, Stored("tfb", Tfb.rotated(lora(), 0.1), {"form": "lora"}, {}, 4))
    folder = tmp_path / "posteriors" / "tfb"
    for path in folder.iterdir():
        whole = path.read_bytes()
        for at in np.random.default_rng(0).integers(0, len(whole), 40):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            with pytest.raises(ArtifactError, match="cannot be read"):
                load_posterior(tmp_path, "tfb")
        path.write_bytes(whole)
    load_posterior(tmp_path, "tfb")
    (folder / "posterior.json").unlink()
    assert find_posteriors(tmp_path) == []
