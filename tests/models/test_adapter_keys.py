"""Adapters saved in other ways than by peft's save_pretrained: read where peft reads them, else told by their name."""

import shutil

import peft
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from dubio.models.adapter.keys import check_keys, stored_name
from dubio.models.loading import load
from models.tiny import CLASSES, adapter_folder, base_folder, loaded, padded, refused, settings

WEIGHTS = "adapter_model.safetensors"
FRONT = "base_model.model."


def renamed(target, change, family="bert", head=False):
    folder = shutil.copytree(adapter_folder(family, head=head), target)
    save_file({change(key): value for key, value in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    return folder


def as_in_memory(key):
    for part in ("lora_A", "lora_B"):
        key = key.replace(f"{part}.weight", f"{part}.default.weight")
    return key


def test_the_adapters_name_default_in_its_keys(tmp_path):
    """peft finds them, and so does dubio."""
    folder = renamed(tmp_path / "a", as_in_memory)
    assert "lora_A.default.weight" in " ".join(load_file(folder / WEIGHTS))
    batch = padded(loaded("bert"), "right")
    torch.testing.assert_close(load(folder).run(batch)[1], loaded("bert").run(batch)[1])


@pytest.mark.parametrize(("change", "reason"), [
    (lambda key: key.replace(FRONT, f"{FRONT}_orig_mod."), r"saved from inside torch.compile .*call save_pretrained"),
    (lambda key: f"_orig_mod.{key}", r"saved from inside torch.compile \(_orig_mod in .*model._orig_mod"),
    (lambda key: f"module.{key}", r"saved from inside DistributedDataParallel .*model.module"),
    (lambda key: key.replace(FRONT, f"{FRONT}module."), r"saved from inside DistributedDataParallel .*model.module"),
    (lambda key: key.replace("layer.", "layer._fsdp_wrapped_module."), r"saved from inside FSDP .*gather"),
    (lambda key: key.replace("attention.", "_checkpoint_wrapped_module.attention."), "activation checkpointing"),
    (lambda key: key.replace("classifier.", "classifier.modules_to_save.default."),
     r"classifier.modules_to_save.default.* name of the model in memory, and peft reads .*classifier\.(bias|weight);"),
    (lambda key: key.replace("lora_A.weight", "lora_A.news.weight"), "keys hold its name, 'news', as in .*save it"),
    (lambda key: key.removeprefix(FRONT), "lack peft's base_model.model in front; save it again with peft's save_pre"),
])  # fmt: skip
def test_what_peft_does_not_find(change, reason, tmp_path):
    refused(renamed(tmp_path / "a", change), reason)


@pytest.mark.parametrize("shape", [(0,), (0, 16)])
def test_shards_of_zero_3(shape, tmp_path):
    folder = shutil.copytree(adapter_folder("bert"), tmp_path / "a")
    held = load_file(folder / WEIGHTS)
    save_file({key: torch.zeros(shape) if "lora_" in key else value for key, value in held.items()}, folder / WEIGHTS)
    refused(folder, r"12 tensors of the adapter are empty, such as .*: DeepSpeed ZeRO-3 or FSDP saved one shard of it")


def test_modules_called_module_or_default_are_no_wrappers(tmp_path):
    check_keys(
        tmp_path, {f"{FRONT}encoder.module.lora_A.weight": (2, 4), f"{FRONT}encoder.module.lora_B.weight": (4, 2)}
    )
    check_keys(tmp_path, {"prompt_embeddings": (5, 16)})
    assert stored_name("a.lora_A.default.weight") == "a.lora_A.weight"
    assert stored_name("a.magnitude.default") == "a.magnitude"


@pytest.mark.parametrize("task", ["CAUSAL_LM", "SEQ_2_SEQ_LM"])
def test_a_causal_lms_adapter_with_a_head(task, tmp_path):
    """Older transformers let people train a classifier under this task; what is stored is LoRA and the head."""
    folder = shutil.copytree(adapter_folder("llama"), tmp_path / "a")
    settings(folder, task_type=task)
    batch = padded(loaded("llama"), "right")
    torch.testing.assert_close(load(folder).run(batch)[1], loaded("llama").run(batch)[1])


def test_the_oracle_that_peft_leaves_out_wrapped_keys(tmp_path):
    """Why the wrapper is told: peft alone loads such an adapter without a word, and as if untrained."""
    folder = renamed(tmp_path / "a", lambda key: key.replace(f"{FRONT}bert", f"{FRONT}_orig_mod.bert"), head=True)
    tf.logging.set_verbosity_error()
    base = tf.AutoModelForSequenceClassification.from_pretrained(base_folder("bert", True), num_labels=CLASSES)
    with pytest.warns(UserWarning, match="Found missing adapter keys"):
        adapted = peft.PeftModel.from_pretrained(base, folder)
    assert not any(value.any() for name, value in adapted.named_parameters() if "lora_B" in name)
    refused(folder, "saved from inside torch.compile")
