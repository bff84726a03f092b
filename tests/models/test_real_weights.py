"""Both proofs, and extraction, on real weights: MiniLM (BERT) and SmolLM2 (Llama, from a GGUF file)."""

import numpy as np
import pytest
import torch

from dubio.data.bundled.packages import minilm_path, smollm2_gguf_path
from dubio.models.checks.load_checks import TEXTS
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.models.tokens.batching import pad, tokenize
from models.tiny import padded, reference, save_adapter


def close(found, expected, tolerance=1e-5):
    """To a share of the largest value: real logits reach tens."""
    limit = tolerance * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=limit, rtol=0)


def test_minilm(tmp_path):
    folder = save_adapter(tmp_path, minilm_path())
    model = load(folder)
    assert (model.family, model.kind, model.head[0].in_features) == ("bert", "LORA", 384)
    batch = padded(model, "right", TEXTS)
    features, logits = model.run(batch)
    close(model.head(features), logits)
    close(logits, reference(minilm_path(), folder, batch), 1e-4)  # merged there, unmerged here
    table = extract(model, TEXTS, how=Extraction(token_budget=64, show=False))
    np.testing.assert_allclose(table.features, features, atol=1e-5)


@pytest.mark.slow  # a GGUF file takes its readers twenty seconds
def test_smollm2(tmp_path):
    folder = save_adapter(tmp_path, smollm2_gguf_path())
    model = load(folder, base=str(smollm2_gguf_path()))
    assert (model.family, model.kind, model.head[0].in_features) == ("llama", "LORA", 576)
    alone = torch.cat([model.run(padded(model, "right", [text]))[1] for text in TEXTS])
    for side in ("right", "left"):
        features, own = model.run(pad(tokenize(model, TEXTS, None), model, side))
        close(model.head(features), own)
        close(own, alone)
    assert alone.std(dim=0).min() > 1  # rows differ, so that equality means something
