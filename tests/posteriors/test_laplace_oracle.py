"""Last-layer Laplace against laplace-torch: the same precision matrices, and the same prior precision by evidence."""

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from dubio.posteriors.methods.laplace import fit_laplace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    laplace = pytest.importorskip("laplace", reason="laplace-torch is installed by requirements/oracles.txt")


def problem(bias, rows=120):
    torch.manual_seed(0)
    g = np.random.default_rng(0)
    head = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3, bias=bias)).eval()
    values = {f"head/{name}": value.detach().clone().unsqueeze(0) for name, value in head.state_dict().items()}
    return head, values, g.normal(size=(rows, 4)).astype(np.float32), g.integers(0, 3, rows)


def reference(head, features, labels, structure, tau):
    loader = DataLoader(TensorDataset(torch.from_numpy(features), torch.from_numpy(labels)), batch_size=len(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = laplace.Laplace(
            head, "classification", subset_of_weights="last_layer", hessian_structure=structure, prior_precision=tau
        )
        found.fit(loader)
    return found


def precision_of(posterior, tau, bias):
    """`[P, P]` from the stored spectrum, ordered as torch flattens a layer: weight by rows, then bias."""
    t = {name: value.double().numpy() for name, value in posterior.tensors.items() if "|" not in name}
    width = 6 + bias
    if posterior.fact("structure") == "full":
        whole = t["vectors"] @ np.diag(t["values"] + tau) @ t["vectors"].T
    elif posterior.fact("structure") == "diag":
        whole = np.diag(t["values"].ravel() + tau)
    else:
        inner = t["vectors"] @ np.diag(t["values"]) @ t["vectors"].T
        outer = t["vectors_out"] @ np.diag(t["values_out"]) @ t["vectors_out"].T
        whole = np.kron(outer, inner) + tau * np.eye(3 * width)
    at = np.arange(3 * width).reshape(3, width)
    order = np.concatenate([at[:, :6].ravel(), at[:, 6:].ravel()])
    return whole[np.ix_(order, order)]


@pytest.mark.parametrize(("structure", "bias"), [("full", True), ("full", False), ("diag", True), ("kron", False)])
def test_precision_equals_laplace_torch(structure, bias):
    """Its Kronecker factors treat the bias as a layer of its own, ours as one more input: compared without one."""
    head, values, features, labels = problem(bias)
    expected = reference(head, features, labels, structure, 3.0).posterior_precision
    if structure == "kron":
        expected = expected.to_matrix()
    expected = torch.diag(expected) if structure == "diag" else expected
    found = precision_of(fit_laplace(values, head, features, structure=structure, tau=3.0), 3.0, bias)
    np.testing.assert_allclose(found, expected.detach().double().numpy(), atol=2e-4)


@pytest.mark.parametrize(("structure", "bias"), [("full", True), ("diag", True), ("kron", False)])
def test_prior_precision_maximises_the_marginal_likelihood_of_laplace_torch(structure, bias):
    head, values, features, labels = problem(bias)
    tau = fit_laplace(values, head, features, structure=structure, labels=labels).fact("tau")
    other = reference(head, features, labels, structure, 1.0)

    def evidence(value):
        return float(other.log_marginal_likelihood(torch.tensor(value)))

    best = evidence(tau)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert best > evidence(tau * factor)
