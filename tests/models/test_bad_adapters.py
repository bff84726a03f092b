"""Adapters that must not be scored: each is refused in one line that names the reason."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from dubio.errors import ProofError
from dubio.models.adapter.files import RECORD, AdapterFiles, find_adapter, head_rows
from dubio.models.bases.base import base_hash, load_base
from dubio.models.loading import load
from models.tiny import CLASSES, adapter_folder, base_folder, loaded, refused, save_adapter, save_base, settings

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
QUERY = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_"


@pytest.fixture
def bert(tmp_path):
    """A sound adapter of one's own to spoil; the test below proves that it is sound."""
    return shutil.copytree(adapter_folder("bert"), tmp_path / "adapter")


def rewrite(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_the_copy_itself_is_accepted(bert):
    assert load(bert).hashes == loaded("bert").hashes


def test_missing_keys(bert):
    rewrite(bert, lambda t: [t.pop(f"{QUERY}{part}.weight") for part in "AB"])
    error = refused(bert, r"2 adapter keys are missing from adapter_model.safetensors: .*layer\.0\..*query\.lora_A")
    assert isinstance(error, ProofError)


def test_extra_keys(bert):
    rewrite(bert, lambda t: t.update({f"{QUERY.replace('layer.0', 'layer.7')}A.weight": torch.ones(4, 16)}))
    refused(bert, r"1 adapter keys have no place in the model: .*layer\.7\.")


def test_all_zero(bert):
    rewrite(bert, lambda t: t.update({key: value * 0 for key, value in t.items() if "lora_B" in key}))
    assert isinstance(refused(bert, "untrained"), ProofError)


def test_all_zero_on_the_head_alone(tmp_path):
    def untrain(adapted):
        [p.zero_() for name, p in adapted.named_parameters() if "lora_B" in name]

    config = LoraConfig(r=2, target_modules=["score"])
    refused(save_adapter(tmp_path, base_folder("llama", True), config, change=untrain), "untrained")


def test_not_a_number(bert):
    rewrite(bert, lambda t: t.update({f"{QUERY}B.weight": torch.full((16, 4), torch.nan)}))
    assert isinstance(refused(bert, "bert: the logits hold NaN or infinity"), ProofError)


def test_base_of_another_width(bert, tmp_path):
    wide = save_base(tmp_path / "wide", hidden_size=32, intermediate_size=64)
    refused(bert, r"adapter: trained on .*, does not fit .*wide: .*size mismatch", base=str(wide))


def test_base_of_another_depth(bert, tmp_path):
    deep = save_base(tmp_path / "deep", num_hidden_layers=3)
    refused(bert, r"6 adapter keys are missing.*layer\.2", base=str(deep))


def test_base_of_another_family(bert):
    refused(bert, "does not fit .*: LlamaForSequenceClassification has no bert", base=str(base_folder("llama")))
    refused(bert, "does not fit .*: ElectraForSequenceClassification has no bert", base=str(base_folder("electra")))


def record(folder, base, **changes):
    (folder / RECORD).write_text(json.dumps({"base_sha256": base_hash(str(base)), **changes}))


def test_another_base_of_the_same_shapes(bert, tmp_path):
    record(bert, base_folder("bert"))
    load(bert)
    other = save_base(tmp_path / "other", seed=5)
    refused(bert, "other is not the base that the adapter was trained on", base=str(other))


def test_merged_into_its_base(bert, tmp_path):
    record(bert, base_folder("bert"))
    model, tokenizer, _ = load_base(str(base_folder("bert")), CLASSES, "cpu")
    PeftModel.from_pretrained(model, bert).merge_and_unload().save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    refused(bert, r"merged is not the base .*the adapter merged into it", base=str(tmp_path / "merged"))
    assert load(tmp_path / "merged").kind == "none"  # alone it is a classifier like any other


@pytest.mark.parametrize(("family", "left_out"), [
    ("bert", "classifier.bias"), ("distilbert", "pre_classifier"), ("deberta", "pooler.dense"),
    ("modernbert-cls", "head.dense"), ("llama", "score.weight"),
])  # fmt: skip
def test_a_head_that_neither_base_nor_adapter_holds(family, left_out, tmp_path):
    """Without this, the part would be drawn at random at each load, and every proof would still pass."""
    folder = shutil.copytree(adapter_folder(family), tmp_path / "adapter")
    rewrite(folder, lambda t: [t.pop(key) for key in list(t) if f".{left_out}" in key])
    refused(folder, rf"{left_out}.* would be random; save it with modules_to_save")


def test_a_head_that_only_the_adapter_should_hold(tmp_path):
    folder = shutil.copytree(adapter_folder("bert", head=True), tmp_path / "adapter")
    rewrite(folder, lambda t: [t.pop(key) for key in list(t) if ".classifier." in key])
    refused(folder, r"does not fit .*'base_model.model.classifier.weight' is missing")


def test_head_rows_go_by_whole_names(tmp_path):
    def rows(**shapes):
        shapes = {f"base_model.model.{key.replace('__', '.')}": shape for key, shape in shapes.items()}
        return head_rows(AdapterFiles(tmp_path, "base", "LORA", shapes, "", {}))

    assert rows(pre_classifier__weight=(16, 16), classifier__weight=(3, 16)) == 3
    assert rows(classifier__dense__weight=(9, 9), classifier__out_proj__weight=(5, 9)) == 5
    assert rows(score__weight=(4, 9)) == 4
    assert rows(classifier__lora_A__weight=(4, 16)) is None


def test_weights_that_can_run_code(bert):
    (bert / WEIGHTS).rename(bert / "adapter_model.bin")
    refused(bert, "holds only adapter_model.bin, which can run code; save it with safe_serialization=True")
    (bert / "adapter_model.bin").unlink()
    refused(bert, "holds no adapter_model.safetensors")


@pytest.mark.parametrize("damage", [
    lambda raw: raw[: len(raw) // 2], lambda raw: raw[:5], lambda raw: b"", lambda raw: b"\xff" * 8 + raw[8:],
    lambda raw: raw[:8] + b"}" + raw[9:], lambda raw: raw + b"more",
])  # fmt: skip
def test_damaged_weights(bert, damage):
    (bert / WEIGHTS).write_bytes(damage((bert / WEIGHTS).read_bytes()))
    refused(bert, r"adapter_model.safetensors is damaged or cut short .*; save the adapter again")


@pytest.mark.parametrize("content", ["{", "[1]", "null", "\ud800"])
def test_damaged_config(bert, content):
    (bert / CONFIG).write_text(content, encoding="utf-8", errors="surrogatepass")
    refused(bert, r"adapter_config.json is not .*(JSON|UTF-8).*; save the adapter again")


def test_damaged_record(bert):
    (bert / RECORD).write_text('{"labels": ["a",')
    refused(bert, f"{RECORD} is not readable JSON")


def test_config_missing(bert):
    (bert / CONFIG).unlink()
    refused(bert, "holds adapter weights but no adapter_config.json")
    (bert / WEIGHTS).unlink()
    refused(bert, "holds neither an adapter nor a model")


@pytest.mark.parametrize("named", [None, "", "gone"])
def test_no_base_named(bert, named):
    settings(bert, base_model_name_or_path=named)
    refused(bert, "adapter_config.json names no base model; pass --base")
    assert load(bert, base=str(base_folder("bert"))).base == str(base_folder("bert"))


@pytest.mark.parametrize("kind", ["MAGIC", "gone", None])
def test_kind_that_peft_does_not_know(bert, kind):
    settings(bert, peft_type=kind)
    refused(bert, f"this peft knows no adapter of kind '{None if kind == 'gone' else kind}'")


def test_settings_are_part_of_the_adapter(bert):
    before = find_adapter(bert)
    settings(bert, base_model_name_or_path="elsewhere", peft_version="0.0.1")
    assert find_adapter(bert).sha256 == before.sha256
    settings(bert, lora_alpha=9)
    assert find_adapter(bert).sha256 != before.sha256


def test_labels_that_do_not_count_up(bert):
    record(bert, base_folder("bert"), labels=["no", "maybe", "yes"])
    assert load(bert).labels == ("no", "maybe", "yes")
    record(bert, base_folder("bert"), labels=["no", "yes"])
    refused(bert, "2 label names for a head of 3 classes")
