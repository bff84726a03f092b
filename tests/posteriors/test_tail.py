"""The last block looks at one token of each row where no more is needed: the same numbers, for fewer products."""

import pytest
import torch
from tiny_runs import parameters, rows

from dubio.models.extraction import pad, tokenize
from dubio.posteriors.engine import StackEngine
from dubio.posteriors.stack import Layout
from dubio.posteriors.tail import tail_of

MLP = {"llama": "q_proj,gate_proj,down_proj", "qwen3": "v_proj,up_proj,down_proj", "gpt2": "c_attn,c_fc"}


@pytest.mark.parametrize("own_rows", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", MLP)
def test_of_a_decoder_the_last_token_alone_gives_the_same_features_and_gradients(family, side, own_rows, monkeypatch):
    """Adapters inside the shortened part too, rows of unequal lengths, three samples."""
    made = parameters(family, penalty_targets=MLP[family].split(","))
    start, _ = made.start((0, 1, 2)), torch.manual_seed(0)
    values = {name: (value + 0.1 * torch.randn_like(value)).requires_grad_(True) for name, value in start.items()}
    tokens = tokenize(made.host, rows(6).texts, None)
    batch = pad({key: kept * (3 if own_rows else 1) for key, kept in tokens.items()}, made.host, side)
    lengths = []
    module = tail_of(made.host.model).module
    handle = module.register_forward_hook(lambda _, args, out: lengths.append((args[0].shape[1], out.shape[1])))

    def told():
        engine = StackEngine(made.host.model, made.host.site, made.stack(values), made.host.inputs)
        features = engine.features(batch, Layout(3), own_rows)
        wanted = features.square().sum()
        return features, torch.autograd.grad(wanted, [*values.values()], allow_unused=True)

    features, gradients = told()
    monkeypatch.setattr("dubio.posteriors.engine.tail_of", lambda _: None)
    expected, wanted = told()
    handle.remove()
    assert lengths == [(1, 1), (batch["input_ids"].shape[1],) * 2]
    torch.testing.assert_close(features, expected, atol=1e-6, rtol=1e-5)
    seen = [(found, own) for found, own in zip(gradients, wanted, strict=True) if own is not None]
    assert len(seen) >= 2 * len(made.targets)
    for found, own in seen:
        torch.testing.assert_close(found, own, atol=1e-5 * max(1.0, float(own.abs().max())), rtol=1e-4)


@pytest.mark.parametrize("family", ["deberta", "modernbert-cls"])
def test_a_family_that_looks_at_more_has_no_tail(family):
    assert tail_of(parameters(family).host.model) is None
