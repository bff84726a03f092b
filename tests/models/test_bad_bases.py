"""Bases, devices and options that must be refused, and what a base is known by."""

import json
import shutil

import huggingface_hub.constants
import pytest
import torch
import transformers as tf
from test_bad_adapters import refused, settings

from dubio.errors import DubioError, ProofError
from dubio.models.bases.base import base_hash, check_device, has_bfloat16, load_base
from dubio.models.loading import load
from models.tiny import TEXTS, adapter_folder, base_folder, loaded, padded, save_base, tokenizer


@pytest.fixture
def base(tmp_path):
    return shutil.copytree(base_folder("bert", head=True), tmp_path / "base")


@pytest.mark.parametrize(("path", "reason"), [
    ("/nowhere/adapter", "there is no adapter folder /nowhere/adapter"), ("./adapter", "there is no adapter folder"),
    ("a/b/c", "there is no adapter folder a/b/c"), ("nobody/has-this", "no local folder and could not be fetched"),
])  # fmt: skip
def test_nothing_there(path, reason):
    refused(path, reason)


@pytest.mark.parametrize(("name", "reason"), [
    ("/nowhere/base", "there is no base model folder /nowhere/base"), ("~/base", "there is no base model folder"),
    ("nobody/has-this", "cannot load the base model nobody/has-this"), ("/nowhere/x.gguf", "no base model file"),
])  # fmt: skip
def test_no_such_base(name, reason):
    refused(adapter_folder("bert"), reason, base=name)


def test_base_without_safetensors(base):
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    refused(base, "holds no safetensors weights; convert them")
    (base / "config.json").unlink()
    refused(adapter_folder("bert"), "holds no config.json", base=str(base))


@pytest.mark.parametrize(("file", "damage"), [
    ("model.safetensors", lambda raw: raw[:-100]), ("model.safetensors", lambda raw: raw[:8] + b"x" + raw[9:]),
    ("config.json", lambda raw: raw[:-5]), ("config.json", lambda raw: b'{"model_type": "unheard-of"}'),
    ("tokenizer.json", lambda raw: raw[:-50]),
])  # fmt: skip
def test_damaged_base(base, file, damage):
    (base / file).write_bytes(damage((base / file).read_bytes()))
    refused(base, "cannot load the base model .*: .*Error|is not readable JSON|is damaged or cut short")


def test_damaged_gguf(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(40))
    refused(adapter_folder("llama"), r"cannot load the base model .*m.gguf", base=str(tmp_path / "m.gguf"))


def test_a_body_is_no_classifier(base):
    refused(base_folder("bert"), "is no adapter and no classifier: classifier.bias is missing")
    refused(base, "is a whole model, not an adapter, so it takes no base", base=str(base))


def test_a_regression(tmp_path):
    refused(save_base(tmp_path, head=True, num_labels=1), "single output")


def test_a_head_that_dubio_does_not_know(tmp_path):
    config = tf.XLNetConfig(vocab_size=40, d_model=16, n_layer=1, n_head=2, d_inner=16, pad_token_id=0)
    tf.XLNetForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer("bert").save_pretrained(tmp_path)
    assert isinstance(refused(tmp_path, "no classification head known in XLNetForSequenceClassification"), ProofError)


def test_tokens_that_the_model_cannot_embed(tmp_path):
    refused(save_base(tmp_path, head=True, vocab_size=10), r"tokenizer has \d+ tokens and the model 10")


def test_tokenizer_without_tokens_for_any_text(tmp_path):
    """An empty sequence cannot be run; the reason must not be torch's."""
    folder = save_base(tmp_path / "base", "llama", head=True)
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["normalizer"] = {"type": "Replace", "pattern": {"Regex": ".*"}, "content": ""}
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}))
    refused(folder, "base: the tokenizer knows hardly a word of an ordinary sentence in any script")


@pytest.mark.parametrize(("options", "reason"), [
    ({"precision": "float16"}, "unknown precision 'float16'; choose one of float32, bfloat16"),
    ({"device": "tpu-v9"}, "unknown device 'tpu-v9'"), ({"device": "meta"}, "device 'meta' is not supported"),
    ({"max_length": 0}, "max length 0 leaves no room"), ({"max_length": 3}, "needs 4 tokens or more"),
])  # fmt: skip
def test_options(options, reason):
    refused(adapter_folder("bert"), reason, **options)


