"""Heads to JSON and arrays and back: every layer kind, custom modules, and what is refused."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from dubio.errors import DubioError
from dubio.heads import build_head, head_arrays, head_spec, load_head_arrays
from models.tiny import FAMILIES, loaded

HEADS = {
    "linear": lambda: nn.Linear(6, 3),
    "no bias": lambda: nn.Linear(6, 3, bias=False),
    "one in a sequence": lambda: nn.Sequential(nn.Linear(6, 3)),
    "roberta": lambda: nn.Sequential(nn.Dropout(0.2), nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 3)),
    "activations": lambda: nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.GELU(), nn.Linear(5, 5), nn.GELU(approximate="tanh"),
        nn.Linear(5, 5), nn.SiLU(), nn.Identity(), nn.Linear(5, 3),
    ),
    "norms": lambda: nn.Sequential(
        nn.LayerNorm(6, eps=1e-3), nn.Linear(6, 6), nn.LayerNorm(6, bias=False), nn.Linear(6, 3)
    ),
}  # fmt: skip


class Scaled(nn.Linear):
    """Computes something else than the layer that it derives from."""

    def forward(self, input):  # noqa: A002
        return 2 * super().forward(input)


CUSTOM = {
    "subclass": lambda: Scaled(6, 3),
    "subclass inside": lambda: nn.Sequential(nn.Linear(6, 6), Scaled(6, 3)),
    "unknown layer": lambda: nn.Sequential(nn.Linear(6, 6), nn.Softplus(beta=3), nn.Linear(6, 3)),
    "norm without weights": lambda: nn.Sequential(nn.LayerNorm(6, elementwise_affine=False), nn.Linear(6, 3)),
    "norm over two axes": lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.LayerNorm((2, 3)), nn.Flatten()),
}


def made(make):
    torch.manual_seed(0)
    head = make()
    for parameter in head.parameters():
        parameter.data.add_(torch.randn_like(parameter))  # away from ones and zeros
    return head.eval()


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", HEADS)
def test_round_trip(name):
    head = made(HEADS[name])
    spec = json.loads(json.dumps(head_spec(head)))
    again = build_head(spec)
    assert not again.training
    assert not torch.allclose(again(X), head(X))  # a fresh one
    load_head_arrays(again, head_arrays(head))
    assert torch.equal(again(X), head(X))
    assert head_spec(again) == spec
    assert all(array.dtype == np.float32 for array in head_arrays(head).values())


@pytest.mark.parametrize("name", CUSTOM)
def test_custom_modules_are_supplied_again(name):
    head, other = made(CUSTOM[name]), CUSTOM[name]()
    assert head_spec(head) == [{"layer": "custom"}]
    with pytest.raises(DubioError, match=r"custom layers; pass the module as head="):
        build_head(head_spec(head))
    again = build_head(head_spec(head), like=other)
    load_head_arrays(again, head_arrays(head))
    assert torch.equal(again(X), head(X))
    assert again is not other


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_of_every_family_need_no_module(family):
    head = loaded(family).head
    again = build_head(head_spec(head))
    load_head_arrays(again, head_arrays(head))
    z = torch.randn(4, 16, generator=torch.Generator().manual_seed(2))
    assert torch.equal(again(z), head(z))


def test_arrays_are_copies_in_float32():
    head = made(HEADS["linear"]).to(torch.bfloat16)
    arrays = head_arrays(head)
    assert set(arrays) == {"0.weight", "0.bias"}
    arrays["0.weight"][:] = 0
    assert head.weight.abs().min() > 0
    rebuilt = build_head(head_spec(head))
    load_head_arrays(rebuilt, head_arrays(head))
    assert torch.equal(rebuilt[0].weight, head.weight.float())


@pytest.mark.parametrize("spec", [
    [{"layer": "softplus"}], [{}], [{"layer": None}], [{"layer": "linear", "in": 3}], [{"layer": "dropout", "p": 7}],
    [{"layer": "linear", "in": "3", "out": 2, "bias": True}], [{"layer": "linear", "in": -3, "out": 2, "bias": True}],
    [{"layer": "norm", "size": 4, "eps": 1e-5}],
])  # fmt: skip
def test_damaged_specs(spec):
    with pytest.raises(DubioError, match=r"in a stored head|stored head's layers are damaged"):
        build_head(spec)


@pytest.mark.parametrize("change", [
    lambda a: a.pop("0.bias"), lambda a: a.update({"1.weight": a["0.weight"]}),
    lambda a: a.update({"0.weight": a["0.weight"][:, :2]}), lambda a: a.update({"0.bias": np.array(["x", "y", "z"])}),
])  # fmt: skip
def test_arrays_that_do_not_fit(change):
    head = made(HEADS["linear"])
    arrays = head_arrays(head)
    change(arrays)
    with pytest.raises(DubioError, match="the stored head does not fit its layers") as caught:
        load_head_arrays(build_head(head_spec(head)), arrays)
    assert "\n" not in str(caught.value)
