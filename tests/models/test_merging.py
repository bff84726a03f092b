"""Merged for speed, an adapter must compute what it computed unmerged; what cannot be merged is left as it is."""

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from dubio.models.loading import load
from dubio.models.merging import merge_for_inference
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
    for found, expected in zip(apart.run(padded(apart, "right")), before, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


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
