"""Rows that are longer than the model reads are counted, and the default length is the model's own."""

import numpy as np
import pytest

from dubio.models.lengths import LONGEST, told, truncated_rows
from dubio.models.loading import load
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
    assert told("test", np.array([True, False]), 8).startswith("1 of 2 test rows are longer than 8 tokens")


@pytest.mark.parametrize(("positions", "expected"), [(80, 80), (1000, 1000), (131072, LONGEST)])
def test_the_default_is_the_models_own(positions, expected, tmp_path):
    base = save_base(tmp_path / "base", "llama", max_position_embeddings=positions)
    path = base / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"model_max_length": 80', '"model_max_length": 1000000000'))
    assert load(save_adapter(tmp_path / "adapter", base)).max_length == expected


def test_a_length_that_is_asked_for():
    assert load(adapter_folder("bert"), max_length=20).max_length == 20
