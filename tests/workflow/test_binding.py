"""An artifact opens on the model of its fit, however that was stored, and on no other: what differs is named.

Each change is made where the eight fingerprint texts do not look, and it is seen that they do not see it.
"""

import json
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

import dubio
from dubio.artifacts.store import load_artifact, save_artifact
from dubio.errors import ArtifactError
from dubio.models.adapter.files import RECORD
from dubio.models.checks.identity import tokens_sha256
from dubio.models.checks.load_checks import check_fingerprint
from dubio.models.loading import load
from dubio.workflow.binding import bound_facts, changes
from dubio.workflow.opening import UnboundWarning, open_artifact
from models.tiny import CLASSES, WORDS, save_adapter, save_base

LABELS = ["red", "green", "blue"]


@dataclass(frozen=True)
class Place:
    """base, adapter: folders, of which the adapter's names the base and holds what was fitted."""

    base: Path
    adapter: Path

    def model(self, **options):
        return load(self.adapter, **options)

    def edit(self, path, change):
        """A JSON file, changed by a function."""
        facts = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(change(facts)), encoding="utf-8")


@pytest.fixture(scope="module", params=["bert", "llama"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bound")
    base = save_base(folder / "base", request.param)
    place = Place(base, save_adapter(folder / "adapter", base))
    (place.adapter / RECORD).write_text(json.dumps({"labels": LABELS}))
    tf.AutoTokenizer.from_pretrained(base).save_pretrained(place.adapter)
    model, g = place.model(), np.random.default_rng(0)
    texts = [" ".join(g.choice(WORDS, g.integers(2, 9))) for _ in range(160)]
    rows = replace(dubio.extract(model, texts), labels=g.integers(0, CLASSES, 160))
    dubio.save(dubio.fit(None, rows, methods=["softmax_response"]), model, place.adapter)
    return place


@pytest.fixture
def place(made, tmp_path):
    """A copy to change; its adapter names its own base."""
    copied = Place(shutil.copytree(made.base, tmp_path / "base"), shutil.copytree(made.adapter, tmp_path / "adapter"))
    copied.edit(
        copied.adapter / "adapter_config.json", lambda facts: {**facts, "base_model_name_or_path": str(copied.base)}
    )
    return copied


def opened(place, model=None):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnboundWarning)
        return open_artifact(place.adapter, place.model() if model is None else model)


def refused(place, words, model=None, *, unseen=True):
    model = place.model() if model is None else model
    if unseen:  # by the texts of the fingerprint
        check_fingerprint(model, load_artifact(place.adapter)[0].fingerprint)
    with pytest.raises(ArtifactError) as caught:
        opened(place, model)
    assert str(caught.value).startswith(f"the artifact belongs to another model: there is a difference in {words}")
    assert str(caught.value).endswith("; put back what it was fitted with, or run `dubio fit` again")


def swapped_words(facts):
    """Two words that the fingerprint texts do not have change places in the vocabulary."""
    vocabulary = facts["model"]["vocab"]
    one, two = ("yes", "no") if "yes" in vocabulary else ("$", "%")
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    return facts


def rows_of(tokens, base):
    """Numbers of tokens that no fingerprint text has."""
    return [
        tokens.convert_tokens_to_ids(word) for word in (("yes", "no") if "yes" in tokens.get_vocab() else ("$", "%"))
    ]


def edit_base(base, change):
    path = base / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def test_it_opens_where_it_was_fitted(place):
    assert set(opened(place).bound) == {"weights", "head"}


def test_another_base(place):
    rows = rows_of(tf.AutoTokenizer.from_pretrained(place.base), place.base)

    def change(tensors):
        name = next(name for name in tensors if "word_embeddings" in name or "embed_tokens" in name)
        tensors[name][rows[0]] += 0.5
        return tensors

    edit_base(place.base, change)
    refused(place, "the weights of the base; put back")


def test_another_adapter(place):
    save_adapter(place.adapter, place.base, seed=5)
    refused(place, "the adapter; put back", unseen=False)


def test_settings_of_the_adapter(place):
    place.edit(place.adapter / "adapter_config.json", lambda facts: {**facts, "lora_alpha": facts["lora_alpha"] * 2})
    refused(place, "the adapter; put back", unseen=False)


def test_another_tokenizer(place):
    place.edit(place.adapter / "tokenizer.json", swapped_words)
    refused(place, "the tokenizer (it cuts texts into other tokens); put back")


def test_another_config(place):
    facts = json.loads((place.base / "config.json").read_text())
    name = "layer_norm_eps" if "layer_norm_eps" in facts else "rms_norm_eps"
    place.edit(place.base / "config.json", lambda facts: {**facts, name: facts[name] * 1.1})
    refused(place, f"the config ({name}: {facts[name]}, now {facts[name] * 1.1}); put back")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (LABELS[::-1], "the order of the label names (red, green, blue; now blue, green, red)"),
        (["red", "green", "violet"], "the label names (red, green, blue; now red, green, violet)"),
    ],
)
def test_other_label_names(place, names, words):
    (place.adapter / RECORD).write_text(json.dumps({"labels": names}))
    refused(place, words)


