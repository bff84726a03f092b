"""The last block looks at one token of each row where no more is needed: the same numbers, for fewer products.

Compared in float64, where equal algebra agrees to 1e-9 whatever the processor's kernels: float32 gradients of a sum
over tokens cancel, and how much of them is rounding depends on the machine.
"""

import pytest
import torch
from tiny_runs import parameters, rows

from dubio.models.tokens.batching import pad, tokenize
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.last_token import tail_of
from dubio.posteriors.engine.stack import Layout

MLP = {
    "llama": "q_proj,gate_proj,down_proj", "qwen2": "k_proj,up_proj", "qwen3": "v_proj,up_proj,down_proj",
    "gpt2": "c_attn,c_fc",
}  # fmt: skip


def told(made, values, batch, own_rows=False, recompute=False):
    """(features, gradients of the parameters that are met) of three samples."""
    engine = StackEngine(made.host.model, made.host.site, made.stack(values), made.host.inputs, recompute=recompute)
    features = engine.features(batch, Layout(3), own_rows)
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))  # a norm's square sum is constant
    return features, torch.autograd.grad((features * weights).sum(), [*values.values()], allow_unused=True)


def values_of(made):
    torch.manual_seed(0)
    made.host.model.double()
    start = made.start((0, 1, 2))
    return {
        name: (value + 0.1 * torch.randn_like(value)).double().requires_grad_(True) for name, value in start.items()
    }


def assert_alike(found, expected):
    torch.testing.assert_close(found[0], expected[0], atol=1e-6, rtol=1e-6)  # features leave in float32
    seen = [(own, other) for own, other in zip(found[1], expected[1], strict=True) if other is not None]
    assert len(seen) > 2
    for own, other in seen:
        largest = float(other.abs().max())
        assert largest > 1e-4
        torch.testing.assert_close(own, other, atol=1e-9 * largest, rtol=0)


@pytest.mark.parametrize("own_rows", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", MLP)
def test_of_a_decoder_the_last_token_alone_gives_the_same_features_and_gradients(family, side, own_rows, monkeypatch):
    """Adapters inside the shortened part too, rows of unequal lengths, three samples; the blocks run again as well."""
    made = parameters(family, penalty_targets=MLP[family].split(","))
    values, tokens = values_of(made), tokenize(made.host, rows(18 if own_rows else 6).texts, None)
    batch, lengths = pad(tokens, made.host, side), []
    module = tail_of(made.host.model).module
    handle = module.register_forward_hook(lambda _, args, out: lengths.append((args[0].shape[1], out.shape[1])))
    found, again = told(made, values, batch, own_rows), told(made, values, batch, own_rows, recompute=True)
    assert set(lengths) == {(1, 1)}
    monkeypatch.setattr("dubio.posteriors.engine.engine.tail_of", lambda _: None)
    expected = told(made, values, batch, own_rows)
    handle.remove()
    assert lengths[-1] == (batch["input_ids"].shape[1],) * 2
    assert_alike(found, expected)
    assert_alike(again, expected)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_of_an_encoder_the_first_token_alone_gives_the_same_features_and_gradients(family, monkeypatch):
    made = parameters(family)
    values, batch, lengths = values_of(made), pad(tokenize(made.host, rows(6).texts, None), made.host), []
    module = tail_of(made.host.model).module
    handle = module.register_forward_hook(lambda _, __, out: lengths.append(out.shape[1]))
    found = told(made, values, batch)
    monkeypatch.setattr("dubio.posteriors.engine.engine.tail_of", lambda _: None)
    expected = told(made, values, batch)
    handle.remove()
    assert lengths == [1, batch["input_ids"].shape[1]]
    assert_alike(found, expected)


@pytest.mark.parametrize("family", ["deberta", "modernbert-cls", "distilbert"])
def test_a_family_that_looks_at_more_has_no_tail(family):
    assert tail_of(parameters(family).host.model) is None
