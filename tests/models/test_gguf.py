"""A .gguf base is read once a process, and what comes of the second reading is what transformers reads."""

import os
import warnings

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dubio.data.prompts import PromptTemplate
from dubio.models import gguf
from dubio.models.base import load_base
from dubio.models.letters import Choices

WORDS = ["<|endoftext|>", "</s>", *"abcdefghijklmnopqrstuvwxyzABC:\u010a\u0120", "ab"]
WIDTH, INNER, HEADS, SHARED = 16, 32, 4, 2


def write_gguf(path, seed=0):
    """A Llama of two blocks with a byte-level tokenizer."""
    writer = GGUFWriter(path, "llama")
    for add, value in [
        (writer.add_context_length, 64), (writer.add_embedding_length, WIDTH), (writer.add_block_count, 2),
        (writer.add_feed_forward_length, INNER), (writer.add_head_count, HEADS), (writer.add_head_count_kv, SHARED),
        (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_vocab_size, len(WORDS)),
        (writer.add_tokenizer_model, "gpt2"), (writer.add_token_list, WORDS), (writer.add_token_merges, ["a b"]),
        (writer.add_token_types, [3, 3] + [1] * (len(WORDS) - 2)), (writer.add_bos_token_id, 0),
        (writer.add_eos_token_id, 1),
    ]:  # fmt: skip
        add(value)
    random = np.random.default_rng(seed)
    shapes = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH),
              "attn_k": (WIDTH // HEADS * SHARED, WIDTH), "attn_v": (WIDTH // HEADS * SHARED, WIDTH),
              "attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH),
              "ffn_down": (WIDTH, INNER)}  # fmt: skip
    tensors = {"token_embd": (len(WORDS), WIDTH), "output_norm": (WIDTH,)}
    tensors |= {f"blk.{block}.{name}": shape for block in range(2) for name, shape in shapes.items()}
    for name, shape in tensors.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape).astype(np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return path


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "_kept", None)
    return write_gguf(tmp_path / "small.gguf")


@pytest.fixture
def readings(monkeypatch):
    """How often transformers has read a file."""
    done, real = [], gguf.classifier_from
    monkeypatch.setattr(gguf, "classifier_from", lambda *given: done.append(given) or real(*given))
    return done


def facts(model):
    """What a model's config says, and where adapters say that it came from."""
    return model.config.to_dict(), model.__dict__.get("name_or_path")


@pytest.mark.parametrize("labels", [["no", "yes"], 5, ["x", "y", "z"]])
def test_second_reading_is_what_transformers_reads(path, readings, labels):
    load_base(str(path), ["other", "labels", "are", "kept"], "cpu")
    torch.manual_seed(7)
    found, tokenizer, missing = load_base(str(path), labels, "cpu")
    after = torch.rand(1)
    assert len(readings) == 1
    names = dict(enumerate(labels)) if isinstance(labels, list) else {i: f"LABEL_{i}" for i in range(labels)}
    torch.manual_seed(7)
    expected = AutoModelForSequenceClassification.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, id2label=names, label2id={v: k for k, v in names.items()}
    )
    assert torch.equal(after, torch.rand(1))  # what is drawn next is the same too
    assert missing == ["score.weight"]
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in found.state_dict().items())
    expected.config.pad_token_id = tokenizer.pad_token_id
    assert facts(found) == facts(expected)
    plain = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert tokenizer.backend_tokenizer.to_str() == plain.backend_tokenizer.to_str()
    assert tokenizer(["abc ba", "b"])["input_ids"] == plain(["abc ba", "b"])["input_ids"]
    assert not found.is_quantized


def test_kept_weights_and_tokenizer_are_nobodys(path):
    """An adapter merged into the base, or a tokenizer with another side, changes nothing of the next reading."""
    first, tokenizer, _ = load_base(str(path), 2, "cpu")
    before = {name: value.clone() for name, value in first.state_dict().items() if "score" not in name}
    tokenizer.truncation_side = "left"
    for _ in range(2):
        model, tokenizer, _ = load_base(str(path), 2, "cpu")
        now = model.state_dict()
        assert all(torch.equal(value, now[name]) for name, value in before.items())
        assert tokenizer.truncation_side == "right"
        with torch.no_grad():
            for value in model.parameters():
                value.add_(1.0)
        tokenizer.truncation_side, tokenizer.pad_token = "left", "a"


def test_file_that_changed_is_read_again(path, readings):
    before, _, _ = load_base(str(path), 2, "cpu")
    facts = path.stat()
    write_gguf(path, seed=1)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    after, _, _ = load_base(str(path), 2, "cpu")
    assert len(readings) == 2
    assert not torch.equal(before.get_input_embeddings().weight, after.get_input_embeddings().weight)


def test_large_base_is_not_held(path, readings, monkeypatch):
    monkeypatch.setattr(gguf, "_LARGEST", 1000)
    for _ in range(2):
        load_base(str(path), 2, "cpu")
    assert len(readings) == 2
    assert gguf._kept is None


def test_labels_of_the_file_are_its_own(path):
    """They are not those that the base was last asked for with."""
    own, _, _ = load_base(str(path), None, "cpu")
    load_base(str(path), ["a", "b", "c"], "cpu")
    again, _, _ = load_base(str(path), None, "cpu")
    assert again.config.id2label == own.config.id2label
    assert again.score.weight.shape == own.score.weight.shape


def test_letters_of_a_kept_base(path, readings):
    choices = Choices(PromptTemplate(("A", "B"), cue="abc", gap=""))
    first, _, missing = load_base(str(path), None, "cpu", choices=choices)
    second, _, _ = load_base(str(path), None, "cpu", choices=choices)
    assert missing == []
    assert len(readings) == 1
    ids = [WORDS.index("A"), WORDS.index("B")]
    for model in (first, second):
        assert torch.equal(model.score.weight, model.get_input_embeddings().weight[ids])


def test_adapters_of_a_kept_base_name_it(path, tmp_path):
    """peft takes the name from the model."""
    names = []
    for _ in range(2):
        model, _, _ = load_base(str(path), 2, "cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS"))
        names.append(adapted.peft_config["default"].base_model_name_or_path)
    assert names == [str(tmp_path)] * 2
