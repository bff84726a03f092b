"""Training on tiny models: a plain PEFT folder of the best epoch, the same bytes each time, also after a kill."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from dubio.adapters import trainer as training
from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.adapters.targets import fresh_modules, lora_targets
from dubio.adapters.trainer import train_adapter
from dubio.errors import DubioError
from dubio.models.bases.base import base_hash
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from models.tiny import FAMILIES, base_folder, save_base

NAMES = ["film", "phone", "gate"]
PLAN = TrainingPlan(
    rank=4, learning_rate=2e-2, epochs=3, batch_size=8, max_length=24, precision="float32", show=False
)  # fmt: skip


def table(rows, seed, shift=0, pairs=False):
    """Texts that name their class among other words; labels moved on by `shift`."""
    g = np.random.default_rng(seed)
    labels = g.integers(0, 3, rows)
    fill = ["a", "the", "was", "late", "and", "little", "wonderful", "in"]
    texts = [" ".join(g.permutation([NAMES[y], *g.choice(fill, g.integers(1, 7))])) for y in labels]
    return LabelledTexts(texts, texts[::-1] if pairs else None, (labels + shift) % 3, f"hash of {rows} {seed} {shift}")


TRAIN, VALIDATION = table(48, 0), table(24, 1)


def train(out, plan=PLAN, family="bert", rows=TRAIN, validation=VALIDATION, base=None):
    return train_adapter(base or str(base_folder(family)), NAMES, rows, validation, out, plan)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "adapter"
    return out, train(out)


def test_a_plain_peft_folder(trained):
    out, _ = trained
    names = {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names | {training.RECORD} <= set(content(out))
    assert not [path for path in out.iterdir() if path.is_dir()]
    (out.parent / "plain").write_text("x")
    usual = (out.parent / "plain").stat().st_mode  # what libraries write for their owner alone, others can read too
    assert {path.name: path.stat().st_mode for path in out.iterdir()} == dict.fromkeys(content(out), usual)
    base = tf.AutoModelForSequenceClassification.from_pretrained(base_folder("bert"), num_labels=3)
    theirs = peft.PeftModel.from_pretrained(base, out).eval()
    assert theirs.active_peft_config.r == 4
    ours = load(out)
    assert (ours.labels, ours.kind, ours.max_length) == (tuple(NAMES), "LORA", 24)
    batch = dict(ours.tokenizer(TRAIN.texts, padding=True, return_tensors="pt"))
    with torch.no_grad():
        torch.testing.assert_close(theirs(**batch).logits, ours.forward(batch)[1])


def test_the_record(trained):
    out, record = trained
    assert json.loads((out / training.RECORD).read_text()) == json.loads(json.dumps(record))
    assert record["base"] == str(base_folder("bert"))
    assert record["base_sha256"] == base_hash(str(base_folder("bert")))
    assert record["train"] == {"rows": 48, "sha256": TRAIN.sha256, "truncated": 0}
    assert record["validation"] == {"rows": 24, "sha256": VALIDATION.sha256, "truncated": 0}
    assert (record["plan"]["rank"], record["plan"]["epochs"], record["max_length"]) == (4, 3, 24)
    assert len(record["validation_accuracy"]) == 3


def test_settings_of_the_paper():
    plan = TrainingPlan()
    assert (plan.rank, plan.alpha, plan.dropout, plan.learning_rate) == (8, 16, 0.05, 5e-4)
    assert (plan.weight_decay, plan.batch_size, plan.max_length) == (0.1, 64, 512)


def accuracy(folder, rows):
    found = extract(load(folder), rows.texts, labels=rows.labels, how=Extraction(show=False))
    return 1 - found.errors.mean()


LONGER, ROWS = replace(PLAN, epochs=6, rank=8, batch_size=16), table(240, 0)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_last_blocks_alone_can_be_adapted(family, tmp_path):
    train(tmp_path / "adapter", replace(PLAN, epochs=1, top_layers=1), family)
    keys = [k for k in load_file(tmp_path / "adapter" / "adapter_model.safetensors") if "lora_A" in k]
    assert keys
    assert all(".1." in key for key in keys)
    assert load(tmp_path / "adapter").kind == "LORA"
    with pytest.raises(DubioError, match="has 2 blocks, so top_layers cannot be 3"):
        train(tmp_path / "more", replace(PLAN, top_layers=3), family)


def test_layers_are_chosen_by_the_ends_of_their_names(tmp_path):
    train(tmp_path / "adapter", replace(PLAN, epochs=1, targets="query, output.dense"), "roberta")
    keys = {k for k in load_file(tmp_path / "adapter" / "adapter_model.safetensors") if "lora_A" in k}
    ends = {key.partition(".layer.")[2][2:].partition(".lora_A")[0] for key in keys}
    assert ends == {"attention.self.query", "attention.output.dense", "output.dense"}
    assert load(tmp_path / "adapter").kind == "LORA"
    train(tmp_path / "top", replace(PLAN, epochs=1, targets="query", top_layers=1), "roberta")
    keys = [k for k in load_file(tmp_path / "top" / "adapter_model.safetensors") if "lora_A" in k]
    assert len(keys) == 1
    assert ".layer.1.attention.self.query" in keys[0]
    with pytest.raises(DubioError, match=r"no linear layer in the blocks of RobertaFor.* ends with 'nonsense'"):
        train(tmp_path / "more", replace(PLAN, targets="query,nonsense"), "roberta")


def test_it_learns(tmp_path):
    held = table(60, 1)
    record = train(tmp_path / "a", LONGER, rows=ROWS, validation=held)
    assert accuracy(tmp_path / "a", held) == pytest.approx(max(record["validation_accuracy"]))
    assert accuracy(tmp_path / "a", held) > 0.7


def test_the_best_epoch_is_kept(tmp_path):
    """Validated on labels that are all wrong, the best epoch is an early one."""
    wrong = table(60, 1, shift=1)
    record = train(tmp_path / "a", LONGER, rows=ROWS, validation=wrong)
    history = record["validation_accuracy"]
    assert record["best_epoch"] == 1 + history.index(max(history)) < 4
    assert accuracy(tmp_path / "a", wrong) == pytest.approx(max(history))
    assert max(history) > history[-1] + 0.1


def test_the_same_seed_gives_the_same_bytes(trained, tmp_path):
    out, _ = trained
    train(tmp_path / "again")
    assert content(tmp_path / "again") == content(out)
    train(tmp_path / "other", replace(PLAN, seed=1))
    assert content(tmp_path / "other")["adapter_model.safetensors"] != content(out)["adapter_model.safetensors"]
    settings = json.loads(content(out)["adapter_config.json"])
    for name in ("target_modules", "modules_to_save"):  # sets in peft, whose order changes from run to run
        assert settings[name] == sorted(set(settings[name]))


def kill(out, step):
    """Trains in a child that dies, as by kill -9, on its way into this optimiser step."""
    child = os.fork()
    if child == 0:
        signal.alarm(600)
        real = training.Trainer.training_step

        def deadly(self, *args, **options):
            if self.state.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, *args, **options)

        training.Trainer.training_step = deadly
        train(out)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.mark.parametrize(("step", "damage", "left"), [(3, False, {18}), (15, False, {6}), (15, True, {12, 18})])
def test_a_killed_run_ends_like_any_other(step, damage, left, trained, tmp_path, monkeypatch):
    out, steps, real = tmp_path / "adapter", [], training.Trainer.training_step
    kill(out, step)
    with pytest.raises(DubioError, match="holds neither an adapter nor a model"):
        load(out)
    if damage:  # killed while it wrote the newest checkpoint
        state = max(out.glob(".training-*/checkpoint-*/trainer_state.json"), key=lambda p: p.stat().st_mtime)
        state.write_text(state.read_text()[:50])
    monkeypatch.setattr(training.Trainer, "training_step", lambda *a, **k: steps.append(1) or real(*a, **k))
    train(out)
    assert len(steps) in left  # epochs that were finished are not trained again
    assert content(out) == content(trained[0])


def test_a_run_killed_while_it_publishes(trained, tmp_path, monkeypatch):
    out, move = tmp_path / "adapter", Path.replace

    def deadly(self, target):
        if Path(target).name == "adapter_config.json" and Path(target).parent == out:
            raise KeyboardInterrupt
        return move(self, target)

    monkeypatch.setattr(Path, "replace", deadly)
    with pytest.raises(KeyboardInterrupt):
        train(out)
    monkeypatch.undo()
    with pytest.raises(DubioError, match=r"no adapter_config\.json"):
        load(out)
    train(out)
    assert content(out) == content(trained[0])


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "bert"])
def test_every_family_is_trained_and_proven(family, tmp_path):
    few = table(12, 2)
    record = train(tmp_path, replace(PLAN, epochs=1), family, few, few)
    model = load(tmp_path)
    assert model.labels == tuple(NAMES)
    assert accuracy(tmp_path, few) == pytest.approx(record["validation_accuracy"][0])


def test_bfloat16_autocast_leaves_float32_weights(trained, tmp_path):
    train(tmp_path, replace(PLAN, epochs=1, precision="bfloat16"))
    found = load_file(tmp_path / "adapter_model.safetensors")
    assert {value.dtype for value in found.values()} == {torch.float32}
    exact = load_file(trained[0] / "adapter_model.safetensors")
    assert set(found) == set(exact)


def test_auto_precision_asks_the_hardware(tmp_path, monkeypatch):
    seen, real = [], training.TrainingArguments
    monkeypatch.setattr(
        training, "TrainingArguments", lambda **options: seen.append(options["bf16"]) or real(**options)
    )
    for able in (False, True):
        monkeypatch.setattr(training, "has_bfloat16", lambda device, able=able: able)
        train(tmp_path / str(able), replace(PLAN, epochs=1, precision="auto"), rows=table(8, 3))
    assert seen == [False, True]


def test_the_bases_own_dropout_can_be_off(tmp_path, monkeypatch):
    seen, real = {}, training.Trainer.training_step

    def watch(self, model, *rest, **options):
        seen[plan.base_dropout] = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
        return real(self, model, *rest, **options)

    monkeypatch.setattr(training.Trainer, "training_step", watch)
    for on in (True, False):
        plan = replace(PLAN, epochs=1, base_dropout=on)
        train(tmp_path / str(on), plan, rows=table(8, 3))
    assert seen == {True: {0.05, 0.1}, False: {0.0, 0.05}}  # the adapter's own stays as it was asked for


def test_pairs(tmp_path):
    plan, rows = replace(PLAN, epochs=1), table(12, 2, pairs=True)
    train(tmp_path / "pairs", plan, rows=rows, validation=rows)
    train(tmp_path / "single", plan, rows=table(12, 2), validation=rows)
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("pairs", "single"))
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_quiet_is_quiet(tmp_path, capfd):
    train(tmp_path, replace(PLAN, epochs=1))
    assert capfd.readouterr() == ("", "")


def test_a_gguf_file_stays_the_named_base(tmp_path, monkeypatch):
    """peft would name the folder that holds the file, from which nothing can be loaded."""
    real = training.load_base
    monkeypatch.setattr(training, "load_base", lambda base, *rest: real(str(base_folder("llama")), *rest))
    monkeypatch.setattr(training, "base_hash", lambda base: "0" * 64)
    train(tmp_path, replace(PLAN, epochs=1), base="models/small.gguf", rows=table(8, 3))
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "models/small.gguf"


def test_rows_are_padded_on_the_right(tmp_path):
    """As in extraction: GPT-2 counts positions from the left, padding included."""
    base = shutil.copytree(base_folder("gpt2"), tmp_path / "base")
    facts = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**facts, "padding_side": "left"}))
    train(tmp_path / "left", replace(PLAN, epochs=1), base=str(base))
    train(tmp_path / "right", replace(PLAN, epochs=1), "gpt2")
    found = [content(tmp_path / name)["adapter_model.safetensors"] for name in ("left", "right")]
    assert found[0] == found[1]


@pytest.mark.parametrize(("changes", "reason"), [
    ({"plan": {"precision": "float16"}}, "unknown precision 'float16'; choose auto, float32 or bfloat16"),
    ({"plan": {"rank": 0}}, "training setting rank must be above 0, not 0"),
    ({"plan": {"epochs": -1}}, "epochs must be above 0"), ({"plan": {"learning_rate": float("nan")}}, "learning_rate"),
    ({"plan": {"dropout": 1.0}}, "dropout must be at least 0 and below 1"),
    ({"plan": {"device": "cuda:99"}}, "device 'cuda:99' was asked for"),
    ({"rows": replace(TRAIN, labels=TRAIN.labels * 0)}, "the training rows are all of one class"),
    ({"rows": replace(TRAIN, labels=TRAIN.labels + 1)}, r"training labels: row \d+ holds class 3"),
    ({"rows": replace(TRAIN, labels=TRAIN.labels[:5])}, "training labels: expected a vector of 48 rows"),
    ({"validation": LabelledTexts([], None, np.zeros(0, np.int64), "")}, "no validation rows"),
    ({"base": "/nowhere/base"}, "there is no base model folder /nowhere/base"),
])  # fmt: skip
def test_refusals_leave_nothing_behind(changes, reason, tmp_path):
    plan = replace(PLAN, **changes.pop("plan", {}))
    with pytest.raises(DubioError, match=reason):
        train(tmp_path / "adapter", plan, **changes)
    assert not list(tmp_path.iterdir())


def test_an_adapter_is_never_overwritten(trained):
    before = content(trained[0])
    with pytest.raises(DubioError, match="already holds an adapter; choose another folder or delete it"):
        train(trained[0], replace(PLAN, seed=3))
    assert content(trained[0]) == before


def test_unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DubioError, match="cannot write"):
        train(tmp_path / "file" / "adapter")


def test_bases_that_cannot_be_trained(tmp_path):
    broken = save_base(tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DubioError, match=r"the base model lacks bert.encoder.layer.1.output.dense.weight"):
        train(tmp_path / "adapter", base=str(broken))
    with pytest.raises(DubioError, match="no query, key and value projections known in Linear; train it with peft"):
        lora_targets(torch.nn.Linear(2, 2))
    assert not (tmp_path / "adapter").exists()


def test_fresh_modules():
    assert fresh_modules([]) == []
    assert fresh_modules(["pre_classifier.weight", "classifier.bias"]) == ["classifier", "pre_classifier"]
    assert fresh_modules(["bert.pooler.dense.weight", "classifier.weight"]) == ["classifier", "pooler"]
