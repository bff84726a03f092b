"""A .gguf base is parsed once, and what comes of the second reading is what transformers reads."""

import os
import warnings

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from peft import LoraConfig, get_peft_model
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from dubio.data.prompts import PromptTemplate
from dubio.models.bases import gguf
from dubio.models.bases.base import load_base
from dubio.models.loading import load
from dubio.models.tokens.answer_letters import Choices

WORDS = ["<|endoftext|>", "</s>", *sorted(ByteLevel.alphabet()), "ab"]
WIDTH, INNER, HEADS, SHARED = 32, 64, 4, 2


def write_gguf(path, seed=0, *, quantised=False, tied=True, tokens=True):
    """A Llama of two blocks with a byte-level tokenizer, or none; its LM head its embedding, or another."""
    writer = GGUFWriter(path, "llama")
    for add, value in [
        (writer.add_context_length, 64), (writer.add_embedding_length, WIDTH), (writer.add_block_count, 2),
        (writer.add_feed_forward_length, INNER), (writer.add_head_count, HEADS), (writer.add_head_count_kv, SHARED),
        (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_vocab_size, len(WORDS)), (writer.add_bos_token_id, 0),
        (writer.add_eos_token_id, 1),
    ]:  # fmt: skip
        add(value)
    if tokens:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(WORDS)
        writer.add_token_merges(["a b"])
        writer.add_token_types([3, 3] + [1] * (len(WORDS) - 2))
    random = np.random.default_rng(seed)
    shapes = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH),
              "attn_k": (WIDTH // HEADS * SHARED, WIDTH), "attn_v": (WIDTH // HEADS * SHARED, WIDTH),
              "attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH),
              "ffn_down": (WIDTH, INNER)}  # fmt: skip
    tensors = {"token_embd": (len(WORDS), WIDTH), "output_norm": (WIDTH,)}
    tensors |= {} if tied else {"output": (len(WORDS), WIDTH)}
    tensors |= {f"blk.{block}.{name}": shape for block in range(2) for name, shape in shapes.items()}
    for name, shape in tensors.items():
        values = random.standard_normal(shape).astype(np.float32)
        if quantised and len(shape) > 1:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", values)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return path


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    monkeypatch.setattr(gguf, "_classifier", None)
    monkeypatch.setattr(gguf, "_tokenizer", None)


@pytest.fixture
def path(tmp_path):
    return write_gguf(tmp_path / "small.gguf")


@pytest.fixture
def readings(monkeypatch):
    """How often transformers has read a file."""
    done, real = [], gguf.classifier_from
    monkeypatch.setattr(gguf, "classifier_from", lambda *given: done.append(given) or real(*given))
    return done


def facts(model):
    """What a model's config says, where its parts say that they came from, and what else it holds."""
    parts = [(name, m.name_or_path) for name, m in model.named_modules() if isinstance(m, PreTrainedModel)]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return model.config.to_dict(), parts, {name: (v.dtype, v.shape, v.requires_grad) for name, v in tensors.items()}


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("labels", [["no", "yes"], 4, 5, ["x", "y", "z"]])
def test_second_reading_is_what_transformers_reads(path, readings, labels, quantised):
    write_gguf(path, quantised=quantised)
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
    assert all(torch.equal(value, dict(expected.named_buffers())[name]) for name, value in found.named_buffers())
    expected.config.pad_token_id = tokenizer.pad_token_id
    assert facts(found) == facts(expected)
    plain = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert tokenizer.backend_tokenizer.to_str() == plain.backend_tokenizer.to_str()
    assert tokenizer(["abc ba", "b"])["input_ids"] == plain(["abc ba", "b"])["input_ids"]
    assert not found.is_quantized


def test_first_reading_and_the_second_are_alike(path):
    """In what the model is known by, too: the hash of its config holds the name of the file, not where it lies."""
    first, _, _ = load_base(str(path), ["a", "b"], "cpu")
    second, _, _ = load_base(str(path), ["a", "b"], "cpu")
    assert facts(first) == facts(second)
    assert first.config.to_dict()["quantization_config"]["gguf_file"] == "small.gguf"
    assert first.__dict__.keys() == second.__dict__.keys()


def test_kept_weights_config_and_tokenizer_are_nobodys(path):
    """An adapter merged into the base, or a tokenizer with another side, changes nothing of the next reading."""
    model, tokenizer, _ = load_base(str(path), 2, "cpu")
    before = {name: value.clone() for name, value in model.state_dict().items() if "score" not in name}
    for _ in range(3):
        with torch.no_grad():
            for value in model.parameters():
                value.add_(1.0)
        model.config.hidden_act, model.config.id2label[0] = "relu", "changed"
        tokenizer.truncation_side, tokenizer.pad_token = "left", "a"
        model, tokenizer, _ = load_base(str(path), 2, "cpu")
        now = model.state_dict()
        assert all(torch.equal(value, now[name]) for name, value in before.items())
        assert (model.config.hidden_act, model.config.id2label[0]) == ("silu", "LABEL_0")
        assert (tokenizer.truncation_side, tokenizer.pad_token) == ("right", "</s>")


