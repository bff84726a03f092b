"""The proofs fail where they should: models that compute something else than their head says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dubio.errors import ArtifactError, ProofError
from dubio.models.adapter.files import find_adapter
from dubio.models.checks.load_checks import TEXTS, check_fingerprint, fingerprint, prove
from dubio.models.head_location import effective, find_site
from dubio.models.loading import load
from models.tiny import adapter_folder, base_folder, loaded, save_adapter, save_base


class Wrapped(nn.Module):
    """A classifier whose output is changed behind the head's back."""

    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.config, self.change = inner, inner.config, change

    def forward(self, **inputs):
        return self.change(self.inner, inputs)


def spoiled(family, change):
    model = loaded(family, None)
    return replace(model, model=Wrapped(model.model, change))


def scaled(inner, inputs):
    out = inner(**inputs)
    out.logits = out.logits * 1.01
    return out


def scaled_on_the_left(inner, inputs):
    out = inner(**inputs)
    padded_left = not bool(inputs["attention_mask"][:, 0].all())
    out.logits = out.logits * (2 if padded_left else 1)
    return out


def leaking(inner, inputs):
    """Looks at padding as if it were text."""
    return inner(**{**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])})


def past_the_head(inner, inputs):
    out = inner.base_model(input_ids=inputs["input_ids"])
    out.logits = out[0][:, 0, :3]
    return out


def broken(inner, inputs):
    raise IndexError("index out of range in self\nand a second line")


@pytest.mark.parametrize(("family", "change", "reason"), [
    ("bert", scaled, r"bert: head\(features\) differs from the logits by 0.0\d+ .* padded on the right"),
    ("llama", scaled_on_the_left, r"llama: head\(features\) differs .* padded on the left"),
    ("bert", leaking, r"features change by [\d.]+ of the largest with padding on the right"),
    ("bert", past_the_head, "the model goes past its head"),
    ("bert", broken, "a batch of 8 texts does not run: IndexError: index out of range in self$"),
])  # fmt: skip
def test_head_proof_fails(family, change, reason):
    prove(spoiled(family, lambda inner, inputs: inner(**inputs)), None)  # the wrapper itself is innocent
    with pytest.raises(ProofError, match=reason) as caught:
        prove(spoiled(family, change), None)
    assert "\n" not in str(caught.value)


def test_a_head_read_wrongly():
    model = loaded("roberta")
    prove(model, None)
    wrong = nn.Sequential(*model.head)
    wrong[2] = nn.ReLU()  # where RoBERTa has tanh
    with pytest.raises(ProofError, match="does not read this head rightly"):
        prove(replace(model, site=replace(model.site, head=wrong)), None)


@pytest.fixture
def unmerged(monkeypatch):
    """A loaded adapter as it was when it was proven."""
    monkeypatch.setattr("dubio.models.loading.merge_for_inference", lambda model: False)
    return load(adapter_folder("bert"))


def test_merged_layers_are_seen(unmerged):
    files = find_adapter(adapter_folder("bert"))
    prove(unmerged, files)
    unmerged.model.merge_adapter()
    with pytest.raises(ProofError, match="the adapter is merged into its base"):
        prove(unmerged, files)


def test_the_effect_proof_leaves_the_adapter_on_and_frozen(unmerged):
    with unmerged.model.disable_adapter():
        without = fingerprint(unmerged)
    before = fingerprint(unmerged)
    assert np.abs(before - without).max() > 0.01
    prove(unmerged, find_adapter(adapter_folder("bert")))
    np.testing.assert_array_equal(fingerprint(unmerged), before)
    assert not any(p.requires_grad for p in unmerged.model.parameters())


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_fingerprint(kind, tmp_path):
    model = loaded("bert", kind, head=True)
    stored = fingerprint(model)
    assert stored.shape == (len(TEXTS), 3)
    check_fingerprint(load(adapter_folder("bert", kind, head=True)), stored)
    check_fingerprint(model, stored + 1e-6)
    other = load(save_adapter(tmp_path / "other", base_folder("bert", head=True), kind, seed=2))
    with pytest.raises(ArtifactError, match=r"belongs to another adapter: its fingerprint rows differ by \d"):
        check_fingerprint(other, stored)
    with pytest.raises(ArtifactError, match="differ by inf"):
        check_fingerprint(model, stored[:, :2])
    with pytest.raises(ArtifactError, match="differ by nan"):
        check_fingerprint(model, stored * float("nan"))


def test_fingerprint_across_precisions(tmp_path):
    exact, rough = loaded("bert"), load(adapter_folder("bert"), precision="bfloat16")
    check_fingerprint(rough, fingerprint(exact))
    check_fingerprint(exact, fingerprint(rough), "bfloat16")
    with pytest.raises(ArtifactError):
        check_fingerprint(exact, fingerprint(rough), "float32")
    other = load(save_adapter(tmp_path, base_folder("bert"), seed=2), precision="bfloat16")
    with pytest.raises(ArtifactError):
        check_fingerprint(other, fingerprint(exact))


class Head(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        self.config = loaded("bert", None).model.config
        for name, part in parts.items():
            setattr(self, name, part)


@pytest.mark.parametrize("parts", [
    {}, {"classifier": nn.Bilinear(2, 2, 2)}, {"pooler": nn.Linear(2, 2), "classifier": nn.Bilinear(2, 2, 2)},
    {"pre_classifier": nn.Linear(2, 2)}, {"head": nn.Linear(2, 2), "classifier": nn.Bilinear(2, 2, 2)},
])  # fmt: skip
def test_heads_that_nobody_knows(parts):
    with pytest.raises(ProofError, match="no classification head known in Head"):
        find_site(Head(**parts))


def test_activation_that_cannot_be_copied(tmp_path):
    folder = save_base(tmp_path, "electra", head=True)
    model = load(folder).model
    model.classifier.activation = nn.Hardswish()
    with pytest.raises(ProofError, match="activation 'Hardswish' is not one that dubio can copy"):
        find_site(model)


def test_effective_leaves_the_model_alone(monkeypatch):
    monkeypatch.setattr("dubio.models.loading.merge_for_inference", lambda model: False)
    model = load(adapter_folder("bert", "lora on the head", head=True))
    wrapped = model.site.module
    before = {name: value.clone() for name, value in wrapped.state_dict().items()}
    merged = effective(wrapped)
    assert type(merged) is nn.Linear
    delta = merged.weight - wrapped.base_layer.weight
    low_rank = wrapped.lora_B["default"].weight @ wrapped.lora_A["default"].weight * wrapped.scaling["default"]
    torch.testing.assert_close(delta, low_rank)
    assert all(torch.equal(before[name], value) for name, value in wrapped.state_dict().items())
