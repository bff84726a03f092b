"""Posteriors made from an adapter: the stack is proven to be that adapter, with its own tokenizer, or refused."""

import json
import shutil

import peft
import pytest
import torch
from tokenizers import Tokenizer, normalizers

from dubio.adapters.plan import LabelledTexts
from dubio.adapters.targets import lora_targets
from dubio.errors import DubioError, ProofError
from dubio.models.bases.base import load_base
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.posteriors.from_adapter import make_mc_dropout, make_tfb, read_adapter
from dubio.posteriors.sampling import Sampler, sample
from models.tiny import CLASSES, FAMILIES, TEXTS, adapter_folder, base_folder, save_adapter, tokenizer

QUIET = Extraction(show=False)


def config(family="bert", **changes):
    model, _, missing = load_base(str(base_folder(family)), CLASSES, "cpu")
    whole = [m for m in ("classifier", "pooler") if any(m in name for name in missing)]
    return peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=lora_targets(model), modules_to_save=whole, task_type="SEQ_CLS", **changes
    )


@pytest.mark.parametrize("kind", ["lora", "rslora", "per-layer ranks", "lora on the head"])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_noise_a_posterior_is_the_adapter(family, kind):
    folder = adapter_folder(family, kind, head=kind == "lora on the head")
    model = load(folder)
    source = read_adapter(model, folder)
    stored = make_mc_dropout(source, rate=1e-7)
    drawn = sample(Sampler(source.host, stored, 2), TEXTS, None, QUIET)
    expected = torch.log_softmax(torch.from_numpy(extract(model, TEXTS, how=QUIET).logits), dim=1).numpy()
    assert abs(drawn[0] - expected).max() < 1e-4


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_what_a_stack_cannot_hold_is_refused(tmp_path, bias):
    folder = save_adapter(tmp_path / "adapter", base_folder("bert"), config(bias=bias))
    with pytest.raises((ProofError, DubioError), match=r"not what a stack can hold|without DoRA and bias"):
        read_adapter(load(folder), folder)


def test_the_adapters_own_tokenizer_is_used(tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(adapter_folder("bert"), folder)
    own = tokenizer("bert")
    raw = Tokenizer.from_str(own.backend_tokenizer.to_str())
    raw.normalizer = normalizers.Replace("film", "gate")
    own._tokenizer = raw
    own.save_pretrained(folder)
    model = load(folder)
    source = read_adapter(model, folder)
    drawn = sample(Sampler(source.host, make_mc_dropout(source, rate=1e-7), 1), TEXTS, None, QUIET)
    expected = torch.log_softmax(torch.from_numpy(extract(model, TEXTS, how=QUIET).logits), dim=1).numpy()
    assert abs(drawn[0] - expected).max() < 1e-4


def test_tfb_reads_rows_of_all_classes_of_a_sorted_table(monkeypatch):
    monkeypatch.setattr("dubio.posteriors.from_adapter.SEARCH_ROWS", 6)
    seen = []

    def noted(sampler, texts, *rest):
        seen.append(list(texts))
        return sample(sampler, texts, *rest)

    monkeypatch.setattr("dubio.posteriors.from_adapter.sample", noted)
    model = load(adapter_folder("bert"))
    texts = [f"{TEXTS[i % 7]} {i}" for i in range(60)]
    labels = torch.arange(60).numpy() // 20
    stored = make_tfb(read_adapter(model, adapter_folder("bert")), LabelledTexts(texts, None, labels, "x"), samples=2)
    assert {texts.index(text) // 20 for text in seen[0]} == {0, 1, 2}
    assert stored.posterior.fact("sigma") > 0
    assert json.dumps(dict(stored.posterior.facts))