@pytest.mark.parametrize("what", ["time", "size", "place"])
def test_another_file_is_read(path, readings, tmp_path, what):
    """A file is the same by its place, its size and the time of its last change."""
    before, _, _ = load_base(str(path), 2, "cpu")
    time = path.stat().st_mtime_ns
    if what == "place":
        path = tmp_path / "other.gguf"
    write_gguf(path, seed=1, tied=what != "size")
    os.utime(path, ns=(time, time + (what == "time")))
    after, _, _ = load_base(str(path), 2, "cpu")
    assert len(readings) == 2
    assert not torch.equal(before.get_input_embeddings().weight, after.get_input_embeddings().weight)


def test_file_of_the_name_in_the_current_folder_is_not_taken(path, tmp_path, monkeypatch):
    """transformers looks there first."""
    (tmp_path / "here").mkdir()
    write_gguf(tmp_path / "here" / path.name, seed=1)
    expected, _, _ = load_base(str(path), 2, "cpu")
    monkeypatch.setattr(gguf, "_classifier", None)
    monkeypatch.chdir(tmp_path / "here")
    found, _, _ = load_base(str(path), 2, "cpu")
    own, _, _ = load_base(path.name, 2, "cpu")
    assert torch.equal(found.get_input_embeddings().weight, expected.get_input_embeddings().weight)
    assert not torch.equal(own.get_input_embeddings().weight, expected.get_input_embeddings().weight)


def test_large_base_is_not_kept(path, readings, monkeypatch):
    monkeypatch.setattr(gguf, "_LARGEST", 1000)
    for _ in range(2):
        load_base(str(path), 2, "cpu")
    assert len(readings) == 2
    assert gguf._classifier is None


def test_labels_of_the_file_are_its_own(path):
    """They are not those that the base was last asked for with."""
    own, _, _ = load_base(str(path), None, "cpu")
    load_base(str(path), ["a", "b", "c"], "cpu")
    again, _, _ = load_base(str(path), None, "cpu")
    assert again.config.id2label == own.config.id2label
    assert again.score.weight.shape == own.score.weight.shape


@pytest.mark.parametrize("tied", [True, False])
def test_letters_of_a_kept_base(path, readings, tied):
    write_gguf(path, tied=tied)
    choices = Choices(PromptTemplate(("A", "B"), cue="abc", gap=""))
    first, _, missing = load_base(str(path), None, "cpu", choices=choices)
    second, _, _ = load_base(str(path), None, "cpu", choices=choices)
    assert missing == []
    assert len(readings) == 1
    whole = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    for model in (first, second):
        assert torch.equal(model.score.weight, whole.lm_head.weight[[WORDS.index("A"), WORDS.index("B")]])


def adapter(model, folder):
    """A plain PEFT adapter of that model, as another tool would leave it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        adapted = get_peft_model(
            model, LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS", init_lora_weights=False)
        )
        adapted.save_pretrained(folder)
    return adapted.peft_config["default"].base_model_name_or_path


def test_adapters_of_a_kept_base_name_it(path, tmp_path):
    """peft takes the name from the model."""
    names = [adapter(load_base(str(path), 2, "cpu")[0], tmp_path / str(i)) for i in range(2)]
    assert names == [str(tmp_path)] * 2


def test_tokenizer_of_an_adapter_does(path, tmp_path):
    """A file without one is no obstacle then."""
    model, tokenizer, _ = load_base(str(path), 2, "cpu")
    adapter(model, tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    bare = write_gguf(tmp_path / "bare.gguf", tokens=False)
    found, own, _ = load_base(str(bare), 2, "cpu", tokenizer_folder=tmp_path / "adapter")
    assert own("abc")["input_ids"] == tokenizer("abc")["input_ids"]
    assert torch.equal(found.get_input_embeddings().weight, load_base(str(path), 2, "cpu")[0].model.embed_tokens.weight)


def test_labels_of_one_adapter_are_not_anothers(path, tmp_path):
    """A plain PEFT adapter has as many labels as its head has rows, and no names."""
    adapter(load_base(str(path), 2, "cpu")[0], tmp_path / "adapter")
    load_base(str(path), ["negative", "positive"], "cpu")
    assert load(tmp_path / "adapter", base=str(path)).labels == ("LABEL_0", "LABEL_1")
