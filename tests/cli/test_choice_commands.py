"""Multiple choice from the command line: question tables, a tiny causal LM, letters; train to score, and plain peft."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from pyarrow import parquet

from dubio.data.tables import read_table
from dubio.models.extraction import extract
from dubio.models.loading import load
from dubio.posteriors.base_model import host_under
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior
from models.letters_tiny import causal, last_logits, letter_tokenizer, save_causal, save_causal_adapter
from models.tiny import WORDS
from tiny_classifier import dubio, read_rows

METHODS = "softmax_response,entropy,md"
SETTINGS = {"epochs": 6, "learning_rate": 0.02, "batch_size": 32, "max_length": 96, "dropout": 0.1, "rank": 4}
SMALL = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
KEYS = ("film", "gate", "phone", "wonderful")  # which of them a question speaks of is the letter of its answer


def questions(path, count, seed, noise=0.15):
    g = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        answer = int(g.integers(4))
        own = [w for w in WORDS if w not in KEYS]
        choices = [str(word) for word in g.choice(own, 4, replace=False)]
        row = {"id": f"{number:03d}", "question": f"{number} {seed} {KEYS[answer]} ?", "choices": choices}
        rows.append({**row, "answer": int(g.integers(4)) if g.random() < noise else answer})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Tiny:
    def __init__(self, root):
        self.root = root
        wide = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
        self.base = save_causal(root / "base", "llama", tied=False, **wide)
        counts = {"train": 160, "validation": 40, "calibration": 120, "test": 80}
        for seed, (name, count) in enumerate(counts.items()):
            setattr(self, name, questions(root / f"{name}.jsonl", count, seed))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Tiny(tmp_path_factory.mktemp("choices"))


@pytest.fixture(autouse=True)
def _cache(tiny, monkeypatch):
    monkeypatch.setenv("DUBIO_CACHE", str(tiny.root / "cache"))


@pytest.fixture(scope="module")
def trained(tiny):
    """Posterior (or None) -> adapter folder trained with it."""
    own = {
        None: (), "ensemble": ("--posterior", "ensemble", "--members", "2"),
        "swag_lora": ("--posterior", "swag_lora", "--set", "swag_epochs=2", "--set", "collections=2"),
        "swag_lora_xs": ("--posterior", "swag_lora_xs", "--set", "swag_epochs=2", "--set", "collections=2"),
        "blob": ("--posterior", "blob"), "rank_dropout": ("--posterior", "rank_dropout"),
    }  # fmt: skip
    made = {}

    def make(name):
        if name not in made:
            out = tiny.root / f"adapter-{name}"
            done = dubio("train", "--train", tiny.train, "--validation", tiny.validation, "--model", tiny.base, "--out",
                         out, *own[name], *SMALL)  # fmt: skip
            assert done.code == 0, done
            made[name] = out
        return made[name]

    return make


@pytest.mark.parametrize("name", [None, "ensemble", "swag_lora", "swag_lora_xs", "blob", "rank_dropout"])
def test_trained_adapters_are_plain_ones_of_the_causal_lm(trained, tiny, name):
    adapter = trained(name)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    assert (settings["task_type"], settings["modules_to_save"], settings["auto_mapping"]) == ("CAUSAL_LM", None, None)
    record = json.loads((adapter / "dubio_training.json").read_text())
    assert (record["labels"], record["choices"]["letters"]) == (list("ABCD"), list("ABCD"))
    table = read_table(tiny.test).take(slice(0, 8))
    model, ids = load(adapter), [letter_tokenizer().get_vocab()[f"Ġ{letter}"] for letter in "ABCD"]
    expected = last_logits(causal(tiny.base, adapter), letter_tokenizer(), table.texts)[:, ids]
    np.testing.assert_allclose(extract(model, table.texts).logits, expected, atol=1e-4)
    assert torch.equal(model.head[0].weight, causal(tiny.base).get_output_embeddings().weight[ids])  # frozen
    whole = read_table(tiny.test)
    accuracy = (extract(model, whole.texts).predictions == whole.label_ids("ABCD")).mean()
    assert accuracy > (0.35 if name != "swag_lora_xs" else 0.2)  # cores of rank 4 learn little of this
    if name is not None:
        stored = load_posterior(adapter, name)
        assert not any("head/" in tensor for tensor in stored.posterior.tensors)
        drawn = sample(Sampler(host_under(model), stored), list(table.texts))
        assert drawn.shape == (stored.samples, 8, 4)
        if name == "ensemble":  # the adapter beside it is the first member
            np.testing.assert_allclose(drawn[0], torch.log_softmax(expected, dim=1), atol=1e-4)
            assert np.abs(drawn[1] - drawn[0]).max() > 0.01


@pytest.mark.parametrize("name", ["ensemble", "swag_lora", "swag_lora_xs"])
def test_a_posterior_goes_all_the_way(trained, tiny, tmp_path, name):
    measures = f"{name}.response,{name}.mutual_information"
    done = dubio("fit", trained(name), "--calibration", tiny.calibration, "--methods", f"softmax_response,{measures}")
    assert done.code == 0, done
    done = dubio("evaluate", trained(name), "--test", tiny.test, "--report", tmp_path)
    assert done.code == 0, done
    found = {(m["method"], m["metric"]): m["value"] for m in json.loads((tmp_path / "metrics.json").read_text())}
    assert found[name, "system_accuracy"] > 0.2


def test_the_mean_prediction_of_a_posterior_can_be_judged(trained, tiny, tmp_path):
    adapter = shutil.copytree(trained("ensemble"), tmp_path / "adapter")
    options = ("--predictions", "ensemble", "--methods", "softmax_response,entropy,ensemble.mutual_information")
    done = dubio("fit", adapter, "--calibration", tiny.calibration, *options)
    assert done.code == 0, done
    done = dubio("score", adapter, tiny.test, "--output", tmp_path / "out.parquet")
    assert done.code == 0, done
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    sampler = Sampler(host_under(load(adapter)), load_posterior(adapter, "ensemble"))
    mean = np.exp(sample(sampler, list(read_table(tiny.test).texts))).mean(axis=0)
    assert [row["predicted_label"] for row in rows] == ["ABCD"[i] for i in mean.argmax(axis=1)]


def test_fit_evaluate_score_and_posteriors_onto(trained, tiny, tmp_path):
    adapter = shutil.copytree(trained(None), tmp_path / "adapter")
    for name, options in {
        "mc_dropout": ("--samples", "4"), "tfb": ("--rows", tiny.validation), "laplace": ("--rows", tiny.train),
        "laplace_lora": ("--rows", tiny.train, "--validation", tiny.validation),
    }.items():  # fmt: skip
        done = dubio("posterior", adapter, name, *options)
        assert done.code == 0, done
        kept = any("head/" in tensor for tensor in load_posterior(adapter, name).posterior.tensors)
        assert kept == (name == "laplace")
    done = dubio("fit", adapter, "--train", tiny.train, "--calibration", tiny.calibration)
    assert done.code == 0, done
    manifest = json.loads((adapter / "dubio" / "manifest.json").read_text())
    methods = {entry["name"] for entry in manifest["methods"]}
    assert {"softmax_response", "adue", "md", "tfb.response", "laplace.response", "mc_dropout.response"} <= methods
    assert manifest["model"]["choices"]["letters"] == list("ABCD")
    done = dubio("evaluate", adapter, "--test", tiny.test, "--report", tmp_path / "report")
    assert done.code == 0, done
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    accuracy = next(m["value"] for m in metrics if m["metric"] == "accuracy")
    unanswered = tmp_path / "new.parquet"
    frame = read_table(tiny.test).frame
    parquet.write_table(frame.drop_columns(["answer"]), unanswered)
    done = dubio("score", adapter, unanswered, "--output", tmp_path / "out.parquet")
    assert done.code == 0, done
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    answers = frame.column("answer").to_pylist()
    assert np.mean([r["predicted_label"] == "ABCD"[a] for r, a in zip(rows, answers, strict=True)]) == accuracy
    assert rows[0]["choices"] == frame.column("choices")[0].as_py()
    refused = dubio("score", adapter, unanswered, "--output", tmp_path / "out.csv")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "does not fit a CSV" in refused.err
    again = dubio("evaluate", adapter, "--test", tiny.calibration)
    assert (again.code, "also in calibration" in again.err) == (2, True)


def test_a_plain_peft_adapter_with_letters_and_a_prompt(tiny, tmp_path):
    adapter = save_causal_adapter(tmp_path / "adapter", tiny.base)
    prompt = tmp_path / "prompt.json"
    prompt.write_text(
        json.dumps({"letters": list("ABCD"), "instruction": "what a film", "choice": "({letter}) {choice}"})
    )
    fit = partial(dubio, "fit", adapter, "--calibration", tiny.calibration, "--methods", METHODS.replace(",md", ""))
    for options, words in {
        (): "name the answer letters, as in --letters", ("--letters", "ABC"): "line 1: 4 choices for 3 letters",
        ("--letters", "ABCDZ"): "answer ' Z' is 2 tokens", ("--letters", "A"): "two or more",
        ("--prompt", str(tiny.train)): "is not readable JSON",
    }.items():  # fmt: skip
        done = fit(*options)
        assert (done.code, done.err.count("\n"), words in done.err) == (2, 1, True), done
    done = fit("--prompt", prompt)
    assert done.code == 0, done
    manifest = json.loads((adapter / "dubio" / "manifest.json").read_text())
    assert manifest["model"]["choices"]["instruction"] == "what a film"
    done = dubio("score", adapter, tiny.test, "--output", tmp_path / "out.parquet")  # the artefact knows the prompt
    assert done.code == 0, done
    first = json.loads(tiny.test.read_text().splitlines()[0])
    lines = [f"({letter}) {choice}" for letter, choice in zip("ABCD", first["choices"], strict=True)]
    text = "\n".join(["what a film", first["question"], *lines, "Answer:"])
    ids = [letter_tokenizer().get_vocab()[f"Ġ{letter}"] for letter in "ABCD"]
    logits = last_logits(causal(tiny.base, adapter), letter_tokenizer(), [text])[0, ids]
    row = parquet.read_table(tmp_path / "out.parquet").to_pylist()[0]
    assert row["predicted_label"] == "ABCD"[int(logits.argmax())]
    assert row["probability"] == pytest.approx(float(torch.softmax(logits, dim=0).max()), abs=1e-5)
    prompt.write_text(json.dumps({"letters": list("ABCD"), "instruction": "another"}))
    for options in (("--letters", "DCBA"), ("--letters", "ABCD"), ("--prompt", prompt)):
        other = dubio("score", adapter, tiny.test, "--output", tmp_path / "o.parquet", *options)
        assert (other.code, other.err.count("\n"), "other answer letters or another prompt" in other.err) == (
            2,
            1,
            True,
        )
    rows = [json.loads(line) for line in tiny.test.read_text().splitlines()]
    strange = tmp_path / "strange.jsonl"
    strange.write_text("".join(json.dumps({"question": r["question"], "choice": r["choices"]}) + "\n" for r in rows))
    other = dubio("score", adapter, strange, "--output", tmp_path / "o.parquet")
    assert (other.code, other.err.count("\n"), "no columns of questions and lists" in other.err) == (2, 1, True), other


def test_rest_is_a_class_from_training_to_score(tiny, tmp_path):
    prompt = tmp_path / "prompt.json"
    prompt.write_text(json.dumps({"letters": list("ABCD"), "rest": True}))
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    whole = causal(tiny.base)
    with torch.no_grad():  # a base that means to answer by letters, or all its predictions would be the rest
        whole.get_output_embeddings().weight[[letter_tokenizer().get_vocab()[f"Ġ{letter}"] for letter in "ABCD"]] *= 6
    whole.save_pretrained(base)
    letter_tokenizer().save_pretrained(base)
    done = dubio("train", "--train", tiny.train, "--validation", tiny.validation, "--model", base, "--out", adapter,
                 "--prompt", prompt, "--posterior", "ensemble", "--members", "2", *SMALL)  # fmt: skip
    assert done.code == 0, done
    model = load(adapter)
    assert model.labels == ("A", "B", "C", "D", "rest")
    done = dubio("fit", adapter, "--train", tiny.train, "--calibration", tiny.calibration)
    assert done.code == 0, done
    manifest = json.loads((adapter / "dubio" / "manifest.json").read_text())
    assert "head over the whole vocabulary" in manifest["left_out"]["adue"]
    assert "ensemble.response" in {entry["name"] for entry in manifest["methods"]}
    refused = dubio("posterior", adapter, "laplace", "--rows", tiny.train)
    assert (refused.code, "ends in a linear layer" in refused.err) == (2, True)
    done = dubio("score", adapter, tiny.test, "--output", tmp_path / "out.parquet")
    assert done.code == 0, done


def test_csv_tables_go_in_and_out(trained, tiny, tmp_path):
    adapter = shutil.copytree(trained(None), tmp_path / "adapter")
    rows = [json.loads(line) for line in tiny.test.read_text().splitlines()]
    lines = [",".join(f'"{v}"' for v in (r["question"], json.dumps(r["choices"]).replace('"', '""'))) for r in rows]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["question,choices", *lines]) + "\n")
    assert dubio("fit", adapter, "--calibration", tiny.calibration, "--methods", "softmax_response,entropy").code == 0
    done = dubio("score", adapter, table, "--output", tmp_path / "out.csv")
    assert done.code == 0, done
    assert json.loads(read_rows(tmp_path / "out.csv")[3]["choices"]) == rows[3]["choices"]


@pytest.mark.parametrize(("change", "options", "words"), [
    ({"answer": 9}, (), "line 1: column 'answer' holds '9'"), ({"choices": ["one"]}, (), "line 1: column 'choices'"),
    ({}, ("--letters", "AB"), "line 1: 4 choices for 2 letters"), ({}, ("--letters", "WXYZ"), "tokens after"),
])  # fmt: skip
def test_bad_training_tables_are_one_line(tiny, tmp_path, change, options, words):
    rows = [json.loads(line) for line in tiny.train.read_text().splitlines()]
    rows[0] |= change
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = dubio("train", "--train", bad, "--model", tiny.base, "--out", tmp_path / "out", *options)
    assert (done.code, done.err.count("\n"), words in done.err) == (2, 1, True), done
    assert not (tmp_path / "out" / "adapter_config.json").exists()
