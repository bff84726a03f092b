"""Texts that hold the pad token: a decoder is read where transformers + peft read it for that text alone."""

import json
import warnings

import numpy as np
import peft
import pytest
import torch
import transformers as tf
from tokenizers import processors
from transformers.trainer_utils import align_special_tokens

from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.adapters.trainer import train_adapter
from dubio.errors import DubioError
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.models.tokens.answer_letters import as_choices, letter_ids
from dubio.models.tokens.batching import pad, tokenize
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.from_adapter import read_adapter
from models.letters_tiny import letter_tokenizer
from models.tiny import CLASSES, DECODERS, save_adapter, save_base, tokenizer

END = "[SEP]"  # of the tiny tokenizers: eos
PLAIN = ["the film was late", "what a film", "no"]
TEXTS = [
    *PLAIN, *(text + END for text in PLAIN), PLAIN[0] + END + END, END, END + END, "yes" + END + "no", "42[UNK]",
    "gate[PAD]", "[PAD]gate" + END + "[UNK][PAD]",
]  # fmt: skip
# What the tokenizer calls its pad token, and what the base's config says.
SETUPS = {
    "pad is eos": (END, None), "pad is eos, and the config says otherwise": (END, 1), "pad is unk": ("[UNK]", None),
    "no pad at all": (None, None), "the config's alone": (None, 1), "a pad of its own": ("[PAD]", 0),
}  # fmt: skip


def make(folder, family, setup, appends=False):
    """(base, adapter) folders."""
    name, number = SETUPS[setup]
    base = save_base(folder / "base", family, pad_token_id=number)
    if appends:
        words = tokenizer("bert")  # words between marks, as a fast tokenizer without a class of its own
        raw = words.backend_tokenizer
        raw.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 3)])
        own = tf.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=END, unk_token="[UNK]", model_max_length=80)
        own.save_pretrained(base)
    facts = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**facts, "pad_token": name}))
    return base, save_adapter(folder / "adapter", base)


def alone(base, adapter, texts):
    """Logits `[n, C]` of each text by itself, by transformers and peft, the config as the Trainer aligns it."""
    tokens = tf.AutoTokenizer.from_pretrained(base)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = tf.AutoModelForSequenceClassification.from_pretrained(base, num_labels=CLASSES)
        align_special_tokens(model, tokens)
        model = peft.PeftModel.from_pretrained(model, adapter).eval()
        rows = [tokens(text, return_tensors="pt") for text in texts]
        return torch.cat(
            [model(input_ids=r["input_ids"], attention_mask=r["attention_mask"]).logits for r in rows]
        ).numpy()


# One decoder with every set-up, and one that counts positions itself; the others are slow tests.
QUICK = [*(("llama", setup) for setup in SETUPS), ("gpt2", "pad is eos")]
CASES = [
    pytest.param(family, setup, marks=[] if (family, setup) in QUICK else pytest.mark.slow)
    for family in DECODERS for setup in SETUPS if family in ("llama", "gpt2") or setup == "pad is eos"
]  # fmt: skip
TWO = ["llama", pytest.param("gpt2", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("family", "setup"), CASES)
def test_prediction_is_that_of_the_text_alone(family, setup, tmp_path):
    base, adapter = make(tmp_path, family, setup)
    model, expected = load(adapter), alone(base, adapter, TEXTS)
    rows = extract(model, TEXTS, how=Extraction(token_budget=64, show=False))
    np.testing.assert_allclose(rows.logits, expected, atol=1e-5)
    for side in ("right", "left"):
        batch = pad(tokenize(model, TEXTS, None), model, side)
        np.testing.assert_allclose(model.forward(batch)[1].numpy(), expected, atol=1e-5)
    read_on = np.abs(expected[: len(PLAIN)] - expected[len(PLAIN) : 2 * len(PLAIN)]).max() > 1e-2
    assert read_on == (not setup.startswith("pad is eos"))  # whether a final eos is read makes a difference


@pytest.mark.parametrize("setup", ["pad is eos", "no pad at all"])
@pytest.mark.parametrize("family", TWO)
def test_a_tokenizer_that_appends_the_pad_token(family, setup, tmp_path):
    base, adapter = make(tmp_path, family, setup, appends=True)
    found = extract(load(adapter), PLAIN, how=Extraction(show=False)).logits
    np.testing.assert_allclose(found, alone(base, adapter, PLAIN), atol=1e-5)


@pytest.mark.parametrize("setup", ["pad is eos", "no pad at all"])
@pytest.mark.parametrize("family", TWO)
def test_the_stack_reads_the_same_token(family, setup, tmp_path):
    base, adapter = make(tmp_path, family, setup)
    model = load(adapter)
    source = read_adapter(model, adapter)
    engine = StackEngine(source.host.model, source.host.site, source.stack, source.host.inputs)
    expected = alone(base, adapter, TEXTS)
    for side in ("right", "left"):
        batch = pad(tokenize(model, TEXTS, None), model, side)
        np.testing.assert_allclose(engine.predict(batch)[0].numpy(), expected, atol=1e-5)


def test_behind_a_learned_prompt_the_last_token_is_read(tmp_path):
    """transformers sees embeddings there, in which it knows no pad token."""
    base, _ = make(tmp_path, "llama", "pad is eos")
    prompt = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    adapter = save_adapter(tmp_path / "prompt", base, prompt)
    found = extract(load(adapter), TEXTS, how=Extraction(show=False)).logits
    np.testing.assert_allclose(found, alone(base, adapter, TEXTS), atol=1e-5)


def rows_of(texts):
    return LabelledTexts(texts, None, np.arange(len(texts), dtype=np.int64) % CLASSES, "0")


def test_training_reads_the_same_token(tmp_path):
    """A tokenizer without a pad token is saved with the one that the adapter was trained with."""
    base = save_base(tmp_path / "base", "gpt2", pad_token_id=None)
    facts = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**facts, "pad_token": None}))
    texts = [text + END for text in PLAIN] * 4
    plan = TrainingPlan(epochs=3, batch_size=4, learning_rate=1e-2, max_length=64, dropout=0.0, show=False)
    out = tmp_path / "adapter"
    train_adapter(str(base), ["a", "b", "c"], rows_of(texts), rows_of(texts), out, plan)
    model = load(out)
    found = extract(model, [*PLAIN, *texts[: len(PLAIN)]], how=Extraction(show=False)).logits
    np.testing.assert_allclose(found[: len(PLAIN)], found[len(PLAIN) :], atol=1e-5)  # the final eos is passed over
    (base / "tokenizer_config.json").write_text(json.dumps({**facts, "pad_token": None, "eos_token": None}))
    with pytest.raises(DubioError, match="neither a pad nor an eos token"):
        train_adapter(str(base), ["a", "b", "c"], rows_of(texts), rows_of(texts), tmp_path / "other", plan)


def test_a_prompt_that_ends_in_the_pad_token_is_refused():
    template = as_choices("AB").template
    with pytest.raises(DubioError, match="ends in the pad token; choose another cue"):
        letter_ids(letter_tokenizer(pad_token=":"), template)
