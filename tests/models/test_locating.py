"""Where adapters and bases are looked for: revisions of hub ids, folders one level too high, paths of elsewhere."""

import json
import shutil

import peft
import pytest
import torch

from dubio.models.adapter.files import find_adapter
from dubio.models.bases.base import base_hash
from dubio.models.bases.locating import at_revision, is_path, may_be_hub_id, name_base, split_revision
from dubio.models.loading import load
from dubio.posteriors.base_model import host_under
from models.hub import publish
from models.tiny import adapter_folder, base_folder, padded, reference, refused, save_adapter, save_base, settings


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """(an adapter that names revision v1 of its base, folders of v1 and main): two sets of weights under one name."""
    folders = {name: save_base(tmp_path / name, seed=seed) for name, seed in (("main", 7), ("v1", 8))}
    name = publish(monkeypatch, tmp_path / "hub", "base", **folders)
    folder = save_adapter(tmp_path / "adapter", folders["v1"])
    settings(folder, base_model_name_or_path=name, revision="v1")
    return folder, folders


def test_the_adapters_revision_of_its_base_is_taken(pinned):
    folder, folders = pinned
    model = load(folder)
    batch = padded(model, "right")
    expected = {name: reference(path, folder, batch) for name, path in folders.items()}
    torch.testing.assert_close(model.forward(batch)[1], expected["v1"], atol=1e-5, rtol=1e-5)
    assert (expected["v1"] - expected["main"]).abs().max() > 0.1
    assert model.base == "team/base@v1"
    assert model.hashes["base"] == base_hash("team/base@v1") == base_hash(str(folders["v1"]))
    assert base_hash("team/base") == base_hash(str(folders["main"])) != model.hashes["base"]
    torch.testing.assert_close(  # and so does everything that takes the base by name
        host_under(model).model.bert.embeddings.word_embeddings.weight,
        load(folder, base=str(folders["v1"])).model.get_base_model().bert.embeddings.word_embeddings.weight,
    )


def test_which_revision_where_a_base_is_named_too(pinned):
    folder, folders = pinned
    assert load(folder, base="team/base").hashes == load(folder).hashes  # the same base: at the adapter's revision
    assert load(folder, base="team/base@main").hashes["base"] == base_hash(str(folders["main"]))
    assert load(folder, base=str(folders["main"])).hashes["base"] == base_hash(str(folders["main"]))
    refused(folder, "cannot load the base model team/base@v9.*hub did not give it", base="team/base@v9")


def test_a_revision_means_nothing_in_a_folder(tmp_path):
    """As in transformers: a folder holds one."""
    folder = shutil.copytree(adapter_folder("bert"), tmp_path / "adapter")
    settings(folder, revision="v1")
    assert load(folder).hashes == load(adapter_folder("bert")).hashes


def test_a_revision_of_the_adapter_itself(tmp_path, monkeypatch):
    other = save_adapter(tmp_path / "other", base_folder("bert"), seed=5)
    name = publish(monkeypatch, tmp_path / "hub", "adapter", main=adapter_folder("bert"), v2=other)
    assert load(name).hashes == load(adapter_folder("bert")).hashes
    assert load(f"{name}@v2").hashes == load(other).hashes != load(name).hashes
    refused(f"{name}@v3", "team/adapter@v3 is no local folder and could not be fetched")


def test_names_with_revisions(tmp_path, monkeypatch):
    assert split_revision("owner/name@v1.2") == ("owner/name", "v1.2")
    assert split_revision("gpt2@refs/pr/3") == ("gpt2", "refs/pr/3")
    assert split_revision("owner/name") == ("owner/name", None)
    assert at_revision("owner/name@main", "v1") == "owner/name@main"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a@b").mkdir()
    assert split_revision("a@b") == ("a@b", None)  # a folder that is there
    assert is_path("a@b")
    config = peft.LoraConfig()
    name_base(config, "owner/name@v1")
    assert (config.base_model_name_or_path, config.revision) == ("owner/name", "v1")
    name_base(config, str(tmp_path))
    assert (config.base_model_name_or_path, config.revision) == (str(tmp_path), None)


