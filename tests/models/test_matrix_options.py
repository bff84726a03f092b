"""Nine families, each with the adapter options that change more than plain LoRA does: dubio's logits are peft's own."""

import pytest
import torch

from dubio.models.extraction import extract
from dubio.models.loading import load
from models.options import NINE, PLAIN, ROWS, embeddings_of, expected, make, snug
from models.tiny import refused

OPTIONS = {
    "added tokens": {"tokens": {"additional_special_tokens": ["[USER]"], "pad_token": "[PAD2]"}},
    "embeddings trained whole": {"modules_to_save": True},
    "ranks by pattern": {"rank_pattern": {".*0.*": 1}, "alpha_pattern": {".*1.*": 9}},
    "repeated layers": {"layer_replication": [(0, 2), (1, 2)]},
    "bias in B": {"lora_bias": True},
    "PiSSA": {"init_lora_weights": "pissa"},
}
# The slow lane has all nine.
USUAL = ("bert", "llama")
FAMILY = [family if family in USUAL else pytest.param(family, marks=pytest.mark.slow) for family in NINE]
# Where peft knows no list of layers to repeat, and where the repeated layers do not run in transformers itself.
UNREPEATED, UNRUN = ("roberta", "electra", "distilbert", "deberta", "gpt2"), ("qwen2",)


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("option", OPTIONS)
def test_options(family, option, tmp_path):
    base, settings = snug(family), dict(OPTIONS[option])
    if option == "repeated layers" and family in UNREPEATED:
        pytest.skip("peft repeats no layers of this family")
    if option == "embeddings trained whole":
        settings["modules_to_save"] = [embeddings_of(load(base).model)]
    folder = make(tmp_path / "adapter", base, **settings)
    if option == "repeated layers" and family in UNRUN:
        refused(folder, "a batch of 8 texts does not run: IndexError")
        with pytest.raises(IndexError):
            expected(base, folder, PLAIN)
        return
    model = load(folder)
    grown = len(model.tokenizer) if option == "added tokens" else None
    texts = ROWS if grown else PLAIN
    target = expected(base, folder, texts, grown)
    found = torch.from_numpy(extract(model, texts).logits)
    torch.testing.assert_close(found, target, atol=1e-5, rtol=1e-5)
    assert target.std(dim=0).min() > 0.02
