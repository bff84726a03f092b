"""The stack engine against peft itself: every family, forward values, and a model that is left as it was."""

import warnings

import peft
import pytest
import torch

from dubio.errors import DubioError
from dubio.models.bases.base import load_base
from dubio.models.head_location import find_site
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.stack import AdapterStack, Layout, LowRank
from dubio.posteriors.from_peft import stack_of
from models.tiny import CLASSES, FAMILIES, TEXTS, base_folder, reference, root, save_adapter, tokenizer

MEMBERS = 3


def members(family, kind="lora"):
    folders = [root() / f"member-{family}-{kind}-{i}" for i in range(MEMBERS)]
    for i, folder in enumerate(folders):
        if not folder.exists():
            save_adapter(folder, base_folder(family), kind, seed=10 + i)
    return folders


def engine_of(family, kind="lora"):
    """(engine, folders of its members)."""
    folders = members(family, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _, _ = load_base(str(base_folder(family)), CLASSES, "cpu")
        adapted = peft.PeftModel.from_pretrained(model, folders[0], adapter_name="0")
        for i, folder in enumerate(folders[1:], start=1):
            adapted.load_adapter(folder, adapter_name=str(i))
        stack = stack_of(adapted, [str(i) for i in range(MEMBERS)])
        clean = adapted.unload()
    inputs = frozenset({"input_ids", "attention_mask", "token_type_ids"})
    if family in ("distilbert", "modernbert-cls", "modernbert-mean"):
        inputs -= {"token_type_ids"}
    return StackEngine(clean.eval(), find_site(clean), stack, inputs), folders


def batch_of(family, texts=TEXTS, side="right"):
    made = tokenizer(family)
    made.padding_side = side
    batch = dict(made(list(texts), padding=True, return_tensors="pt"))
    if family in ("distilbert", "modernbert-cls", "modernbert-mean"):
        batch.pop("token_type_ids", None)
    return batch


def state(model):
    """Names, values, hooks and training mode of everything in the model."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [
        (name, id(module), module.training, len(module._forward_pre_hooks), len(module._forward_hooks))
        for name, module in model.named_modules()
    ]
    return tensors, modules, {name: p.requires_grad for name, p in model.named_parameters()}


def assert_untouched(before, model):
    after = state(model)
    assert before[1:] == after[1:]
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])


@pytest.mark.parametrize("kind", ["lora", "rslora", "per-layer ranks"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_stack_equals_separate_passes(family, kind):
    engine, folders = engine_of(family, kind)
    for texts in (TEXTS, TEXTS[:1]):
        batch = batch_of(family, texts)
        expected = torch.stack([reference(base_folder(family), folder, dict(batch)) for folder in folders])
        assert (expected[0] - expected[1]).abs().max() > 0.05
        for budget in (10**6, 60, 20):  # all at once; rows in pieces; samples in pieces
            features, logits = engine.forward(batch, budget)
            assert features.shape[:2] == logits.shape[:2] == (MEMBERS, len(texts))
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gpt2"])
def test_the_model_is_left_byte_for_byte_also_after_an_exception(family):
    engine, _ = engine_of(family)
    before = state(engine.model)
    engine.forward(batch_of(family))
    assert_untouched(before, engine.model)
    name = next(iter(engine.stack.layers))
    wrong = engine.stack.layers[name]
    broken = AdapterStack({**engine.stack.layers, name: LowRank(wrong.a[:, :, :3], wrong.b, 1.0)}, engine.stack.head)
    with pytest.raises(RuntimeError):
        StackEngine(engine.model, engine.site, broken, engine.inputs).forward(batch_of(family))
    assert_untouched(before, engine.model)
    absent = AdapterStack({**engine.stack.layers, "no.such": wrong}, engine.stack.head)
    with pytest.raises(DubioError, match=r"no layer no\.such"):
        StackEngine(engine.model, engine.site, absent, engine.inputs).forward(batch_of(family))
    assert_untouched(before, engine.model)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_padding_side_and_batch_do_not_matter(family):
    engine, _ = engine_of(family)
    _, expected = engine.forward(batch_of(family))
    alone = torch.cat([engine.forward(batch_of(family, [text]))[1] for text in TEXTS], dim=1)
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-5)
    if family == "llama":
        _, left = engine.forward(batch_of(family, side="left"))
        torch.testing.assert_close(left, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_folded_and_thin_products_agree(family, monkeypatch):
    engine, _ = engine_of(family)
    batch = batch_of(family)
    monkeypatch.setattr("dubio.posteriors.engine.stack.FOLD_TOKENS", 10**9)
    _, thin = engine.forward(batch)
    monkeypatch.setattr("dubio.posteriors.engine.stack.FOLD_TOKENS", 1)
    _, folded = engine.forward(batch)
    torch.testing.assert_close(folded, thin, atol=1e-5, rtol=1e-5)
    assert not torch.equal(folded, thin)


def test_below_the_first_adapted_block_rows_run_once():
    engine, _ = engine_of("bert")
    upper = {n: layer for n, layer in engine.stack.layers.items() if ".layer.1." in n}
    seen = {}
    for i in (0, 1):
        block = engine.model.get_submodule(f"bert.encoder.layer.{i}")
        block.register_forward_hook(lambda _, args, out, i=i: seen.update({i: len(args[0])}))
    StackEngine(engine.model, engine.site, AdapterStack(upper, engine.stack.head)).forward(batch_of("bert"), 10**6)
    assert seen == {0: len(TEXTS), 1: MEMBERS * len(TEXTS)}


@pytest.mark.parametrize("family", FAMILIES)
def test_from_a_kept_trunk_the_features_are_the_same(family):
    """What enters the first adapted block, kept, takes the place of all below it; the model is left as it was."""
    engine, _ = engine_of(family)
    names = [n for n, m in engine.model.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 1]
    upper = {n: v for n, v in engine.stack.layers.items() if any(n.startswith(f"{name}.1.") for name in names)}
    top = StackEngine(engine.model, engine.site, AdapterStack(upper, engine.stack.head), engine.inputs)
    before, batch = state(engine.model), batch_of(family)
    assert engine.trunk(batch) is None  # the first block is adapted
    trunk = top.trunk(batch)
    assert_untouched(before, engine.model)
    assert (trunk is None) == family.startswith(("deberta", "modernbert"))
    if trunk is not None:
        assert not trunk.is_inference()
        every = {key: value.repeat(MEMBERS, *[1] * (value.dim() - 1)) for key, value in batch.items()}
        expected = top.features(every, Layout(MEMBERS), own_rows=True)
        calls = []
        below = engine.model.get_submodule(f"{next(n for n in names if any(k.startswith(n) for k in upper))}.0")
        handle = below.register_forward_hook(lambda *_: calls.append(1))
        found = top.features(every, Layout(MEMBERS), own_rows=True, trunk=trunk.repeat(MEMBERS, 1, 1))
        handle.remove()
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
        assert calls == []
    assert_untouched(before, engine.model)


def test_heads_alone_make_a_stack():
    """Nothing in the body is adapted: one pass, S heads."""
    engine, _ = engine_of("roberta")
    features, logits = StackEngine(engine.model, engine.site, AdapterStack({}, engine.stack.head)).forward(
        batch_of("roberta")
    )
    assert torch.equal(features[0], features[2])
    assert (logits[0] - logits[1]).abs().max() > 0.01


def test_what_is_no_stack_is_refused():
    for kind, words in (("dora", "without DoRA"), ("ia3", "this one is IA3"), ("prefix", "this one is PREFIX_TUNING")):
        folder = save_adapter(root() / f"refused-{kind}", base_folder("bert"), kind)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, _, _ = load_base(str(base_folder("bert")), CLASSES, "cpu")
            adapted = peft.PeftModel.from_pretrained(model, folder)
        with pytest.raises(DubioError, match=words):
            stack_of(adapted)


def test_bfloat16_stays_close_to_float32():
    engine, _ = engine_of("bert")
    _, exact = engine.forward(batch_of("bert"))
    rough = StackEngine(engine.model.bfloat16(), engine.site, engine.stack, engine.inputs)
    _, found = rough.forward(batch_of("bert"))
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.1 * exact.abs().max()