def test_a_folder_of_several_adapters_names_them(tmp_path):
    for name in ("news", "tweets"):
        shutil.copytree(adapter_folder("bert"), tmp_path / "several" / name)
    refused(tmp_path / "several", "neither an adapter nor a model, but holds news, tweets; name one of them")


def test_a_trainings_folder_names_its_checkpoints_the_last_of_them_as_the_example(tmp_path):
    for step in (1000, 500, 90):
        shutil.copytree(adapter_folder("bert"), tmp_path / "out" / f"checkpoint-{step}")
    (tmp_path / "out" / "logs").mkdir()
    refused(
        tmp_path / "out", r"holds checkpoint-90, checkpoint-500, checkpoint-1000; name one.* such as .*checkpoint-1000$"
    )
    for step in range(10):
        shutil.copytree(adapter_folder("bert"), tmp_path / "many" / f"checkpoint-{step}")
    refused(tmp_path / "many", r"checkpoint-7, \.\.\.; name one of them, such as .*checkpoint-9$")


@pytest.mark.parametrize(("named", "reason"), [
    ("C:\\Users\\me\\models\\bert", "there is no base model folder C:.*; name where the base lies .* with --base"),
    ("D:/models/bert", "there is no base model folder D:/models/bert; .*--base"),
    ("..\\bert", "there is no base model folder .*--base"),
    ("/home/me/models/bert", "there is no base model folder /home/me/models/bert; .*--base"),
    ("output/run1/checkpoint-500", "there is no base model folder output/run1/checkpoint-500; .*--base"),
    ("models/bert-base", "no such folder here, and the hub did not give it .*; name where the base lies .*--base"),
])  # fmt: skip
def test_bases_named_by_paths_of_another_machine(named, reason, tmp_path):
    folder = shutil.copytree(adapter_folder("bert"), tmp_path / "adapter")
    settings(folder, base_model_name_or_path=named)
    refused(folder, reason)
    assert load(folder, base=str(base_folder("bert"))).hashes == load(adapter_folder("bert")).hashes


def test_the_revision_is_not_part_of_what_an_adapter_computes(tmp_path):
    """The base's hash tells revisions apart; the adapter's own stays, so that a pin added later changes nothing."""
    folder = shutil.copytree(adapter_folder("bert"), tmp_path / "adapter")
    settings(folder, revision="v1")
    assert find_adapter(folder).sha256 == find_adapter(adapter_folder("bert")).sha256
    assert json.loads((folder / "adapter_config.json").read_text())["revision"] == "v1"


@pytest.mark.parametrize(("name", "may"), [
    ("owner/name", True), ("name", True), ("owner/name@main", True), ("own_er/na.me-1", True), ("runs/adapter", False),
    ("runs/adapter/", False), ("owner/name/", False), ("a/b/c", False), ("./a", False), ("/a/b", False), ("~/a", False),
    ("a b/c", False), ("ow--ner/name", False), ("..x/name", False), ("owner/-name", False), ("C:/a", False),
    ("owner/na\u00efve", False), ("owner/" + "x" * 200, False), ("", False), ("owner/\0", False),
])  # fmt: skip
def test_what_can_be_an_id_of_the_hub(name, may, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert may_be_hub_id(name) == may


def test_a_wrong_folder_is_told_and_the_hub_is_not_asked(tmp_path, monkeypatch):
    def asked(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    monkeypatch.setattr("dubio.models.bases.base_settings.cached_file", asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "adapter").mkdir(parents=True)
    refused(
        "runs/adaptr", r"there is no adapter folder runs/adaptr \(did you mean runs/adapter\?\); name an existing one"
    )
    refused("runs/other", r"there is no adapter folder runs/other; name an existing one")
    refused(
        adapter_folder("bert"), "there is no base model folder runs/bert; name where the base lies", base="runs/bert"
    )
    refused("team/", "there is no adapter folder team/; name an existing one")
