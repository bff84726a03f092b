"""Settings that make peft or transformers run or fetch something are refused, and nothing is run."""

import json
import shutil

import pytest

from dubio.models.loading import load
from models.tiny import adapter_folder, base_folder, refused, settings

# Had it been imported, the file would be there.
PLANTED = "import pathlib\npathlib.Path(__file__).with_name('was-run').touch()\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a module to import in it, as beside an adapter from elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("planted.py", "megatron.py"):
        (tmp_path / name).write_text(PLANTED)
    yield tmp_path
    assert not (tmp_path / "was-run").exists()


def edited(source, target, file="config.json", **changes):
    folder = shutil.copytree(source, target)
    facts = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps({**facts, **changes}))
    return folder


@pytest.mark.parametrize(("changes", "reason"), [
    ({"megatron_core": "planted"}, "megatron_core names code to import .'planted'.; remove it"),
    ({"megatron_core": "planted", "megatron_config": {"x": 1}}, "the adapter's megatron_config makes peft read"),
    ({"megatron_config": {"hidden_size": 8}}, "the adapter's megatron_config makes peft read Megatron layers"),
    ({"auto_mapping": {"base_model_class": "Own", "parent_library": "planted"}},
     "trained on the class 'Own' of 'planted', which dubio does not import"),
    ({"tokenizer_kwargs": {"trust_remote_code": True}}, "tokenizer_kwargs ask to run code from elsewhere"),
    ({"peft_type": "XLORA", "adapters": {"0": "team/other"}}, "the adapter's adapters makes peft read other adapters"),
    ({"prompt_tuning_init_state_dict_path": "/etc/passwd"}, "makes peft read another file"),
    ({"shadow_model": "team/other"}, "makes peft read another model"),
])  # fmt: skip
def test_adapter_settings(here, changes, reason):
    folder = shutil.copytree(adapter_folder("bert"), here / "adapter")
    settings(folder, **changes)
    refused(folder, reason)


def test_what_peft_writes_by_itself_is_no_reason(here):
    folder = shutil.copytree(adapter_folder("bert", "lora on the head", True), here / "adapter")
    facts = json.loads((folder / "adapter_config.json").read_text())
    assert facts["auto_mapping"]["parent_library"] == "transformers.models.bert.modeling_bert"
    assert facts["megatron_core"] == "megatron.core"
    # A class of transformers that another package hands on (unsloth, a script) is transformers' own.
    settings(folder, auto_mapping={"base_model_class": "BertForSequenceClassification", "parent_library": "__main__"})
    assert load(folder).kind == "LORA"


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["team/kernel", {"": "sdpa", "text_config": "team/kernel:attention"}])
def test_kernels_from_the_hub(here, key, value):
    folder = edited(base_folder("llama", True), here / "base", **{key: value})
    refused(folder, "config.json asks for .* 'team/kernel.* code from elsewhere; set it to sdpa")


def test_kernels_of_a_part_of_the_model(here):
    parts = {"text_config": {"layers": [{"_attn_implementation": "team/kernel"}]}}
    refused(edited(base_folder("llama", True), here / "base", **parts), "code from elsewhere; set it to sdpa")


@pytest.mark.parametrize("value", ["eager", "sdpa", None, {"": "eager"}])
def test_the_ways_of_transformers_itself(here, value):
    folder = edited(base_folder("llama", True), here / "base", attn_implementation=value)
    assert load(folder).family == "llama"


def test_code_of_a_base(here):
    code = {"AutoConfig": "planted.Own", "AutoModelForSequenceClassification": "planted.Own"}
    unknown = edited(base_folder("bert", True), here / "unknown", auto_map=code, model_type="own")
    shutil.copy(here / "planted.py", unknown)
    refused(unknown, "config.json names code of its own .auto_map., which dubio does not run")
    folder = shutil.copytree(adapter_folder("bert", head=True), here / "adapter")
    refused(folder, "names code of its own .auto_map., which dubio does not run", base=str(unknown))
    # Beside a family that transformers knows, the code lies idle: as transformers loads it.
    known = edited(base_folder("bert", True), here / "known", auto_map=code)
    shutil.copy(here / "planted.py", known)
    assert load(known).family == "bert"
    assert not list(here.rglob("was-run"))


def test_code_of_a_tokenizer(here):
    changes = {"auto_map": {"AutoTokenizer": ["planted.Own", None]}, "tokenizer_class": "Own"}
    folder = edited(base_folder("bert", True), here / "base", "tokenizer_config.json", **changes)
    refused(folder, "tokenizer_config.json names code of its own")
    beside = shutil.copytree(adapter_folder("bert"), here / "adapter")
    (beside / "tokenizer_config.json").write_text(json.dumps(changes))
    refused(beside, "adapter/tokenizer_config.json names code of its own")
    assert not list(here.rglob("was-run"))


def test_settings_of_any_depth_do_not_hang_the_look(here):
    folder = shutil.copytree(base_folder("bert", True), here / "base")
    (folder / "processor_config.json").write_text("[" * 100_000)
    refused(folder, "processor_config.json is nested more than 100 deep")
