"""Bases whose tokenizer lies in a sentencepiece file alone, as those of DeBERTa-v3, XLM-R and Llama on the hub."""

import functools
import io
import json

import pytest
import sentencepiece
import torch
import transformers as tf

from dubio.models.extraction import extract
from dubio.models.loading import load
from dubio.models.tokens.batching import tokenize
from models.options import expected, make, quiet
from models.tiny import CLASSES, CONFIGS

TEXTS = [
    "the film was late and nobody answered the phone", "what a wonderful little gate", "no idea what this is",
    "boarding at gate 42", "yes, the committee approved the budget after a long debate",
]  # fmt: skip
# Family -> what its model calls the file, and the tokenizer's class.
KINDS = {
    "deberta": ("spm.model", "DebertaV2Tokenizer"),
    "xlm-roberta": ("sentencepiece.bpe.model", "XLMRobertaTokenizer"),
    "llama": ("tokenizer.model", "LlamaTokenizer"),
    "mistral": ("tokenizer.model", "LlamaTokenizer"),
    "gemma": ("tokenizer.model", "GemmaTokenizer"),
}
# How the makers of each class trained their own.
_BPE = {"model_type": "bpe", "byte_fallback": True, "vocab_size": 400}
HOW = {
    "DebertaV2Tokenizer": {"vocab_size": 120, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]},
    "XLMRobertaTokenizer": {"vocab_size": 120},
    "LlamaTokenizer": _BPE,
    "GemmaTokenizer": {**_BPE, "add_dummy_prefix": False},
}


@functools.cache
def trained(kind):
    """The bytes of a sentencepiece model, trained on a few lines."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20), model_writer=written, hard_vocab_limit=False, minloglevel=2, num_threads=1,
        pad_id=3, **HOW[kind],
    )  # fmt: skip
    return written.getvalue()


def base(folder, family):
    quiet()
    file, kind = KINDS[family]
    torch.manual_seed(0)
    plain = CONFIGS["deberta" if family == "deberta" else "roberta" if family == "xlm-roberta" else "llama"]().to_dict()
    wanted = {k: v for k, v in plain.items() if k not in ("model_type", "architectures", "transformers_version")}
    name = {"deberta": "deberta-v2"}.get(family, family)
    config = tf.AutoConfig.for_model(name, **{**wanted, "vocab_size": 520, "num_labels": CLASSES, "pad_token_id": 1})
    tf.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    (folder / file).write_bytes(trained(kind))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    return folder


@pytest.mark.parametrize("family", KINDS)
def test_pieces_are_those_of_sentencepiece_itself(family, tmp_path):
    model = load(base(tmp_path / "base", family))
    alone = sentencepiece.SentencePieceProcessor(model_proto=trained(KINDS[family][1]))
    for text, ids in zip(TEXTS, tokenize(model, TEXTS, None)["input_ids"], strict=True):
        special = set(model.tokenizer.all_special_ids)
        pieces = model.tokenizer.convert_ids_to_tokens([i for i in ids if i not in special])
        assert pieces == alone.encode(text, out_type=str)


@pytest.mark.parametrize("family", KINDS)
def test_an_adapter_over_such_a_base(family, tmp_path):
    own = base(tmp_path / "base", family)
    folder = make(tmp_path / "adapter", own)
    found = torch.from_numpy(extract(load(folder), TEXTS).logits)
    torch.testing.assert_close(found, expected(own, folder, TEXTS), atol=1e-5, rtol=1e-5)