def test_another_head(place):
    model = place.model()
    head = model.site.head
    with torch.no_grad():
        next(head.parameters()).mul_(1 + 1e-4)
    refused(place, "the classification head; put back", model, unseen=False)


def test_several_at_once(place):
    place.edit(place.adapter / "tokenizer.json", swapped_words)
    (place.adapter / RECORD).write_text(json.dumps({"labels": LABELS[::-1]}))
    refused(place, "the order of the label names (red, green, blue; now blue, green, red) and in the tokenizer (")


def test_the_same_base_in_another_folder_and_saved_again(place, tmp_path):
    shutil.copytree(place.base, tmp_path / "copy")
    opened(place, place.model(base=str(tmp_path / "copy")))
    again = tmp_path / "again"
    tf.AutoModel.from_pretrained(place.base).save_pretrained(again, max_shard_size="4KB")
    assert len(list(again.glob("*.safetensors"))) > 1
    tf.AutoTokenizer.from_pretrained(place.base).save_pretrained(again)
    model = place.model(base=str(again))
    assert model.hashes["base"] != place.model().hashes["base"]
    opened(place, model)
    edit = again / "model.safetensors.index.json"
    shard = again / next(iter(json.loads(edit.read_text())["weight_map"].values()))
    tensors = load_file(shard)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] += 0.3
    save_file(tensors, shard, metadata={"format": "pt"})
    refused(place, "the weights of the base", place.model(base=str(again)), unseen=False)


def test_a_config_that_another_transformers_wrote_again(place, monkeypatch):
    def later(facts):
        facts.pop("use_cache", None)
        return {**facts, "transformers_version": "9.0", "hidden_dropout_prob": 0.3, "problem_type": None}

    place.edit(place.base / "config.json", later)
    opened(place)
    place.edit(place.base / "config.json", lambda facts: {**facts, "a_new_setting": 1})
    refused(place, "the config (a_new_setting: none, now 1)")
    monkeypatch.setattr("transformers.__version__", "9.0")  # which knows it by itself
    opened(place)


def test_a_tokenizer_that_was_saved_again(place):
    """What tells one file from another, and no token: the decoder, and how a batch was padded last."""

    def change(facts):
        return {**facts, "decoder": {"type": "Fuse"} if facts["decoder"] is None else facts["decoder"],
                "truncation": None, "padding": None, "version": "1.0"}  # fmt: skip

    before = place.model()
    place.edit(place.adapter / "tokenizer.json", change)
    tf.AutoTokenizer.from_pretrained(place.adapter).save_pretrained(place.adapter)
    opened(place)
    assert before.hashes["adapter"] == place.model().hashes["adapter"]


