"""Adapters and bases made to hang, to fill memory or to break: one line, in a few seconds."""

import json
import os
import shutil
import time

import pytest
import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForSequenceClassification

from dubio.errors import DubioError
from dubio.models.adapter.files import RECORD
from dubio.models.adapter.patterns import SECONDS, check_patterns
from dubio.models.bases import sizes
from dubio.models.bases.base import load_base
from dubio.models.bases.sizes import check_base_sizes
from dubio.models.loading import load
from models.tiny import adapter_folder, base_folder, refused, save_adapter

LAYERS = [f"model.layers.{at}.{part}" for at in range(32)
          for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj", "input_layernorm")]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What is imported at the first load is not counted."""
    load(adapter_folder("bert"))


@pytest.fixture
def soon(warm):
    """The bar of five seconds, the time that this machine gives to others not counted."""
    start = time.process_time(), time.monotonic()
    yield
    assert min(time.process_time() - start[0], time.monotonic() - start[1]) < 5


@pytest.fixture
def adapter(tmp_path):
    return shutil.copytree(adapter_folder("bert"), tmp_path / "adapter")


@pytest.fixture
def base(tmp_path):
    return shutil.copytree(base_folder("bert", True), tmp_path / "base")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def dangling(path):
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


def device(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def giant(path):
    with path.open("r+b" if path.exists() else "wb") as opened:
        opened.truncate(1 << 42)


ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json", RECORD)
BASE_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@pytest.mark.parametrize("make", [pipe, dangling, device, giant], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ADAPTER_FILES)
def test_no_file_of_an_adapter_is_waited_for(adapter, make, name, soon):
    make(adapter / name)
    refused(adapter, f"adapter/{name} |holds adapter weights but no|holds only adapter_model")


@pytest.mark.parametrize("make", [pipe, dangling, device, giant], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", BASE_FILES)
def test_no_file_of_a_base_is_waited_for(base, make, name, soon):
    make(base / name)
    with pytest.raises(DubioError, match=f"base/{name} |holds no config.json") as caught:
        load_base(str(base), None, "cpu")
    assert "\n" not in str(caught.value)


SIZES = {
    "num_hidden_layers": 10**9, "vocab_size": 10**9, "hidden_size": 10**6, "intermediate_size": 10**9,
    "max_position_embeddings": 10**10, "num_labels": 10**9, "type_vocab_size": 10**9, "num_attention_heads": 10**9,
    "nested": {"deeper": [{"num_hidden_layers": 10**12}]},
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_the_weights_cannot_have(base, name, soon):
    edit(base / "config.json", **{name: SIZES[name]})
    with pytest.raises(DubioError, match=r"config\.json says .* do not belong together"):
        load_base(str(base), None, "cpu")


def test_a_hidden_size_that_no_weight_has(base):
    edit(base / "config.json", hidden_size=5000)
    with pytest.raises(DubioError, match="says hidden_size 5000"):
        load_base(str(base), None, "cpu")


@pytest.mark.parametrize("kind", ["llama", "albert", "t5", "deberta-v2", "mixtral", "gpt2", "modernbert", "xlnet"])
def test_sizes_as_transformers_has_them_pass(tmp_path, monkeypatch, kind):
    config = AutoConfig.for_model(kind)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    monkeypatch.setattr(sizes, "shapes_of", lambda _: {k: tuple(v.shape) for k, v in model.state_dict().items()})
    check_base_sizes(tmp_path, config.to_dict())


@pytest.mark.parametrize(
    "changes",
    [
        {"r": 10**9}, {"rank_pattern": {"query": 10**9}}, {"num_virtual_tokens": 10**9},
        {"layer_replication": [[0, 10**9]]}, {"layer_replication": [[-(10**9), 2]]},
    ],
)  # fmt: skip
def test_settings_that_the_adapters_weights_cannot_have(adapter, changes, soon):
    edit(adapter / "adapter_config.json", **changes)
    refused(adapter, r"adapter_config\.json says .* do not belong together")


ODD = [None, True, -1, 0, 1.5, 10**30, "", "x", [], [[]], {}, {"a": {}}, ["\x1b[31m"], "a\0b"]
SETTINGS = (
    "r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "layers_pattern", "exclude_modules",
    "modules_to_save", "layers_to_transform", "layer_replication", "peft_type", "task_type", "bias", "fan_in_fan_out",
    "base_model_name_or_path", "init_lora_weights", "use_dora", "trainable_token_indices",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_another_type_are_one_line_or_do_nothing(adapter, name):
    for value in ODD:
        edit(adapter / "adapter_config.json", **{name: value})
        one_line(lambda: load(adapter))


BASE = ("hidden_size", "id2label", "model_type", "architectures", "hidden_act", "pad_token_id")


@pytest.mark.slow
@pytest.mark.parametrize("name", BASE)
def test_a_base_of_another_type_is_one_line_or_does_nothing(base, name):
    for value in ODD:
        edit(base / "config.json", **{name: value})
        one_line(lambda: load_base(str(base), None, "cpu"))


@pytest.mark.parametrize("name", ["labels", "max_length", "base_sha256", "choices", "plan", "settings", "base"])
def test_a_record_of_another_type_is_one_line(adapter, name):
    right = {"base_sha256": str, "base": str, "choices": dict, "plan": dict, "settings": dict}.get(name, tuple)
    for value in ODD:
        if not isinstance(value, right):
            (adapter / RECORD).write_text(json.dumps({name: value}))
            refused(adapter, rf"{RECORD}: {name} is .*, not ")


def one_line(act):
    told = ""
    try:
        act()
    except DubioError as error:
        told = str(error)
    assert "\n" not in told
    assert len(told) < 1000


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[]", "null", "1", '"\\ud800"', "\0"])
def test_tokenizer_files_of_any_json(adapter, name, text):
    (adapter / name).write_text(text)
    one_line(lambda: load(adapter))


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", RECORD])
def test_settings_nested_for_ever(adapter, name, soon):
    (adapter / name).write_text('{"a":' * 100_000)
    refused(adapter, "nested more than 100 deep")


SLOW = (r"(.*)*x", r"(\w*\.?)*\d!", ".*" * 12 + "x", r"(\w+\.?)+!", r"(?=(\w+\.?)+!)x")
ORDINARY = (
    r".*\.(q_proj|v_proj)$", r".*layers\.\d+\..*(q|v)_proj", r"^(?!.*lm_head).*$", r"(?:\w+\.)*q_proj", "(a+)+b",
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:k_proj|v_proj|q_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp)\.(?:(?:k_proj|v_proj|q_proj|out_proj)))",
)  # fmt: skip


PATTERNED = ("target_modules", "exclude_modules", "rank_pattern", "layers_pattern", "modules_to_save")


@pytest.mark.parametrize(
    "where", [PATTERNED[0], *(pytest.param(name, marks=pytest.mark.slow) for name in PATTERNED[1:])]
)
def test_patterns_that_take_for_ever(tmp_path, where):
    for pattern in SLOW[: 1 if where != "target_modules" else 2]:
        value = {"rank_pattern": {pattern: 4}, "modules_to_save": [pattern]}.get(where, pattern)
        start = time.monotonic()
        with pytest.raises(DubioError, match=f"{where} holds the pattern .* takes too long"):
            check_patterns(tmp_path, {where: value}, LAYERS)
        assert time.monotonic() - start < SECONDS + 2


@pytest.mark.parametrize("pattern", ORDINARY)
def test_ordinary_patterns_pass(tmp_path, pattern):
    check_patterns(tmp_path, {"target_modules": pattern, "rank_pattern": {pattern: 4, "q_proj": 8}}, LAYERS)


@pytest.mark.parametrize("pattern", ["(", "[" * 100_000, "(" * 5000 + ")" * 5000, "a{9999999999999}", "(?P<n>"])
def test_what_is_no_pattern(tmp_path, pattern):
    with pytest.raises(DubioError, match=r"no regular expression|characters") as caught:
        check_patterns(tmp_path, {"target_modules": pattern}, LAYERS)
    assert len(str(caught.value)) < 400


def test_more_patterns_than_layers(tmp_path):
    with pytest.raises(DubioError, match="rank_pattern has 600 entries for 128 layers"):
        check_patterns(tmp_path, {"rank_pattern": {f"q{n}": 4 for n in range(600)}}, LAYERS)


def test_a_slow_pattern_is_refused_where_an_adapter_is_loaded(adapter, soon):
    edit(adapter / "adapter_config.json", target_modules=r"(\w+\.?)+!")
    refused(adapter, "takes too long on the names")


def test_an_adapter_with_a_pattern_still_loads(tmp_path):
    config = LoraConfig(r=2, target_modules=r".*layer\.\d+\..*(query|value)", task_type="SEQ_CLS")
    assert load(save_adapter(tmp_path, base_folder("bert", True), config)).labels
