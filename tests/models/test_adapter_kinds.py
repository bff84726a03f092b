"""Every kind of adapter, saved by peft and proven by `load`: against peft alone, and prompts against whole texts."""

import warnings

import peft
import pytest
import torch
from safetensors.torch import load_file

from dubio.errors import DubioError
from dubio.models.loading import load
from dubio.models.tokens.batching import pad, tokenize
from models.tiny import (
    DECODERS,
    FAMILIES,
    KINDS,
    PROMPTS,
    TEXTS,
    adapter_folder,
    base_folder,
    loaded,
    padded,
    reference,
    save_adapter,
)  # fmt: skip

CACHED = ("bert", "roberta", "electra", *DECODERS)  # families that take a prefix of keys and values


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("family", ["bert", "electra", "deberta", "llama", "gpt2"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("lora", *PROMPTS)])
def test_changed_layers(family, kind):
    model = loaded(family, kind, head=True)
    assert model.kind == ("IA3" if kind == "ia3" else "LORA")
    for side in ("right", "left"):
        batch = padded(model, side)
        features, logits = model.forward(batch)
        expected = reference(base_folder(family, head=True), adapter_folder(family, kind, head=True), batch)
        close(logits, expected)
        close(model.head(features), expected)


def test_kinds_are_what_they_say():
    stored = {kind: load_file(adapter_folder("bert", kind, True) / "adapter_model.safetensors") for kind in KINDS[:6]}
    ranks = {len(value) for key, value in stored["per-layer ranks"].items() if "lora_A" in key}
    assert ranks == {2, 4}
    assert any("magnitude" in key for key in stored["dora"])
    assert any("classifier.lora_A" in key for key in stored["lora on the head"])


def test_adapter_on_the_head_alone():
    config = peft.LoraConfig(r=2, target_modules=["score"])
    folder = save_adapter(base_folder("llama", True).parent / "head-only", base_folder("llama", True), config)
    model = load(folder)
    plain = loaded("llama", None)
    (z, logits), (plain_z, plain_logits) = (m.forward(padded(m, "right")) for m in (model, plain))
    assert torch.equal(z, plain_z)
    assert (logits - plain_logits).abs().max() > 0.01
    close(model.head(z), logits)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in DECODERS])
@pytest.mark.parametrize("kind", ["prompt", "p-tuning"])
def test_prompts_in_front_of_encoders(family, kind):
    model = loaded(family, kind, head=True)
    batch = padded(model, "right")
    features, logits = model.forward(batch)
    close(logits, reference(base_folder(family, head=True), adapter_folder(family, kind, head=True), batch))
    close(model.head(features), logits)


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("kind", ["prompt", "p-tuning"])
def test_prompts_in_front_of_decoders(family, kind):
    """Row by row, for on padded batches the base takes embedded padding for text."""
    model = loaded(family, kind, head=True)
    rows = [padded(model, "right", [text]) for text in TEXTS]
    expected = torch.cat([reference(base_folder(family, True), adapter_folder(family, kind, True), b) for b in rows])
    for side in ("right", "left"):
        close(model.forward(pad(tokenize(model, TEXTS, None), model, side))[1], expected)


@pytest.mark.parametrize("family", CACHED)
def test_prefix_tuning_is_proven(family):
    model = loaded(family, "prefix", head=True)
    assert model.kind == "PREFIX_TUNING"
    features, logits = model.forward(padded(model, "right"))
    close(model.head(features), logits)
    without = loaded(family, None).forward(padded(model, "right"))[0]
    assert (features - without).abs().max() > 0.01


@pytest.mark.parametrize("family", DECODERS)
def test_a_prefix_of_a_texts_keys_and_values_is_that_text(family, tmp_path):
    """The oracle: a prefix holding what `front` leaves in the cache must act as `front` written out."""
    plain, front = loaded(family, None), "nobody was "
    ids = torch.tensor(plain.tokenizer([front])["input_ids"])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache = plain.model.base_model(ids, use_cache=True)[1]
    layers = [tensor[0].transpose(0, 1).flatten(1) for layer in cache.layers for tensor in (layer.keys, layer.values)]

    def copy(adapted):
        adapted.prompt_encoder["default"].embedding.weight.copy_(torch.cat(layers, dim=1))

    config = peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=ids.shape[1])
    model = load(save_adapter(tmp_path, base_folder(family, head=True), config, change=copy))
    whole = []
    for text in TEXTS:
        joined = torch.cat([ids, padded(plain, "right", [text])["input_ids"]], dim=1)
        whole.append(plain.forward({"input_ids": joined, "attention_mask": torch.ones_like(joined)})[0])
    for side in ("right", "left"):
        close(model.forward(padded(model, side))[0], torch.cat(whole))


@pytest.mark.parametrize("family", ["distilbert", "deberta", "modernbert-cls"])
def test_prefix_where_the_architecture_takes_none(family):
    with pytest.raises(DubioError, match="takes no prefix of keys and values"):
        load(adapter_folder(family, "prefix", head=True))
