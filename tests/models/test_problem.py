"""Models of other problems than one class out of C are refused by what their settings say."""

import json
import shutil

import numpy as np
import peft
import pytest
import torch
import transformers as tf

from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.adapters.trainer import train_adapter
from dubio.models.loading import load
from models.tiny import CONFIGS, adapter_folder, base_folder, refused, save_adapter, save_base, settings, tokenizer


def edit(folder, **changes):
    path = folder / "config.json"
    facts = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**facts, **changes}))
    return folder


def token_model(folder, family):
    torch.manual_seed(0)
    config = CONFIGS[family]()
    config.num_labels = 3
    tf.AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
    return folder


def token_adapter(folder, base, task):
    model = tf.AutoModelForTokenClassification.from_pretrained(base, num_labels=3)
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(task_type=task, target_modules=["query", "value"], modules_to_save=["classifier"])
    )
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.requires_grad)
    adapted.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "why"), [
    ("multi_label_classification", "several of its classes may be right at once"), ("regression", "predicts numbers"),
])  # fmt: skip
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_problem_type_of_another_kind(family, kind, why, tmp_path):
    base = save_base(tmp_path / "base", family, head=True, problem_type=kind)
    refused(base, rf"problem_type {kind}: .*{why}")
    adapter = save_adapter(tmp_path / "adapter", base)
    refused(adapter, rf"problem_type {kind}: .*write .*single_label_classification.* into {adapter}/config.json")
    edit(adapter, problem_type="single_label_classification")  # the way out
    assert load(adapter).kind == "LORA"
    own = shutil.copytree(adapter_folder(family), tmp_path / "own")
    refused(edit(own, problem_type=kind), rf"problem_type {kind}")  # that the adapter itself says


def test_what_dubio_trains_is_one_class_whatever_its_base_was(tmp_path):
    base = save_base(tmp_path / "base", "bert", head=True, problem_type="multi_label_classification")
    rows = LabelledTexts(["yes", "no", "gate"] * 4, None, np.arange(12) % 3, "0")
    plan = TrainingPlan(epochs=3, batch_size=4, learning_rate=1e-2, max_length=16, show=False)
    train_adapter(str(base), ["a", "b", "c"], rows, rows, tmp_path / "adapter", plan)
    assert load(tmp_path / "adapter").labels == ("a", "b", "c")


@pytest.mark.parametrize(
    "family",
    ["bert", "llama", *(pytest.param(f, marks=pytest.mark.slow) for f in ("roberta", "modernbert-cls", "gpt2"))],
)
def test_a_whole_tagger_of_tokens(family, tmp_path):
    refused(token_model(tmp_path, family), r"is a \w+ForTokenClassification, which labels every token")


@pytest.mark.parametrize("architecture", ["BertForQuestionAnswering", "RobertaForMultipleChoice"])
def test_other_architectures(architecture, tmp_path):
    refused(edit(save_base(tmp_path, head=True), architectures=[architecture]), f"is a {architecture}, which ")


def test_an_adapter_of_a_tagger(tmp_path):
    adapter = token_adapter(tmp_path / "tagger", base_folder("bert"), "TOKEN_CLS")
    refused(adapter, "of task TOKEN_CLS, which labels every token")
    untold = token_adapter(tmp_path / "untold", base_folder("bert"), None)
    refused(untold, "is a BertForTokenClassification, which labels every token")
    edit(adapter, architectures=["BertForTokenClassification"])
    settings(adapter, task_type=None)
    refused(adapter, "is a BertForTokenClassification")


@pytest.mark.parametrize(("family", "head"), [("bert", True), ("llama", True), ("roberta", False)])
def test_an_adapter_that_only_says_it_tags_tokens(family, head, tmp_path):
    folder = shutil.copytree(adapter_folder(family, head=head), tmp_path / "adapter")
    settings(folder, task_type="TOKEN_CLS")
    assert load(folder).kind == "LORA"
