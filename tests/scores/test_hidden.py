"""Densities of the head's hidden layer: torch's own spectral norm, MD of features made by hand, states, decoders."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from transformers.models.roberta.modeling_roberta import RobertaClassificationHead, RobertaConfig

from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.density.ddu import DDU
from dubio.scores.density.hidden_layers import of as hidden_layers
from dubio.scores.density.huq import HUQ
from dubio.scores.density.knn import KNN
from dubio.scores.density.md import MD
from dubio.scores.density.rde import RDE
from dubio.scores.density.rmd import RMD

DENSITIES = (MD, RMD, RDE, DDU, KNN)


def head_and_rows(count=300, d=10, classes=3, seed=0):
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Dropout(0.1), nn.Linear(d, 6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, classes)).eval()
    with torch.no_grad():
        head[1].weight.mul_(5)
    g = np.random.default_rng(seed)
    labels = g.integers(0, classes, count)
    features = (g.normal(size=(count, d)) + 2 * g.normal(size=(classes, d))[labels]).astype(np.float32)
    with torch.no_grad():
        logits = head(torch.from_numpy(features)).numpy()
    return head, Representations.of(features, logits, labels)


def by_hand(head, rows):
    """z' with the singular value by NumPy."""
    w, b = (p.detach().double().numpy() for p in (head[1].weight, head[1].bias))
    z = np.tanh(rows.features @ (w / np.linalg.svd(w, compute_uv=False)[0]).T + b)
    return Representations.of(z.astype(np.float32), rows.logits, rows.labels)


def test_it_is_what_enters_out_proj_under_torchs_spectral_norm():
    torch.manual_seed(0)
    config = RobertaConfig(hidden_size=12, num_labels=3, num_attention_heads=2)
    theirs = RobertaClassificationHead(config).eval()
    with torch.no_grad():
        theirs.dense.weight.mul_(40)
    plain = nn.Sequential(nn.Dropout(0.1), theirs.dense, nn.Tanh(), nn.Dropout(0.1), theirs.out_proj)
    own, z = hidden_layers(plain), torch.randn(5, 12)
    spectral_norm(theirs.dense, n_power_iterations=64)
    seen = []
    theirs.out_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    theirs(z[:, None])
    torch.testing.assert_close(own(z), seen[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", DENSITIES)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_density_of_the_hidden_layer_is_that_density_of_those_features(kind, normalize):
    head, rows = head_and_rows()
    hidden = kind.with_options({"space": "hidden", "normalize": normalize}, head=head).fit(rows)
    found, expected = by_hand(head, rows), kind.with_options({"normalize": normalize})
    np.testing.assert_allclose(hidden.score(rows), expected.fit(found).score(found), rtol=2e-3, atol=1e-4)
    assert not np.allclose(hidden.score(rows), kind.with_options({"normalize": normalize}).fit(rows).score(rows))
    again = kind.with_options({"space": "hidden", "normalize": normalize}).restore(hidden.state())  # without the head
    assert np.array_equal(again.score(rows), hidden.score(rows))


def test_what_is_derived_from_a_density_sees_what_it_sees():
    head, rows = head_and_rows()
    rmd = RMD.with_options({"space": "hidden"}, head=head).fit(rows)
    md = MD.with_options({"space": "hidden"}, head=head).fit(rows)
    assert rmd.inner.same_as(md)
    assert np.array_equal(rmd.score_with(rows, md.score(rows)), rmd.score(rows))
    wrong = rows.labels.copy()
    wrong[::7] = (wrong[::7] + 1) % 3
    held = Representations.of(rows.features, rows.logits, wrong)
    huq = HUQ.with_options({"space": "hidden"}, head=head).fit(rows, held)
    assert huq.inner.same_as(md)
    again = HUQ.with_options({"space": "hidden"}).restore(huq.state())
    assert np.array_equal(again.score(rows), huq.score(rows))


def test_a_head_without_a_dense_layer_is_seen_at_its_input():
    _, rows = head_and_rows()
    bare = MD.with_options({"space": "hidden"}, head=nn.Linear(10, 3)).fit(rows)
    assert np.array_equal(bare.score(rows), MD().fit(rows).score(rows))


def test_heads_that_cannot_be_seen_into_are_refused():
    _, rows = head_and_rows()
    with pytest.raises(DubioError, match="pass the classification head"):
        MD.with_options({"space": "hidden"}).fit(rows)
    odd = nn.Sequential(nn.Linear(10, 4), nn.PReLU(), nn.Linear(4, 3))
    with pytest.raises(DubioError, match="custom layers; leave space=hidden out"):
        MD.with_options({"space": "hidden"}, head=odd).fit(rows)
