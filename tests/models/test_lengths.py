"""Rows that are longer than the model reads are counted, and the default length is the model's own."""

import threading

import numpy as np
import pytest
import transformers as tf
from tokenizers import Tokenizer, models, normalizers

from dubio.models.loading import load
from dubio.models.threads import alone
from dubio.models.tokens.lengths import LONGEST, most, told, truncated_rows
from models.tiny import TEXTS, adapter_folder, loaded, save_adapter, save_base


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("length", [4, 8, 40])
def test_rows_that_are_cut(family, length):
    tokenizer = loaded(family).tokenizer
    texts = [*TEXTS, "é" * 5, "a b " * 30]
    whole = [len(tokenizer(text)["input_ids"]) > length for text in texts]
    np.testing.assert_array_equal(truncated_rows(tokenizer, length, texts), whole)
    pairs = [len(tokenizer(text, text)["input_ids"]) > length for text in texts]
    np.testing.assert_array_equal(truncated_rows(tokenizer, length, texts, texts), pairs)


def test_what_is_said():
    assert told("test", np.zeros(3, np.bool_), 8) is None
    cut = np.array([True, False])
    assert told("test", cut, 8) == "1 of 2 test rows are longer than 8 tokens, and their end is not read"
    assert told("", cut, 8, "left") == "1 of 2 rows are longer than 8 tokens, and their start is not read"


def test_one_character_may_be_several_tokens():
    """SentencePiece spells what it does not know in bytes, a space too."""
    bytes_of = {f"<0x{i:02X}>": i + 1 for i in range(256)}
    raw = Tokenizer(models.BPE({"<unk>": 0, **bytes_of}, [], unk_token="<unk>", byte_fallback=True))
    raw.normalizer = normalizers.Replace(" ", "▁")
    tokens = tf.PreTrainedTokenizerFast(tokenizer_object=raw)
    text = "a" + " " * 60
    assert len(tokens(text)["input_ids"]) == 181
    assert [bool(truncated_rows(tokens, length, [text])[0]) for length in (180, 181)] == [True, False]


def test_counting_rows_disturbs_no_other_thread():
    """A fast tokenizer keeps the length of the last call, whoever made it."""
    tokens = loaded("bert").tokenizer
    stop, text = threading.Event(), "the film was late " * 10
    expected = tokens(text, truncation=True, max_length=8)["input_ids"]

    def count():
        while not stop.is_set():
            truncated_rows(tokens, 8, [text] * 4)

    other = threading.Thread(target=count)
    other.start()
    try:
        for _ in range(500):
            with alone(tokens):
                assert tokens([text], truncation=True, max_length=8)["input_ids"][0] == expected
    finally:
        stop.set()
        other.join()


@pytest.mark.parametrize(("positions", "expected"), [(80, 80), (1000, 1000), (131072, LONGEST)])
def test_the_default_is_the_models_own(positions, expected, tmp_path):
    base = save_base(tmp_path / "base", "llama", max_position_embeddings=positions)
    path = base / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"model_max_length": 80', '"model_max_length": 1000000000'))
    model = load(save_adapter(tmp_path / "adapter", base))
    assert (model.max_length, most(model.tokenizer, model.model)) == (expected, positions)


def test_a_length_that_is_asked_for():
    assert load(adapter_folder("bert"), max_length=20).max_length == 20
