"""On a CUDA device: the model's own answer, threads, and batches. Skipped, with the reason, where there is none."""

import threading

import numpy as np
import pytest
import torch

from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from models.tiny import DECODERS, FAMILIES, TEXTS, adapter_folder, base_folder, loaded, reference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
THREADS, CALLS = 8, 100


def quietly(model, texts, budget=None):
    return extract(model, list(texts), how=Extraction(token_budget=budget, show=False))


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers_and_peft_for_each_text_alone(family, kind):
    try:
        on_cpu = loaded(family, kind)
    except Exception:  # a pair that no machine loads is another test's
        pytest.skip(f"{kind} does not go on {family}")
    model = load(adapter_folder(family, kind), device="cuda")
    found = quietly(model, TEXTS).logits
    for text, own in zip(TEXTS, found, strict=True):
        batch = {k: v for k, v in on_cpu.tokenizer([text], return_tensors="pt").items() if k in on_cpu.inputs}
        expected = reference(base_folder(family), adapter_folder(family, kind), batch)[0].numpy()
        np.testing.assert_allclose(own, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["bert", *DECODERS])
def test_logits_do_not_depend_on_the_batch(family, precision):
    model = load(adapter_folder(family), device="cuda", precision=precision)
    one, other = quietly(model, TEXTS), quietly(model, TEXTS, budget=1)
    size = np.abs(one.logits).max()
    assert np.abs(one.logits - other.logits).max() <= {"float32": 1e-5, "bfloat16": 64 * 2.0**-8}[precision] * size


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_threads_on_one_model_get_their_own_rows(family):
    model = load(adapter_folder(family), device="cuda")
    alone = [quietly(model, [text]) for text in TEXTS]
    wrong = []

    def ask(which):
        for call in range(CALLS):
            at = (which + call) % len(TEXTS)
            found = quietly(model, [TEXTS[at]])
            if np.abs(found.logits - alone[at].logits).max() > 1e-5 or found.features.shape != alone[at].features.shape:
                wrong.append((which, call))

    running = [threading.Thread(target=ask, args=(i,)) for i in range(THREADS)]
    [thread.start() for thread in running]
    [thread.join() for thread in running]
    assert wrong == []
