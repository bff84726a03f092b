"""What is seen of a base before its weights: adapters inside it, shards that are no safetensors, unknown families."""

import json
import shutil

import pytest
import transformers as tf

from dubio.models.bases.base_settings import reason_of
from dubio.models.loading import load
from models.hub import publish
from models.options import make, snug
from models.tiny import adapter_folder, base_folder, refused, save_adapter, settings, tokenizer


def test_an_adapter_inside_a_base(tmp_path, monkeypatch):
    """transformers puts it on by itself, and nothing would tell of it."""
    base = shutil.copytree(snug("bert"), tmp_path / "base")
    folder = make(tmp_path / "adapter", snug("bert"))
    refused(make(tmp_path / "x", snug("bert")), "holds no config.json", base=str(folder))
    shutil.copy(folder / "adapter_config.json", base)
    shutil.copy(folder / "adapter_model.safetensors", base)
    refused(folder, r"holds an adapter too \(adapter_config.json\), which transformers would put on it", base=str(base))
    name = publish(monkeypatch, tmp_path / "hub", "base", main=base)
    refused(folder, r"team/base holds an adapter too .*; name the base alone", base=name)


@pytest.mark.parametrize("named", ["pytorch_model.bin", "../elsewhere.safetensors", "/etc/passwd"])
def test_shards_that_are_no_safetensors_of_the_folder(named, tmp_path):
    base = shutil.copytree(base_folder("bert", True), tmp_path / "base")
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"classifier.bias": named}}))
    refused(base, "index.json names .* which is no safetensors file beside it; convert the model")


def test_shards_of_its_own(tmp_path):
    base = tmp_path / "base"
    model = tf.AutoModelForSequenceClassification.from_pretrained(base_folder("bert", True))
    model.save_pretrained(base, max_shard_size="10KB")
    tokenizer("bert").save_pretrained(base)
    assert len(list(base.glob("*.safetensors"))) > 1
    assert load(base).family == "bert"


def test_a_family_that_does_not_classify_text(tmp_path):
    tf.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16).save_pretrained(
        tmp_path
    )
    shutil.copy(base_folder("bert") / "model.safetensors", tmp_path)
    tokenizer("bert").save_pretrained(tmp_path)
    refused(adapter_folder("bert"), "transformers has no sequence classifier for its architecture", base=str(tmp_path))


def test_an_adapter_of_another_kind_of_model(tmp_path):
    folder = save_adapter(tmp_path / "a", base_folder("bert"))
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "adapter_model.safetensors")
    front = "base_model.model."
    save_file({k.replace(f"{front}classifier", f"{front}qa_outputs"): v for k, v in held.items()},
              folder / "adapter_model.safetensors")  # fmt: skip
    settings(folder, modules_to_save=["qa_outputs"])
    refused(folder, "has no qa_outputs, which the adapter changes; it belongs to another kind of model or head")


def test_somebody_elses_reason_is_told_whole():
    assert (
        reason_of(OSError("first half\n  (1) second half,\n(2) third"))
        == "OSError: first half (1) second half, (2) third"
    )
    assert reason_of(KeyError()) == "KeyError: no reason given"
    long = reason_of(ValueError("word " * 400))
    assert len(long) < 430
    assert long.endswith("word ...")
