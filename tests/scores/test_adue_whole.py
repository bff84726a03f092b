"""AdUE as a whole against a slow loop: same candidates, same choice, same head; and a head as transformers has it."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from slow_adue import as_rows, balanced, one_by_one
from torch import nn

from dubio.containers import Representations, concatenate
from dubio.errors import DubioError
from dubio.models.extraction import Extraction, extract
from dubio.models.head_location import find_site
from dubio.models.loading import load
from dubio.scores.base import fold_of
from dubio.scores.learned.adue import AdUE
from dubio.scores.learned.adue_stack import Recipe, Trial, _Anchored, train_stack
from dubio.scores.learned.stacked_head import StackedHead
from models.tiny import adapter_folder
from synthetic import planted

GRID = {"learning_rates": (2e-2, 5e-3), "epochs": (2, 3), "alphas": (0.1,), "betas": (0.01, 0.5), "batch_size": 64}
TRIALS = [Trial(*point) for point in product(*(GRID[k] for k in ("learning_rates", "epochs", "alphas", "betas")))]
RECIPE = Recipe(batch_size=64)
CASES = [
    ("train", {}), ("calibration", {}), ("both", {}), ("train", {"scaled": True}), ("train", {"balance": "weights"}),
    ("train", {"balance": "resample"}),
]  # fmt: skip


def slow_adue(head, fixed, held_out, test, fit, options):
    """(chosen trial, epoch, U of the test rows) by loops over folds, trials and epochs, with scikit-learn's AUC."""
    recipe, how = replace(RECIPE, scaled=options.get("scaled", False)), options.get("balance", "none")
    folds, errors = fold_of(held_out), held_out.errors
    base = 1 - torch.softmax(torch.from_numpy(held_out.logits).double(), 1).amax(1).numpy()

    def tables(fold):
        kept = held_out.take(folds != fold) if fold is not None else held_out
        return {"train": fixed, "calibration": kept, "both": concatenate([kept, fixed])}[fit]

    gains = {}
    for fold in range(5):
        at = folds == fold
        watch = torch.from_numpy(held_out.features[at])
        for trial in TRIALS:
            for epoch, u in one_by_one(head, balanced(tables(fold), how), trial, recipe, watch).items():
                gain = roc_auc_score(errors[at], u) - roc_auc_score(errors[at], base[at])
                gains.setdefault((trial, epoch), []).append(gain)
    stops = {t: max(range(1, t.epochs + 1), key=lambda e, t=t: np.mean(gains[t, e])) for t in TRIALS}
    best = max(TRIALS, key=lambda t: np.mean(gains[t, stops[t]]))
    found = gains[best, stops[best]]
    least = np.mean(found) - np.std(found, ddof=1) / np.sqrt(5)
    near = [t for t in TRIALS if np.mean(gains[t, stops[t]]) >= least]
    chosen = max(near, key=lambda t: (t.beta, t.alpha, -t.learning_rate, -t.epochs))
    # the final fit puts train rows first, as concatenated there
    rows = {"train": [fixed], "calibration": [held_out], "both": [fixed, held_out]}[fit]
    watch = torch.from_numpy(test.features)
    u = one_by_one(head, balanced(concatenate(rows), how), chosen, recipe, watch)[stops[chosen]]
    return chosen, stops[chosen], u.numpy()


@pytest.mark.parametrize(("fit", "options"), CASES)
def test_choice_and_scores_equal_a_slow_loop(fit, options):
    fixed, head = planted(340, flip=1.5, seed=1)  # torch's OneCycleLR divides by 0 at ten steps: not 5 batches
    held_out, test = planted(250, flip=1.5, seed=2)[0], planted(100, flip=1.5, seed=3)[0]
    method = AdUE.with_options({**GRID, "fit": fit, **options}, head=head).fit(fixed, held_out)
    trial, epoch, u = slow_adue(head, fixed, held_out, test, fit, options)
    assert Trial(*(method.facts_[key] for key in ("learning_rate", "epochs", "alpha", "beta"))) == trial
    assert method.facts_["stopped_after"] == epoch
    np.testing.assert_allclose(method.score(test), u, atol=2e-5)


def dense_head():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


def test_where_each_initialisation_starts():
    """The ablations of the paper: the same layers with fresh weights, or one fresh linear layer; seeded."""
    head = dense_head()
    features = planted(50)[0].features
    with torch.no_grad():
        rows = Representations.of(features, head(torch.from_numpy(features)), np.arange(50) % 3)
    starts = {}
    for init in ("head", "random_head", "random_linear"):
        one, two, other = (
            AdUE.with_options({"init": init, "seed": seed}, head=head)._starting_head(rows).state_dict()
            for seed in (1, 1, 2)
        )
        assert all(torch.equal(one[key], two[key]) for key in one)
        assert all(torch.equal(one[key], other[key]) for key in one) == (init == "head")
        starts[init] = one
    own = head.state_dict()
    assert all(torch.equal(starts["head"][key], own[key]) for key in own)
    assert starts["random_head"].keys() == own.keys()
    assert not any(torch.equal(starts["random_head"][key], own[key]) for key in own)
    assert {key: tuple(value.shape) for key, value in starts["random_linear"].items()} == {
        "0.weight": (3, 12), "0.bias": (3,)
    }  # fmt: skip


