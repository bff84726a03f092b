"""Folders without a tokenizer, or with half of one: the base's is taken, or the model is refused; words are known."""

import json
import shutil

import numpy as np
import pytest
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers

from dubio.adapters.plan import LabelledTexts
from dubio.adapters.trainer import train_adapter
from dubio.errors import DubioError
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.models.tokens.batching import pad, tokenize
from dubio.models.tokens.tokenizers import SENTENCES, check_words, unknown_share
from dubio.posteriors.base_model import host_under
from models.options import TOKENIZERS, bare
from models.tiny import (
    CONFIGS,
    FAMILIES,
    TEXTS,
    adapter_folder,
    base_folder,
    loaded,
    refused,
    save_base,
    settings,
    tokenizer,
)  # fmt: skip

QUIET = Extraction(show=False)
QUICK = ("bert", "llama")  # one of each kind; the others are slow tests
EACH = [family if family in QUICK else pytest.param(family, marks=pytest.mark.slow) for family in [*FAMILIES, "mpnet"]]


def half(folder, **facts):
    """The base's tokenizer's settings in an adapter's folder, without its vocabulary."""
    own = json.loads((base_folder("bert") / "tokenizer_config.json").read_text())
    kept = {
        key: value for key, value in {**own, "tokenizer_class": "BertTokenizer", **facts}.items() if value != "gone"
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(kept))
    return folder


@pytest.fixture
def adapter(tmp_path):
    """An adapter on BERT, with no tokenizer beside it."""
    return bare(shutil.copytree(adapter_folder("bert"), tmp_path / "adapter"))


@pytest.mark.parametrize("family", EACH)
def test_a_model_without_a_tokenizer_is_refused(family, tmp_path, monkeypatch):
    monkeypatch.setitem(CONFIGS, "mpnet", lambda: tf.MPNetConfig(
        vocab_size=320, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    ))  # fmt: skip
    tf.AutoModelForSequenceClassification.from_config(CONFIGS[family]()).save_pretrained(tmp_path)
    refused(tmp_path, rf"{tmp_path} holds no whole tokenizer: its vocabulary is (empty|not there); put its files there")
    if family in TOKENIZERS:  # settings alone, as `save_pretrained` of an older version left them
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": TOKENIZERS[family]}))
        refused(tmp_path, rf"{tmp_path} holds no whole tokenizer: its vocabulary is empty; put its files there")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_vocabulary_in_two_files_of_which_one_is_missing(name, tmp_path):
    folder = save_base(tmp_path, "gpt2", head=True)
    raw = json.loads((folder / "tokenizer.json").read_text())["model"]
    bare(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    content = json.dumps(raw["vocab"]) if name == "vocab.json" else "\n".join(" ".join(pair) for pair in raw["merges"])
    (folder / name).write_text(content)
    refused(folder, "its tokenizer is damaged or not there" if name == "vocab.json" else "its vocabulary is not there")


@pytest.mark.parametrize("family", EACH[:-1])
def test_half_a_tokenizer_beside_the_adapter_falls_back_to_the_bases(family, tmp_path):
    folder = bare(shutil.copytree(adapter_folder(family), tmp_path / "adapter"))
    own = json.loads((base_folder(family) / "tokenizer_config.json").read_text())
    named = TOKENIZERS.get(family, own["tokenizer_class"])
    (folder / "tokenizer_config.json").write_text(json.dumps({**own, "tokenizer_class": named}))
    model = load(folder)
    assert model.hashes == loaded(family).hashes
    same = extract(loaded(family), TEXTS, how=QUIET)
    np.testing.assert_array_equal(extract(model, TEXTS, how=QUIET).logits, same.logits)


def test_what_half_a_tokenizer_says_goes_on_counting(adapter):
    model = load(half(adapter, pad_token="[SEP]", truncation_side="left", model_max_length=20))
    assert (model.tokenizer.pad_token, model.tokenizer.truncation_side, model.max_length) == ("[SEP]", "left", 20)


@pytest.mark.parametrize(("facts", "reason"), [
    ({"added_tokens_decoder": {"40": {"content": "[USER]"}}}, r"token '\[USER\]' is not in that of"),
    ({"pad_token": "<pad>"}, "pad token is '<pad>'; that of .* is '\\[PAD\\]'"),
    ({"sep_token": "[CLS]"}, r"sep token is '\[CLS\]'; that of .* is '\[SEP\]'"),
    ({"do_lower_case": True}, "do_lower_case=True; that of .* has do_lower_case=False"),
])  # fmt: skip
def test_half_of_another_tokenizer_is_refused(adapter, facts, reason, tmp_path):
    base = shutil.copytree(base_folder("bert"), tmp_path / "base")
    told = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**told, "do_lower_case": False}))
    settings(adapter, base_model_name_or_path=str(base))
    message = str(refused(half(adapter, **facts), reason))
    assert message.endswith(f"save the whole tokenizer that the adapter was trained with into {adapter}")


