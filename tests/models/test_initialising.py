"""Adapters whose initialisation changes the base: two loads are one model and peft's own, or it is refused."""

import shutil

import peft
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from dubio.models.adapter.files import find_adapter
from dubio.models.adapter.initialising import is_plain
from dubio.models.extraction import extract
from dubio.models.loading import load
from models.options import PLAIN, expected, make, quiet, snug
from models.tiny import adapter_folder, refused, save_adapter, settings

WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize("family", ["bert", pytest.param("llama", marks=pytest.mark.slow)])
@pytest.mark.parametrize("init", ["pissa", "olora", "orthogonal", "eva", "gaussian", "mica", False])
def test_initialisations_that_follow_from_the_base(init, family, tmp_path):
    folder = make(tmp_path / "a", snug(family), init_lora_weights=init)
    target = expected(snug(family), folder, PLAIN)
    for seed in (1, 2):
        torch.manual_seed(seed)
        found = torch.from_numpy(extract(load(folder), PLAIN).logits)
        torch.testing.assert_close(found, target, atol=1e-5, rtol=1e-5)


def forged(target, **changes):
    """What such an adapter leaves on disk, where making one needs data, a GPU or another package."""
    folder = shutil.copytree(make(target.parent / "made", snug("bert")), target)
    settings(folder, **changes)
    return folder


@pytest.mark.parametrize(("init", "more", "reason"), [
    ("pissa_niter_4", {}, "draws random numbers"),
    ("corda", {"corda_config": {}}, "looks at data that the adapter does not hold"),
    ("lora_ga", {"lora_ga_config": {}}, "looks at gradients that the adapter does not hold"),
])  # fmt: skip
def test_initialisations_that_no_load_can_repeat(init, more, reason, tmp_path):
    folder = forged(tmp_path / "a", init_lora_weights=init, **more)
    refused(folder, rf"initialised by '{init}', which {reason} .*path_initial_model_for_weight_conversion=FOLDER")


def test_loftq_names_its_own_way_out(tmp_path):
    folder = forged(tmp_path / "a", init_lora_weights="loftq", loftq_config={"loftq_bits": 4, "loftq_iter": 1})
    refused(folder, "initialised by 'loftq', which quantises the base .*name that base with --base")


def test_pissa_by_random_vectors_is_another_model_at_each_load(tmp_path):
    """The oracle for the refusal: peft itself, twice."""
    folder = make(tmp_path / "a", snug("bert"), init_lora_weights="pissa_niter_0", r=6)
    torch.manual_seed(1)
    first = expected(snug("bert"), folder, PLAIN)
    torch.manual_seed(2)
    assert (expected(snug("bert"), folder, PLAIN) - first).abs().max() > 1e-3
    refused(folder, "draws random numbers")


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora"])
def test_the_way_out_is_the_trained_model(init, tmp_path):
    """Converted by peft as the message says, with the head, it is the model that was trained."""
    before, plain = tmp_path / "before", tmp_path / "plain"
    torch.manual_seed(0)
    quiet()
    bare = tf.AutoModelForSequenceClassification.from_pretrained(snug("bert"))
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], init_lora_weights=init)
    trained = peft.get_peft_model(bare, config).eval()
    trained.save_pretrained(before)
    settings(before, init_lora_weights=True)
    model = load(snug("bert"))
    batch = dict(model.tokenizer(PLAIN, padding=True, return_tensors="pt"))
    with torch.no_grad():
        untrained = trained(**batch).logits
        [p.add_(0.1 * torch.randn(p.shape)) for p in trained.parameters() if p.requires_grad]
        target = trained(**batch).logits
    assert (target - untrained).abs().max() > 0.05
    trained.save_pretrained(tmp_path / "direct")
    trained.save_pretrained(plain, path_initial_model_for_weight_conversion=str(before))
    head = {key: value for key, value in load_file(tmp_path / "direct" / WEIGHTS).items() if "lora_" not in key}
    save_file({**head, **load_file(plain / WEIGHTS)}, plain / WEIGHTS)
    torch.testing.assert_close(load(plain).run(batch)[1], target, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("init", ["pissa", "olora", "orthogonal"])
def test_an_untrained_one_counts_as_untrained(init, tmp_path):
    """Its features equal the base's but for rounding."""
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"], init_lora_weights=init)

    def back(adapted):
        [p.copy_(fresh[name]) for name, p in adapted.named_parameters() if name in fresh]

    fresh = {}
    folder = save_adapter(tmp_path / "once", snug("bert"), config, change=lambda m: None)
    whole = peft.get_peft_model(load(snug("bert")).model, config)
    fresh.update({name: p.detach().clone() for name, p in whole.named_parameters() if "lora_" in name})
    assert fresh
    folder = save_adapter(tmp_path / "untrained", snug("bert"), config, change=back)
    refused(folder, "the adapter is as it was initialised, that is, untrained")
    held = load_file(folder / WEIGHTS)
    save_file({key: value + 0.1 if "lora_B" in key else value for key, value in held.items()}, folder / WEIGHTS)
    assert load(folder).kind == "LORA"


def test_what_draws_at_each_load_is_refused(tmp_path, monkeypatch):
    """A kind that is not told by its name: its stored tensors are all there, and yet two loads differ."""
    from peft.tuners.lora.layer import LoraLayer

    real = LoraLayer.olora_init

    def drawing(self, adapter_name):
        real(self, adapter_name)
        self.get_base_layer().weight.data += 0.05 * torch.randn(self.get_base_layer().weight.shape)

    folder = make(tmp_path / "a", snug("bert"), init_lora_weights="olora")
    monkeypatch.setattr(LoraLayer, "olora_init", drawing)
    refused(
        folder, "two loads give two models, because what is drawn at random is not stored; convert it to plain LoRA"
    )


def test_the_initialisation_is_part_of_the_key(tmp_path):
    folder = make(tmp_path / "a", snug("bert"))
    keys = {find_adapter(folder).sha256}
    for init in ("pissa", "olora", "orthogonal"):
        settings(folder, init_lora_weights=init)
        keys.add(find_adapter(folder).sha256)
    assert len(keys) == 4


def test_which_adapters_are_made_once():
    assert is_plain(find_adapter(adapter_folder("bert")).settings)
    assert is_plain({"peft_type": "IA3"})
    assert not is_plain({"peft_type": "LORA", "init_lora_weights": "pissa"})
    assert not is_plain({"peft_type": "LORA", "init_lora_weights": True, "kasa_config": {}, "arrow_config": {"k": 1}})
    assert not is_plain({"peft_type": "VERA"})


VERA = {"projection_prng_key": 3, "r": 4, "save_projection": False}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Specified to not save")
@pytest.mark.parametrize("config", [
    lambda: peft.VeraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], **VERA),
    lambda: peft.LoHaConfig(task_type="SEQ_CLS", target_modules=["query"], r=2),
    lambda: peft.OFTConfig(task_type="SEQ_CLS", target_modules=["query"], oft_block_size=4),
    lambda: peft.FourierFTConfig(task_type="SEQ_CLS", target_modules=["query"], n_frequency=8),
    lambda: peft.MissConfig(task_type="SEQ_CLS", target_modules=["query"], r=2),
])  # fmt: skip
def test_kinds_that_draw_from_a_seed_of_their_own(config, tmp_path):
    folder = save_adapter(tmp_path / "a", snug("bert"), config())
    load(snug("bert")).tokenizer.save_pretrained(folder)
    found = torch.from_numpy(extract(load(folder), PLAIN).logits)
    torch.testing.assert_close(found, expected(snug("bert"), folder, PLAIN), atol=1e-5, rtol=1e-5)