def test_what_a_tokenizer_does_is_compared_where_its_files_differ(place):
    model = place.model()
    artifact = replace(opened(place), model={**opened(place).model, "tokenizer_sha256": "of another version"})
    assert changes(artifact, model) == []
    model.tokenizer.truncation_side = "left"
    assert changes(artifact, model) == ["the tokenizer (it cuts texts into other tokens)"]
    assert tokens_sha256(model) != tokens_sha256(place.model())


def test_an_adapter_that_another_peft_wrote_again(place):
    place.edit(place.adapter / "adapter_config.json", lambda facts: {**facts, "a_new_one": None, "peft_version": "9"})
    weights = load_file(place.adapter / "adapter_model.safetensors")
    save_file(weights, place.adapter / "adapter_model.safetensors", metadata={"format": "pt", "by": "another"})
    assert place.model().hashes["adapter"] != load_artifact(place.adapter)[0].model["adapter_sha256"]
    opened(place)


def merged_copy(place, folder):
    base = tf.AutoModelForSequenceClassification.from_pretrained(place.base, num_labels=CLASSES)
    base.config.pad_token_id = 0
    base.config.id2label = dict(enumerate(LABELS))
    base.config.label2id = {name: i for i, name in enumerate(LABELS)}
    peft.PeftModel.from_pretrained(base, place.adapter).merge_and_unload().save_pretrained(folder)
    tf.AutoTokenizer.from_pretrained(place.adapter).save_pretrained(folder)
    return load(folder)


def test_a_merged_copy_is_the_same_model_and_that_of_another_adapter_is_not(place, tmp_path):
    opened(place, merged_copy(place, tmp_path / "merged"))
    other = Place(place.base, shutil.copytree(place.adapter, tmp_path / "other"))
    save_adapter(other.adapter, place.base, seed=5)
    model = merged_copy(other, tmp_path / "merged other")
    refused(place, "the weights of the base and in the adapter; put back", model, unseen=False)


def test_an_older_artifact_opens_by_its_fingerprint_and_says_so(place):
    path = place.adapter / "dubio" / "manifest.json"
    artifact, _ = load_artifact(place.adapter)
    old = {k: v for k, v in artifact.model.items() if k not in ("bound", "input")}
    old["tokenizer_sha256"] = "of another version"
    save_artifact(place.adapter, replace(artifact, model=old, bound={}), "# a card")
    assert '"bound":' not in path.read_text()
    with pytest.warns(UnboundWarning, match="whose tokenizer came in other files; run `dubio fit` again to be sure"):
        open_artifact(place.adapter, place.model())
    (place.adapter / RECORD).write_text(json.dumps({"labels": LABELS[::-1]}))
    refused(place, "the order of the label names")
    save_adapter(place.adapter, place.base, seed=5)
    (place.adapter / RECORD).write_text(json.dumps({"labels": LABELS}))
    with pytest.raises(ArtifactError, match="its fingerprint rows differ"):
        open_artifact(place.adapter, place.model())


def test_facts_of_other_kinds_are_refused_in_one_line(place):
    artifact, model = opened(place), place.model()
    facts, arrays = bound_facts(model)
    assert set(facts["bound"]) == {"transformers", "config", "tokens_sha256", "weights_names", "head_names"}
    for head in (arrays["head"][:0], arrays["head"][:, :2], arrays["head"] * np.nan, arrays["head"].astype(np.float32)):
        with pytest.raises(ArtifactError, match="sketch of the weights is not one of this model"):
            changes(replace(artifact, bound={"head": head}), model)
    assert changes(replace(artifact, bound={}), model) == ["the classification head"]
    for config in (None, [], "x"):
        odd = replace(artifact, model={**artifact.model, "bound": {**artifact.model["bound"], "config": config}})
        assert changes(odd, model)[0].startswith("the config (")