def test_half_a_tokenizer_over_a_base_without_one(adapter, tmp_path):
    base = bare(shutil.copytree(base_folder("bert"), tmp_path / "base"))
    settings(adapter, base_model_name_or_path=str(base))
    refused(half(adapter), rf"{base} holds no whole tokenizer: its vocabulary is empty")


def test_a_damaged_tokenizer_beside_the_adapter_is_not_passed_over(adapter):
    half(adapter)
    (adapter / "tokenizer.json").write_text('{"model": ')
    refused(adapter, rf"{adapter}: the tokenizer does not load .*; save it again")


def test_a_tokenizer_without_its_settings_must_be_the_bases(adapter):
    own = tokenizer("bert")
    (adapter / "tokenizer.json").write_text(own.backend_tokenizer.to_str())
    assert load(adapter).hashes == loaded("bert").hashes
    own.add_tokens(["[USER]"])
    (adapter / "tokenizer.json").write_text(own.backend_tokenizer.to_str())
    refused(adapter, rf"{adapter} holds a tokenizer.json without its settings, and not that of")


def test_a_tokenizer_beside_the_adapter_alone_is_enough(adapter, tmp_path):
    """Its posteriors too are made with it."""
    base = bare(shutil.copytree(base_folder("bert"), tmp_path / "base"))
    settings(adapter, base_model_name_or_path=str(base))
    tokenizer("bert").save_pretrained(adapter)
    model = load(adapter)
    np.testing.assert_array_equal(
        extract(model, TEXTS, how=QUIET).logits, extract(loaded("bert"), TEXTS, how=QUIET).logits
    )
    host = host_under(model)
    assert host.hashes["tokenizer"] == model.hashes["tokenizer"]
    assert host.run(pad(tokenize(host, TEXTS, None), host))[0].shape == (len(TEXTS), 16)


def test_training_refuses_a_base_without_a_tokenizer(tmp_path):
    base = bare(shutil.copytree(base_folder("bert"), tmp_path / "base"))
    rows = LabelledTexts(["yes", "no"], None, np.array([0, 1]), "0")
    with pytest.raises(DubioError, match="base holds no whole tokenizer: its vocabulary is empty"):
        train_adapter(str(base), ["a", "b"], rows, rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def words(tokens, splitter=None, unk="[UNK]"):
    raw = Tokenizer(models.WordLevel({token: i for i, token in enumerate(["[UNK]", *tokens])}, unk_token=unk))
    raw.pre_tokenizer = splitter or pre_tokenizers.Whitespace()
    return tf.PreTrainedTokenizerFast(tokenizer_object=raw, unk_token=unk)


LETTERS = pre_tokenizers.Split("", "isolated")


@pytest.mark.parametrize("tokens", [
    words(SENTENCES[8 + 1].replace("。", ""), LETTERS), words(SENTENCES[11 - 1].split()), words("ACGT", LETTERS),
    words("ACDEFGHIKLMNPQRSTVWY"), words(SENTENCES[6].split(" ")), words([f"k{i}" for i in range(400)]),
])  # fmt: skip
def test_other_scripts_and_notations_are_no_reason_to_refuse(tokens):
    """Chinese by characters, Hebrew, DNA, proteins, Russian, and words of no language but known ones."""
    assert unknown_share(tokens, SENTENCES[0]) > 0.5
    check_words(tokens, 500 if len(tokens) > 100 else 4 * len(tokens), "here")


@pytest.mark.parametrize(("tokens", "rows", "reason"), [
    (words([f"[unused{i}]" for i in range(100)]), 30522, r"hardly a word .* \(101 tokens for the model's 30522\)"),
    (words(["Film", "Zug"], pre_tokenizers.Split("i", "isolated")), 6, r"hardly a word .* \(3 tokens"),
    (words(["Film", "Zug"], unk="<gone>"), 6, r"does not read a sentence \(Exception: .*\); put its files there"),
])  # fmt: skip
def test_words_that_are_mostly_unknown(tokens, rows, reason):
    with pytest.raises(
        DubioError, match=f"^here: the tokenizer .*{reason}" if "hardly" in reason else reason
    ) as caught:
        check_words(tokens, rows, "here")
    assert "\n" not in str(caught.value)


def test_a_template_of_tokens_that_it_does_not_define_is_refused(tmp_path):
    """tokenizers would panic at the first text."""
    base = shutil.copytree(base_folder("bert", True), tmp_path / "base")
    facts = json.loads((base / "tokenizer.json").read_text())
    facts["post_processor"]["special_tokens"].pop("[SEP]")
    (base / "tokenizer.json").write_text(json.dumps(facts))
    refused(base, r"it puts '\[SEP\]' around each text, and defines no such token")
