"""Added tokens and trained embeddings: as transformers and peft alone compute them, or refused with the way out."""

import shutil

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from dubio.errors import DubioError
from dubio.models.extraction import extract
from dubio.models.loading import load
from dubio.posteriors.base_model import host_under
from dubio.posteriors.from_adapter import read_adapter
from models.options import PLAIN, ROWS, expected, make, quiet, snug
from models.tiny import refused, tokenizer

USER = {"additional_special_tokens": ["[USER]"]}
PAD = {"pad_token": "[PAD2]"}
WEIGHTS = "adapter_model.safetensors"


def close(model, target, texts):
    torch.testing.assert_close(torch.from_numpy(extract(model, texts).logits), target, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_added_tokens_are_read_with_their_own_embeddings(family, tmp_path):
    folder = make(tmp_path / "a", snug(family), tokens=USER)
    model = load(folder)
    rows = len(tokenizer(family)) + 1
    target = expected(snug(family), folder, ROWS, rows)
    close(model, target, ROWS)
    swapped = [text.replace("[USER]", "[UNK]") for text in ROWS]
    other = torch.from_numpy(extract(model, swapped).logits)
    changed = (other - target).abs().amax(dim=1) > 1e-3
    assert changed.tolist() == ["[USER]" in text for text in ROWS]
    assert model.unread == frozenset()


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_a_new_padding_token_that_nobody_saved(family, tmp_path):
    """Its row is never read, so it loads; a text that names it would read it, and is refused."""
    folder = make(tmp_path / "a", snug(family), tokens=PAD, save={"save_embedding_layers": False})
    model = load(folder)
    rows = len(tokenizer(family)) + 1
    close(model, expected(snug(family), folder, PLAIN, rows), PLAIN)
    assert model.unread == {rows - 1}
    with pytest.raises(DubioError, match=r"the text 'late \[PAD2\]' holds the token '\[PAD2\]', whose embedding"):
        extract(model, ["yes", "late [PAD2]"])


def test_new_tokens_that_nobody_saved(tmp_path):
    more = {"additional_special_tokens": [f"[T{i}]" for i in range(5)], **PAD}
    folder = make(tmp_path / "a", snug("bert"), tokens=more, save={"save_embedding_layers": False})
    refused(folder, r"5 tokens were added \('\[T0\]', '\[T1\]', '\[T2\]', \.\.\.\) and their embeddings are not in "
            "the adapter, so they would be random; save it with save_embedding_layers=True")  # fmt: skip


def test_the_tokenizer_was_not_saved(tmp_path):
    folder = make(tmp_path / "a", snug("llama"), tokens=USER)
    (folder / "tokenizer.json").unlink()  # half of one is none
    (folder / "tokenizer_config.json").write_text("{}")
    refused(
        folder, r"stores embeddings of \d+ tokens, and the base has \d+ .*save the tokenizer that it was trained with"
    )


def test_fewer_rows_than_tokens(tmp_path):
    folder = make(tmp_path / "a", snug("bert"), save={"save_embedding_layers": True})
    own = tf.AutoTokenizer.from_pretrained(folder)
    own.add_special_tokens(USER)
    own.save_pretrained(folder)
    refused(folder, "the tokenizer has 24 tokens and the embeddings 23 rows; they do not match")


@pytest.mark.parametrize("rows", [64, 24])
def test_rows_for_no_token(rows, tmp_path):
    """Rounded up, or cut to the tokenizer's length where the base has more."""
    base = tmp_path / "base"
    shutil.copytree(snug("bert"), base)
    quiet()
    model = tf.AutoModelForSequenceClassification.from_pretrained(base)
    model.resize_token_embeddings(40)
    model.save_pretrained(base)
    folder = make(tmp_path / "a", base, change=lambda m: m.resize_token_embeddings(rows))
    close(load(folder), expected(base, folder, PLAIN, rows), PLAIN)


CASES = {
    "trained whole": {"modules_to_save": ["score", "embed_tokens"]},
    "with a head that is not there": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "some tokens": {"trainable_token_indices": [4, 5, 9]},
    "LoRA": {"target_modules": ["q_proj", "v_proj", "embed_tokens"]},
    "LoRA, base not saved": {"target_modules": ["q_proj", "embed_tokens"], "save": {"save_embedding_layers": False}},
    "LoRA alone": {"target_modules": ["embed_tokens"]},
    "saved for nothing": {"save": {"save_embedding_layers": True}},
}


@pytest.mark.parametrize("case", CASES)
def test_trained_embeddings_of_a_decoder(case, tmp_path):
    folder = make(tmp_path / "a", snug("llama"), **CASES[case])
    target = expected(snug("llama"), folder, PLAIN)
    close(load(folder), target, PLAIN)
    plain = torch.from_numpy(extract(load(snug("llama")), PLAIN).logits)
    assert (target - plain).abs().max() > 0.01


@pytest.mark.parametrize("case", ["trained whole", "some tokens", "LoRA"])
def test_trained_embeddings_with_added_tokens(case, tmp_path):
    """trainable_token_indices holds rows of the new token alone; the others are the base's."""
    changes = dict(CASES[case])
    if case == "some tokens":
        changes |= {"trainable_token_indices": [len(tokenizer("llama"))], "save": {"save_embedding_layers": False}}
    folder = make(tmp_path / "a", snug("llama"), tokens=USER, **changes)
    close(load(folder), expected(snug("llama"), folder, ROWS, len(tokenizer("llama")) + 1), ROWS)


def test_trained_embeddings_of_an_encoder(tmp_path):
    for name, config in (
        ("whole", {"modules_to_save": ["word_embeddings"]}),
        ("some", {"trainable_token_indices": [5]}),
    ):
        folder = make(tmp_path / name, snug("bert"), **config)
        close(load(folder), expected(snug("bert"), folder, PLAIN), PLAIN)
    folder = make(tmp_path / "saved", snug("bert"), save={"save_embedding_layers": True})
    close(load(folder), expected(snug("bert"), folder, PLAIN), PLAIN)


def test_a_stored_embedding_that_peft_passes_over(tmp_path):
    """Under a name that is not in the model it changes nothing, and its owner believes it does."""
    folder = make(tmp_path / "a", snug("bert"), save={"save_embedding_layers": True})
    held = load_file(folder / WEIGHTS)
    save_file({k.replace("embeddings.word", "embeddings.more.word"): v for k, v in held.items()}, folder / WEIGHTS)
    refused(folder, "1 adapter keys have no place in the model: adapter_model.safe.*more.word_embeddings.weight")


def test_posteriors_over_added_tokens(tmp_path):
    """A stack holds no embeddings: where the adapter stores some it is refused, else the base has as many rows."""
    folder = make(tmp_path / "a", snug("llama"), tokens=USER)
    with pytest.raises(DubioError, match=r"stores embeddings of its own \(model.embed_tokens\), and a posterior over"):
        read_adapter(load(folder), folder)
    folder = make(tmp_path / "b", snug("llama"), tokens=PAD, save={"save_embedding_layers": False})
    model = load(folder)
    host = host_under(model)
    assert host.model.get_input_embeddings().num_embeddings == len(model.tokenizer)
    with pytest.raises(DubioError, match=r"holds the token '.PAD2.', whose embedding"):
        extract(host, ["late [PAD2]"])
    assert read_adapter(model, folder).host.tokenizer.pad_token == "[PAD2]"


def test_a_whole_model_is_not_resized(tmp_path):
    folder = shutil.copytree(snug("bert"), tmp_path / "base")
    own = tf.AutoTokenizer.from_pretrained(folder)
    own.add_special_tokens(USER)
    own.save_pretrained(folder)
    refused(folder, "the tokenizer has 24 tokens and the model 23; they do not match")


def test_the_rows_are_part_of_what_is_cached(tmp_path):
    folders = [make(tmp_path / name, snug("bert"), tokens=more) for name, more in (("a", None), ("b", USER))]
    hashes = [load(folder).hashes for folder in folders]
    assert hashes[0]["base"] == hashes[1]["base"]
    assert all(hashes[0][what] != hashes[1][what] for what in ("config", "tokenizer", "adapter"))
