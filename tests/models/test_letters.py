"""Answer letters of causal LMs: tokens, head and logits, against transformers and peft alone."""

import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers import processors

from dubio.data.prompts import PromptTemplate
from dubio.data.tables import read_table
from dubio.errors import DubioError
from dubio.heads import KeptAndRest, build_head, head_spec
from dubio.models.bases.base import load_base
from dubio.models.extraction import extract
from dubio.models.loading import load
from dubio.models.tokens.answer_letters import Choices, as_choices, letter_ids
from dubio.models.tokens.batching import pad, tokenize
from dubio.posteriors.from_adapter import read_adapter
from models.letters_tiny import (
    LETTERS,
    QUESTIONS,
    causal,
    causal_adapter,
    causal_base,
    last_logits,
    letter_tokenizer,
    save_causal,
    save_causal_adapter,
)  # fmt: skip
from models.tiny import base_folder, loaded, refused, settings

TEMPLATE = PromptTemplate(tuple(LETTERS))
PROMPTS = [TEMPLATE.render(row["question"], row["choices"]) for row in QUESTIONS]
TINY = [("llama", False), ("llama", True), ("qwen2", False), ("qwen2", True), ("gpt2", True), ("gpt2", False)]
each_tiny = pytest.mark.parametrize(("family", "tied"), TINY)


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


def own_ids(tokenizer):
    """The letters' tokens by the vocabulary itself."""
    return [tokenizer.get_vocab()[f"Ġ{letter}"] for letter in LETTERS]


@each_tiny
def test_logits_are_those_of_the_causal_lm(family, tied):
    base, adapter = causal_base(family, tied), causal_adapter(family, tied)
    model = load(adapter, letters=LETTERS)
    assert (model.labels, model.kind, model.site.pooling) == (tuple(LETTERS), "LORA", "last")
    tokenizer, ids = letter_tokenizer(), own_ids(letter_tokenizer())
    for side in ("right", "left"):
        expected = last_logits(causal(base, adapter), tokenizer, PROMPTS, side)[:, ids]
        features, logits = model.forward(pad(tokenize(model, PROMPTS, None), model, side))
        close(logits, expected)
        close(model.head(features), expected)
        assert expected.std(dim=0).min() > 0.05  # rows differ, so that equality means something
    plain = last_logits(causal(base), tokenizer, PROMPTS)[:, ids]
    assert (expected - plain).abs().max() > 0.05
    alone = load(base, letters=LETTERS)  # the base itself answers too
    assert alone.kind == "none"
    np.testing.assert_allclose(extract(alone, PROMPTS).logits, plain, atol=1e-5)


@each_tiny
def test_the_rest_of_the_vocabulary_is_a_class(family, tied):
    base, adapter = causal_base(family, tied), causal_adapter(family, tied)
    model = load(adapter, letters=Choices(TEMPLATE, rest=True))
    assert model.labels == (*LETTERS, "rest")
    tokenizer, ids = letter_tokenizer(), own_ids(letter_tokenizer())
    whole = torch.softmax(last_logits(causal(base, adapter), tokenizer, PROMPTS).double(), dim=1)
    expected = torch.cat([whole[:, ids], 1 - whole[:, ids].sum(dim=1, keepdim=True)], dim=1)
    for side in ("right", "left"):
        _, logits = model.forward(pad(tokenize(model, PROMPTS, None), model, side))
        close(torch.softmax(logits.double(), dim=1), expected)
    again = build_head(json.loads(json.dumps(head_spec(model.head))))
    again.load_state_dict(model.head.state_dict())
    z = torch.randn(3, 16)
    assert torch.equal(again(z), model.head(z))


def test_kept_and_rest_in_bfloat16_and_bad_tokens():
    layer = KeptAndRest([3, 1], 6)
    logits = torch.randn(2, 5, 6)
    expected = torch.log_softmax(logits, dim=2)
    found = torch.log_softmax(layer(logits), dim=2)
    close(found[..., :2], expected[..., [3, 1]])
    close(found[..., 2], expected[..., [0, 2, 4, 5]].logsumexp(dim=2))
    assert layer.bfloat16()(logits.bfloat16()).dtype == torch.bfloat16
    for kept, size in (([6], 6), ([-1], 6), ([], 6), ([0, 1], 2)):
        with pytest.raises(ValueError, match="must lie in"):
            KeptAndRest(kept, size)


def test_dora_and_rslora_of_causal_lms_load(tmp_path):
    base = causal_base("llama", True)
    for name, options in {"dora": {"use_dora": True}, "rslora": {"use_rslora": True}}.items():
        folder = save_causal_adapter(tmp_path / name, base, **options)
        expected = last_logits(causal(base, folder), letter_tokenizer(), PROMPTS)[:, own_ids(letter_tokenizer())]
        found = extract(load(folder, letters=LETTERS), PROMPTS).logits
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_bfloat16_keeps_the_head_in_float32():
    exact = load(causal_adapter("llama", False), letters=LETTERS)
    rough = load(causal_adapter("llama", False), letters=LETTERS, precision="bfloat16")
    assert torch.equal(exact.head[0].weight, rough.head[0].weight)
    close(extract(rough, PROMPTS).logits, extract(exact, PROMPTS).logits, 0.3)


def test_a_long_prompt_loses_its_beginning_and_keeps_its_cue():
    model = load(causal_adapter("llama", False), letters=LETTERS, max_length=20)
    ids = tokenize(model, [PROMPTS[3] * 3], None)["input_ids"][0]
    assert len(ids) == 20
    assert model.tokenizer.decode(ids).endswith("Answer:")


