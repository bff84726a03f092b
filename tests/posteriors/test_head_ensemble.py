"""An ensemble of heads on features: against scikit-learn on the same bootstrap samples, and what must hold of it."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

from dubio.errors import DubioError
from dubio.measures import log_mean, mutual_information
from dubio.posteriors.methods.head_ensemble import fit_heads

BODY = {"layer/x.a": torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(0))}


def rows(count, seed=0, width=8):
    g = np.random.default_rng(seed)
    labels = g.integers(0, 3, count)
    centres = 0.7 * np.random.default_rng(9).normal(size=(3, width))
    return (centres[labels] + g.normal(size=(count, width))).astype(np.float32), labels


def predicted(posterior, head, features, members):
    draws = posterior.draw(members)
    own = [{n[5:]: v[m] for n, v in draws.items() if n.startswith("head/")} for m in range(members)]
    with torch.no_grad():
        logits = torch.stack([torch.func.functional_call(head, h, (torch.from_numpy(features),)) for h in own])
    return torch.log_softmax(logits.double(), dim=2).numpy()


def nll(log_p, labels):
    return -log_p[..., np.arange(len(labels)), labels].mean(axis=-1)


def test_linear_heads_do_as_well_as_logistic_regressions_on_the_same_draws():
    (z, y), (other, truth) = rows(400), rows(600, 1)
    head = torch.nn.Sequential(torch.nn.Linear(8, 3)).eval()
    found = predicted(fit_heads(BODY, head, z, y, members=6), head, other, 6)
    drawn = np.random.default_rng(0).integers(0, 400, (6, 400))
    expected = np.stack([LogisticRegression(max_iter=2000).fit(z[d], y[d]).predict_log_proba(other) for d in drawn])
    assert np.abs(nll(found, truth) - nll(expected, truth)).max() < 0.05
    assert (found.argmax(axis=2) == expected.argmax(axis=2)).mean() > 0.95
    assert nll(log_mean(found), truth) <= nll(found, truth).mean()
    assert (mutual_information(found) > 0).all()


def test_deep_heads_stop_before_they_overfit_and_come_back_alike():
    (z, y), (other, truth) = rows(60, width=20), rows(400, 1, width=20)
    noisy = np.where(np.random.default_rng(3).random(60) < 0.4, (y + 1) % 3, y)
    head = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3)).eval()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    made = fit_heads(BODY, head, z, noisy, members=5, seed=1)
    assert all(torch.equal(value, head.state_dict()[name]) for name, value in before.items())
    assert max(made.fact("best_epoch")) < 100
    assert nll(log_mean(predicted(made, head, other, 5)), truth) < np.log(3)
    again = fit_heads(BODY, head, z, noisy, members=5, seed=1).draw(5)
    assert all(torch.equal(value, again[name]) for name, value in made.draw(5).items())
    draws = made.draw(4)
    assert draws["layer/x.a"].stride(0) == 0  # one body
    assert not torch.equal(draws["head/0.weight"][0], draws["head/0.weight"][1])


def test_the_rows_that_pick_an_epoch_are_those_that_were_not_drawn():
    """On rows that no head has drawn, the kept epoch is the best one; on all rows a later one would be."""
    (z, y) = rows(200, width=30)
    noisy = np.random.default_rng(5).permutation(y)  # nothing to learn: out of bag, the first epochs are the best
    head = torch.nn.Sequential(torch.nn.Linear(30, 64), torch.nn.Tanh(), torch.nn.Linear(64, 3)).eval()
    made = fit_heads(BODY, head, z, noisy, members=4)
    assert max(made.fact("best_epoch")) < 30
    log_p = torch.from_numpy(predicted(made, head, z, 4))
    assert cross_entropy(log_p.mean(dim=0), torch.from_numpy(noisy)) > 0.5


def test_bad_input_is_refused():
    z, y = rows(400)
    head = torch.nn.Sequential(torch.nn.Linear(8, 3))
    with pytest.raises(DubioError, match="too few to train heads"):
        fit_heads(BODY, head, z[:10], y[:10])
    with pytest.raises(DubioError, match="at least 2 heads"):
        fit_heads(BODY, head, z, y, members=1)
    with pytest.raises(DubioError, match="has 2 members, not 3; ask for at most so many"):
        fit_heads(BODY, head, z, y, members=2).draw(3)