def test_cuda_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(adapter_folder("bert"), "device 'cuda' was asked for, but this machine has no CUDA device", device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_device("cuda:0")
    with pytest.raises(DubioError, match=r"device 'cuda:1' was asked for, but this machine has 1 of them"):
        check_device("cuda:1")


def test_bfloat16_hardware_is_asked_for(monkeypatch):
    for able in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"amx_bf16": able})
        assert has_bfloat16("cpu") is able


def test_length_of_a_row(tmp_path):
    assert loaded("bert").max_length == 80
    assert load(adapter_folder("bert"), max_length=20).max_length == 20
    assert load(adapter_folder("bert"), max_length=80).max_length == 80
    with pytest.raises(DubioError, match="max length 81 is more than this model reads; give 80 tokens or less"):
        load(adapter_folder("bert"), max_length=81)
    # RoBERTa's positions start behind its padding index; a prompt takes positions of its own.
    assert loaded("roberta").max_length == 79
    prompted = loaded("gpt2", "prompt", head=True)
    assert prompted.max_length == 75
    ids = torch.full((1, 75), 5)
    assert prompted.forward({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0].shape == (1, 16)


def test_padding_is_what_the_tokenizer_says(tmp_path):
    """A config that names another padding token would make a decoder pool over padding."""
    model = load(save_base(tmp_path, "llama", head=True, pad_token_id=77))
    assert model.model.config.pad_token_id == model.tokenizer.pad_token_id == 0
    batch = padded(model, "right")
    torch.testing.assert_close(model.forward(batch)[1], model.run(batch)[1])


def test_tokenizer_without_padding(tmp_path):
    folder = save_base(tmp_path, "gpt2", head=True, pad_token_id=None)
    facts = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**facts, "pad_token": None}))
    model = load(folder)
    assert model.tokenizer.pad_token == model.tokenizer.eos_token == "[SEP]"


def test_the_adapters_own_tokenizer_is_taken(tmp_path):
    folder = shutil.copytree(adapter_folder("bert"), tmp_path / "adapter")
    swapped = tokenizer("bert")
    swapped.add_tokens(["yes indeed"])
    swapped.save_pretrained(folder)
    model = load(folder)
    assert model.tokenizer("yes indeed")["input_ids"] == [2, len(swapped) - 1, 3]
    assert model.hashes["tokenizer"] != loaded("bert").hashes["tokenizer"]


def test_base_hash_goes_by_weights(base, tmp_path):
    before = base_hash(str(base))
    assert base_hash(str(shutil.copytree(base, tmp_path / "copy"))) == before
    assert base_hash(str(base / "model.safetensors")) != before  # a single file, as a .gguf is
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:-1])
    assert base_hash(str(base)) != before


def test_by_hub_id_from_the_local_cache(tmp_path, monkeypatch):
    """As after a download: adapter and base by name, without a network, and the base known by the same hash."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name, source in (("base", base_folder("bert")), ("adapter", adapter_folder("bert"))):
        (tmp_path / f"models--team--{name}" / "refs").mkdir(parents=True)
        (tmp_path / f"models--team--{name}" / "refs" / "main").write_text("abc123")
        shutil.copytree(source, tmp_path / f"models--team--{name}" / "snapshots" / "abc123")
    settings(tmp_path / "models--team--adapter" / "snapshots" / "abc123", base_model_name_or_path="team/base")
    model, local = load("team/adapter"), loaded("bert")
    assert (model.base, model.hashes) == ("team/base", local.hashes)
    assert torch.equal(model.forward(padded(model, "right"))[1], local.forward(padded(local, "right", TEXTS))[1])


def test_label_names_replace_the_bases_own(base):
    model, _, missing = load_base(str(base), ["x", "y", "z"], "cpu")
    assert (model.config.id2label, missing) == ({0: "x", 1: "y", 2: "z"}, [])
    _, _, missing = load_base(str(base), 5, "cpu")
    assert missing == ["classifier.bias", "classifier.weight"]  # a head of another size does not count