def test_a_stack_of_one_is_the_adapter():
    source = read_adapter(load(causal_adapter("qwen2", False), letters=LETTERS), causal_adapter("qwen2", False))
    assert source.host.choices is not None  # read_adapter proves its logits
    assert not any(name.startswith("head/") for name in source.adapted)
    assert any(name.startswith("head/") for name in source.values)


def test_letters_are_tokens_of_their_own():
    tokenizer = letter_tokenizer()
    assert letter_ids(tokenizer, TEMPLATE) == own_ids(tokenizer)
    vocabulary = tokenizer.get_vocab()
    tight = PromptTemplate(tuple(LETTERS), cue="A: (", gap="")
    assert letter_ids(tokenizer, tight) == [vocabulary[letter] for letter in LETTERS]


@pytest.mark.parametrize(("template", "words"), [
    (PromptTemplate(("A", "Z")), r"answer ' Z' is 2 tokens"), (PromptTemplate(("no", "xyz"), gap=""), "tokens"),
    (PromptTemplate(("A", "B"), gap="  "), "changes the tokens|is 2 tokens"),
])  # fmt: skip
def test_letters_of_several_tokens_are_refused(template, words):
    with pytest.raises(DubioError, match=words):
        letter_ids(letter_tokenizer(), template)


def test_a_tokenizer_that_appends_a_token_and_one_without_the_letters():
    ending = letter_tokenizer()
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", special_tokens=[("[SEP]", 3)]
    )
    with pytest.raises(DubioError, match="changes the tokens before it"):
        letter_ids(ending, TEMPLATE)

    def unknowing(text):  # every letter becomes one and the same unknown token
        return {"input_ids": [7, 1] if text.endswith("Answer:") else [7, 1, 0]}

    with pytest.raises(DubioError, match="one and the same token"):
        letter_ids(unknowing, TEMPLATE)


def test_what_is_refused(tmp_path):
    adapter = causal_adapter("llama", False)
    refused(adapter, "name the letters")
    refused(adapter, "is 2 tokens", letters="AZ")
    refused(adapter, "two or more", letters="A")
    refused(base_folder("bert", True), "answer letters need a decoder", letters=LETTERS)
    body = base_folder("llama")  # without an LM head, and untied
    refused(body, "holds no LM head|is 2 tokens", letters=LETTERS)
    refused(str(loaded("llama").base), "no adapter and no classifier")
    capped = save_causal(tmp_path / "capped", final_logit_softcapping=30.0)
    refused(capped, "changes the logits of its LM head", letters=LETTERS)
    body = tmp_path / "body"
    causal(causal_base("llama", False)).model.save_pretrained(body)
    letter_tokenizer().save_pretrained(body)
    refused(body, "holds no LM head, only the body", letters=LETTERS)


def test_adapters_that_do_not_fit_letters_are_refused(tmp_path):
    from models.tiny import adapter_folder

    refused(adapter_folder("llama"), "head of its own", letters=LETTERS)
    base = causal_base("llama", False)
    on_head = save_causal_adapter(tmp_path / "head", base, target_modules=["q_proj", "lm_head"])
    refused(on_head, "adapts lm_head", letters=LETTERS)
    whole = save_causal_adapter(tmp_path / "whole", base, modules_to_save=["embed_tokens"])
    refused(whole, "adapts embed_tokens", letters=LETTERS)
    known = shutil.copytree(causal_adapter("llama", False), tmp_path / "known")
    choices = Choices(TEMPLATE)
    (known / "dubio_training.json").write_text(json.dumps({"choices": choices.facts()}))
    assert load(known).choices == choices
    assert load(known, letters=LETTERS).choices == choices
    refused(known, "other letters or another prompt", letters="ABC")
    settings(known, task_type="gone")  # what the record tells is enough
    assert load(known).labels == tuple(LETTERS)


def test_other_letters_are_another_model():
    one = load(causal_adapter("llama", False), letters=LETTERS)
    two = load(causal_adapter("llama", False), letters="DCBA")
    assert one.hashes["letters"] != two.hashes["letters"]
    found, turned = (extract(model, PROMPTS) for model in (one, two))
    np.testing.assert_array_equal(found.logits, turned.logits[:, ::-1])
    np.testing.assert_array_equal(found.features, turned.features)
    with pytest.raises(DubioError, match="cannot be called"):
        Choices(PromptTemplate(("rest", "B")), rest=True)
    assert as_choices("True,False").labels == ("True", "False")


@pytest.mark.slow  # a GGUF file takes its readers twenty seconds, and it is read twice
def test_smollm2_on_arc_easy(data_root):
    from dubio.data.bundled.packages import smollm2_gguf_path

    path = smollm2_gguf_path()
    # Every so many rows: the file is sorted by the answer.
    table = read_table(data_root / "arc_easy" / "validation.parquet").take(slice(0, None, 48))
    choices = Choices(table.template)
    model, tokenizer, missing = load_base(str(path), None, "cpu", choices=choices)
    assert missing == []
    assert not model.is_quantized  # else the Trainer would refuse it
    ids = letter_ids(tokenizer, table.template)
    assert [tokenizer.convert_ids_to_tokens(i) for i in ids] == [f"Ġ{letter}" for letter in table.template.letters]
    import transformers as tf

    whole = tf.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    tokenizer.padding_side = "left"
    batch = tokenizer(list(table.texts), padding=True, return_tensors="pt")
    positions = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = whole(**batch, position_ids=positions).logits[:, -1, ids]
        found = model(**batch, position_ids=positions).logits
    close(found, expected, 1e-4)
    accuracy = (found.argmax(dim=1).numpy() == table.label_ids(choices.labels)).mean()
    print(f"SmolLM2-135M zero-shot on {len(table)} rows: accuracy {accuracy:.2f}")
