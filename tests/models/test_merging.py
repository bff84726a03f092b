"""Merged for speed, an adapter must compute what it computed unmerged; what cannot be merged is left as it is."""

import peft
import pytest
import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer

from dubio.errors import ProofError
from dubio.models.adapter.merging import merge_for_inference
from dubio.models.extraction import extract
from dubio.models.loading import load
from models.options import PLAIN, expected, make, snug
from models.tiny import PROMPTS, adapter_folder, base_folder, padded, save_adapter

KINDS = ("lora", "dora", "rslora", "per-layer ranks", "ia3", "lora on the head")


def unmerged(folder, monkeypatch, **options):
    with monkeypatch.context() as patch:
        patch.setattr("dubio.models.loading.merge_for_inference", lambda model: False)
        return load(folder, **options)


def layers(model):
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("kind", KINDS)
def test_merging_changes_nothing_but_rounding(family, kind, monkeypatch):
    apart = unmerged(adapter_folder(family, kind, True), monkeypatch)
    before = apart.run(padded(apart, "right"))
    weights = {name: value.clone() for name, value in apart.model.state_dict().items()}
    assert merge_for_inference(apart.model)
    assert all(layer.merged for layer in layers(apart.model))
    changed = [name for name, value in apart.model.state_dict().items() if not torch.equal(value, weights[name])]
    assert changed
    assert all("base_layer" in name for name in changed)
    for found, target in zip(apart.run(padded(apart, "right")), before, strict=True):
        torch.testing.assert_close(found, target, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts_have_nothing_to_merge(kind, monkeypatch):
    model = unmerged(adapter_folder("bert", kind, True), monkeypatch).model
    assert not merge_for_inference(model)


def test_plain_and_half_precision_models_are_left_alone(monkeypatch):
    plain = load(base_folder("bert", True)).model
    assert not merge_for_inference(plain)
    rough = unmerged(adapter_folder("bert"), monkeypatch, precision="bfloat16").model
    assert not merge_for_inference(rough)
    assert not any(layer.merged for layer in layers(rough))


def test_an_adapter_that_cannot_merge_still_loads(tmp_path, monkeypatch):
    """Midway through, one layer refuses: those before it are taken back."""
    model = unmerged(adapter_folder("bert"), monkeypatch)
    before = model.run(padded(model, "right"))[1]

    def refuse(**_):
        raise NotImplementedError

    monkeypatch.setattr(layers(model.model)[3], "merge", refuse)
    assert not merge_for_inference(model.model)
    assert not any(layer.merged for layer in layers(model.model))
    torch.testing.assert_close(model.run(padded(model, "right"))[1], before, atol=1e-5, rtol=1e-5)


def test_bfloat16_keeps_small_updates(tmp_path):
    """Cast first and merged then, an update below half a step of its weight would be lost."""

    def shrink(adapted):
        [p.mul_(1e-3) for name, p in adapted.named_parameters() if "lora_B" in name]

    config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=["query"], task_type="SEQ_CLS")
    folder = save_adapter(tmp_path, base_folder("bert", True), config, change=shrink)
    model = load(folder, precision="bfloat16")
    plain = load(base_folder("bert", True), precision="bfloat16")
    own = layers(model.model)[0].get_base_layer().weight
    other = plain.model.bert.encoder.layer[0].attention.self.query.weight
    assert own.dtype == torch.bfloat16
    assert not torch.equal(own, other)


REPEATED = [(0, 2), (0, 2)]


def test_layers_that_share_their_weights_are_not_merged(tmp_path, monkeypatch):
    """Each would add its own update to the weight of all."""
    folder = make(tmp_path / "a", snug("bert"), layer_replication=REPEATED)
    apart = unmerged(folder, monkeypatch)
    before = apart.run(padded(apart, "right"))[1]
    assert not merge_for_inference(apart.model)
    assert not any(layer.merged for layer in layers(apart.model))
    found = load(folder)
    torch.testing.assert_close(found.run(padded(found, "right"))[1], before)
    torch.testing.assert_close(
        torch.from_numpy(extract(found, PLAIN).logits), expected(snug("bert"), folder, PLAIN), atol=1e-5, rtol=1e-5
    )


def test_biases_over_layers_without_bias_load_unmerged(tmp_path):
    folder = make(tmp_path / "a", snug("llama"), lora_bias=True)
    model = load(folder)
    assert not any(layer.merged for layer in layers(model.model))
    torch.testing.assert_close(
        torch.from_numpy(extract(model, PLAIN).logits), expected(snug("llama"), folder, PLAIN), atol=1e-5, rtol=1e-5
    )


def test_a_merge_that_changes_the_answer_is_taken_back(monkeypatch):
    """Whatever the reason: a merge is kept where features and logits stay as they are."""
    folder = adapter_folder("bert")
    before = load(folder)
    real = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, name: 1.01 * real(self, name))
    found = load(folder)
    assert not any(layer.merged for layer in layers(found.model))
    torch.testing.assert_close(
        found.run(padded(found, "right"))[1], before.run(padded(before, "right"))[1], atol=1e-5, rtol=1e-5
    )


def test_a_merge_that_cannot_be_taken_back_is_refused(monkeypatch):
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, name: torch.randn(self.get_base_layer().weight.shape))
    with pytest.raises(ProofError, match="merging the adapter changed the model, and so did taking it out again"):
        load(adapter_folder("bert"))


def test_the_usual_adapter_is_merged():
    assert all(layer.merged for layer in layers(load(adapter_folder("bert")).model))
