"""Every family, through `load` on a saved PEFT adapter: features, head and logits against peft alone."""

import pytest
import torch

from dubio.models.loading import load
from dubio.models.tokens.batching import pad, tokenize
from models.tiny import CLASSES, DECODERS, FAMILIES, TEXTS, adapter_folder, base_folder, loaded, padded, reference

each_family = pytest.mark.parametrize("family", FAMILIES)


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@each_family
def test_head_gives_the_logits_of_peft_itself(family):
    model = loaded(family)
    assert (model.kind, model.device, model.precision) == ("LORA", "cpu", "float32")
    for side in ("right", "left"):
        batch = padded(model, side)
        features, logits = model.forward(batch)
        expected = reference(base_folder(family), adapter_folder(family), batch)
        assert features.dtype == logits.dtype == torch.float32
        assert (features.shape, logits.shape) == ((len(TEXTS), 16), (len(TEXTS), CLASSES))
        close(model.head(features), expected)
        close(logits, expected)
        close(model.run(batch)[1], expected)
        assert expected.std(dim=0).min() > 0.05  # rows differ, so that equality means something


@each_family
def test_features_do_not_depend_on_the_batch(family):
    model = loaded(family)
    one_by_one = torch.cat([model.forward(padded(model, "right", [text]))[0] for text in TEXTS])
    for side in ("right", "left") if family in DECODERS else ("right",):
        batch = pad(tokenize(model, TEXTS, None), model, side)
        assert int(batch["attention_mask"].sum()) < batch["attention_mask"].numel()
        close(model.forward(batch)[0], one_by_one)
    shuffled = model.forward(padded(model, "right", TEXTS[::-1]))[0].flip(0)
    close(shuffled, one_by_one)


@each_family
def test_plain_classifier_without_adapter(family):
    model = loaded(family, None)
    assert (model.kind, model.labels) == ("none", ("LABEL_0", "LABEL_1", "LABEL_2"))
    batch = padded(model, "right")
    close(model.forward(batch)[1], reference(base_folder(family, head=True), None, batch))


@each_family
def test_bfloat16_forward_with_a_float32_head(family):
    exact, rough = loaded(family), load(adapter_folder(family), precision="bfloat16")
    assert {p.dtype for p in rough.model.parameters()} == {torch.bfloat16}
    for own, other in zip(exact.head.parameters(), rough.head.parameters(), strict=True):
        assert torch.equal(own, other)  # the head is taken before weights are rounded
    (z, logits), (z16, logits16) = (m.forward(padded(m, "right")) for m in (exact, rough))
    assert z16.dtype == logits16.dtype == torch.float32
    close(rough.head(z16), logits16)
    assert 0 < (z16 - z).abs().max() < 0.1 * z.abs().max()
    assert 0 < (logits16 - logits).abs().max() < 0.1 * logits.abs().max()


def test_the_model_is_frozen_and_the_head_its_own():
    model = load(adapter_folder("roberta"))
    assert not model.model.training
    assert not any(p.requires_grad for p in [*model.model.parameters(), *model.head.parameters()])
    before = model.run(padded(model, "right"))[1]
    for parameter in model.head.parameters():
        parameter.zero_()
    assert torch.equal(model.run(padded(model, "right"))[1], before)