def test_the_anchor_has_no_gradient_at_the_start():
    """At the copied head the L2-SP term and its gradient are 0, however heavy it is."""
    table, head = planted(64)
    rows = as_rows(table)
    stack = StackedHead(head, 2)
    start = {name: p.detach().clone() for name, p in stack.parameters.items()}
    anchored = _Anchored(stack, start, torch.zeros(2).double(), torch.tensor([0.0, 1e6]).double())
    target = (rows.errors, torch.zeros(64), rows.weights)

    def gradients():
        generator = torch.Generator()
        return list(anchored.gradients(rows.features, target, RECIPE, generator))

    for gradient, name in zip(gradients(), stack.parameters, strict=True):
        without, heavy = gradient.unbind(stack.copy_dim(name))
        assert torch.equal(without, heavy)
        assert float(without.abs().max()) > 0
    name = next(iter(stack.parameters))
    stack.parameters[name] = stack.parameters[name] + 1e-3  # and away from it the pull is 2 beta times the way
    moved = gradients()[0]
    without, heavy = moved.unbind(stack.copy_dim(name))
    torch.testing.assert_close(heavy - without, torch.full_like(without, 2e6 * 1e-3), rtol=1e-3, atol=1e-2)


def test_a_heavy_anchor_holds_the_head_where_it_was():
    """Not to the bit: Adam's first steps are as long as the learning rate, whatever the gradient."""
    fixed, head = planted(300, flip=1.5, seed=1)
    start = head.weight.detach().clone()
    moved = []
    for beta in (0.0, 1e3):
        _, stack = train_stack(head, as_rows(fixed), [Trial(1e-2, 10, 0.0, beta)], RECIPE)
        moved.append(float((stack.single()["weight"] - start).abs().max()))
    assert moved[1] < 0.1 * moved[0]


def test_a_head_of_transformers_is_copied_whole():
    """On RoBERTa's own head: features that extraction stored give the model's logits through the copy."""
    model = load(adapter_folder("roberta"))
    texts = ["the film was late", "yes", "no idea what the wonderful little gate was", "42"] * 20
    rows = extract(model, texts, how=Extraction(show=False))
    copied = AdUE(head=model.head)._starting_head(rows)
    assert [type(layer).__name__ for layer in copied] == ["Dropout", "Linear", "Tanh", "Dropout", "Linear"]
    inner = model.model.get_base_model()
    with torch.no_grad():
        features = torch.from_numpy(rows.features)
        own = inner.classifier(features[:, None]).float()  # the dummy sequence axis: it picks token 0 itself
        torch.testing.assert_close(copied(features), own, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(rows.logits, own.numpy(), rtol=1e-5, atol=1e-5)
    assert find_site(inner).pooling == "first"


class Noisy(nn.Module):
    """A head of no known layers, with dropout that draws from torch's global generator."""

    def __init__(self, linear):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.3), linear

    def forward(self, x):
        return self.linear(self.drop(x))


def test_a_custom_head_with_dropout_is_seeded_and_comes_back():
    train, linear = planted(300, flip=1.5, seed=1)
    held_out, test = planted(200, flip=1.5, seed=2)[0], planted(50, flip=1.5, seed=3)[0]
    head, fits = Noisy(linear).eval(), []
    for seed in (0, 1):
        torch.manual_seed(seed)  # the global generator must not matter, nor be left elsewhere
        before = torch.get_rng_state()
        fits.append(AdUE.with_options(GRID, head=head).fit(train, held_out))
        assert torch.equal(torch.get_rng_state(), before)
    assert fits[0].score(test).tobytes() == fits[1].score(test).tobytes()
    smooth = AdUE.with_options(GRID, head=linear).fit(train, held_out)
    assert not np.array_equal(smooth.score(test), fits[0].score(test))  # so dropout was on in training
    state = fits[0].state()
    assert state.facts["head"] == [{"layer": "custom"}]
    again = AdUE.with_options(GRID, head=head).restore(state)
    assert again.score(test).tobytes() == fits[0].score(test).tobytes()
    with pytest.raises(DubioError, match="pass the module"):
        AdUE.with_options(GRID).restore(state)


def test_out_of_fold_scores_are_those_of_the_rows_asked_for():
    train, head = planted(300, flip=1.5, seed=1)
    held_out, other = planted(200, flip=1.5, seed=2)[0], planted(200, flip=1.5, seed=4)[0]
    method = AdUE.with_options(GRID, head=head).fit(train, held_out)
    honest = method.out_of_fold(train, held_out)
    copied = Representations.of(held_out.features.copy(), held_out.logits.copy(), held_out.labels.copy())
    np.testing.assert_array_equal(method.out_of_fold(train, copied), honest)
    for rows in (other, held_out.take(np.arange(200)[::-1]), replace(held_out, labels=(held_out.labels + 1) % 3)):
        with pytest.raises(DubioError, match="calibration rows of the last fit only"):
            method.out_of_fold(train, rows)
    with pytest.raises(DubioError, match="last fit only"):
        AdUE.with_options(GRID, head=head).restore(method.state()).out_of_fold(train, held_out)
