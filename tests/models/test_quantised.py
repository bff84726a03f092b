"""Quantised bases: one line that names the package or the unquantised base; with the package, peft's own logits."""

import importlib.util
import json
import shutil

import pytest
import torch
import transformers as tf

from dubio.models.bases import base_settings
from dubio.models.extraction import extract
from dubio.models.loading import load
from models.options import PLAIN, expected, make, quiet, snug
from models.tiny import refused, save_base


def quantised(target, **settings):
    folder = shutil.copytree(snug("llama"), target)
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**facts, "quantization_config": settings}))
    return folder


@pytest.mark.parametrize(("settings", "method", "package"), [
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes", "bitsandbytes"),
    ({"load_in_8bit": True}, "bitsandbytes", "bitsandbytes"),
    ({"quant_method": "gptq", "bits": 4}, "gptq", "gptqmodel"),
    ({"quant_method": "awq", "bits": 4}, "awq", "gptqmodel"),
    ({"quant_method": "hqq"}, "hqq", "hqq"),
    ({"quant_method": "compressed-tensors"}, "compressed-tensors", "compressed_tensors"),
])  # fmt: skip
def test_a_package_that_is_not_here(settings, method, package, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(base_settings.importlib.util, "find_spec", lambda n: None if n == package else real(n))
    base = quantised(tmp_path / "base", **settings)
    reason = f"base is quantised by {method}, which needs the package {package}; install it, or name the unq"
    refused(base, reason)
    refused(make(tmp_path / "adapter", snug("llama")), reason, base=str(base))


def test_a_way_that_nobody_knows(tmp_path):
    """transformers would read the packed numbers as they are."""
    refused(quantised(tmp_path / "base", quant_method="mine"), "quantised by 'mine', which transformers does not know")


def test_a_device_that_a_model_does_not_go_to(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        if kwargs.get("dtype") is torch.bfloat16:
            raise ValueError("`.to` is not supported for 4-bit models.\nUse it as it is.")
        return real(self, *args, **kwargs)

    real = tf.PreTrainedModel.to
    monkeypatch.setattr(tf.PreTrainedModel, "to", refuse)
    reason = r"does not go to cpu in bfloat16: ValueError: `.to` is not supported for 4-bit models. Use it as it is.$"
    refused(snug("llama"), reason, precision="bfloat16")


@pytest.mark.parametrize("bits", [4, 8])
def test_bitsandbytes(bits, tmp_path):
    """Four bits: the adapter's logits are peft's own. Eight: activations are rounded a batch at a time: refused."""
    pytest.importorskip("bitsandbytes")
    quiet()
    full = save_base(tmp_path / "full", "llama", True, hidden_size=64, intermediate_size=128, head_dim=32)
    how = tf.BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, llm_int8_skip_modules=["score"])
    model = tf.AutoModelForSequenceClassification.from_pretrained(full, quantization_config=how)
    model.save_pretrained(tmp_path / "base")
    tf.AutoTokenizer.from_pretrained(full).save_pretrained(tmp_path / "base")
    folder = make(tmp_path / "adapter", tmp_path / "base")
    if bits == 8:
        refused(folder, "features change by .* with padding on the right, so no score would be stable")
        return
    target = expected(tmp_path / "base", folder, PLAIN)
    for precision, tolerance in (("float32", 1e-3), ("bfloat16", 0.3)):
        found = torch.from_numpy(extract(load(folder, precision=precision), PLAIN).logits)
        torch.testing.assert_close(found, target, atol=tolerance, rtol=tolerance)
