"""Stacked training of letter adapters against peft on the causal LM itself and torch's own loop."""

import warnings
from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from torch.nn.functional import cross_entropy

from dubio.adapters.plan import LabelledTexts
from dubio.adapters.targets import lora_targets
from dubio.data.prompts import PromptTemplate
from dubio.models.tokens.answer_letters import Choices
from dubio.posteriors.base_model import load_host
from dubio.posteriors.training.parameters import LoraParameters, XsParameters, targets_of
from dubio.posteriors.training.parametrisation import facts_of, form_of
from dubio.posteriors.training.trainer import StackPlan, _Run, validate
from models.letters_tiny import causal, causal_base, last_logits, letter_tokenizer
from models.tiny import WORDS

PLAN = StackPlan(seeds=(7,), learning_rate=5e-3, weight_decay=0.05, epochs=3, batch_size=8, show=False)
TEMPLATE = PromptTemplate(tuple("ABCD"))


def rows(count=24, seed=0):
    g = np.random.default_rng(seed)
    labels = g.integers(0, 4, count)
    texts = [TEMPLATE.render(" ".join(g.choice(WORDS, 3)), [str(w) for w in g.choice(WORDS, 4)]) for _ in labels]
    return LabelledTexts(texts, None, labels.astype(np.int64), f"rows-{seed}-{count}")


def parameters(family, tied, rest=False, kind=LoraParameters):
    host, missing = load_host(str(causal_base(family, tied)), (), max_length=160, choices=Choices(TEMPLATE, rest))
    assert missing == []
    return kind(host, targets_of(host, lora_targets(host.model)), 4, 2.0, frozen_head=True)


@pytest.mark.parametrize(
    ("family", "tied", "rest"), [("llama", False, False), ("gpt2", True, False), ("qwen2", True, True)]
)
def test_one_member_equals_peft_on_the_causal_lm(family, tied, rest):
    """The same start, batches and settings; the loss is of the letters alone, or of the whole vocabulary."""
    made = parameters(family, tied, rest)
    run = _Run(made, rows(), PLAN)
    state = run.begin(None)
    assert not any(name.startswith("head/") for name in state.values)
    start = {name: value.detach().clone() for name, value in state.values.items()}
    found = torch.cat([loss for epoch in range(3) for loss in run.epoch(state.values, epoch)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(
            r=4, lora_alpha=8, target_modules=lora_targets(made.host.model), task_type="CAUSAL_LM",
            fan_in_fan_out=family == "gpt2",
        )  # fmt: skip
        tuned = peft.get_peft_model(causal(causal_base(family, tied)), config).eval()
    own = dict(tuned.named_parameters())
    with torch.no_grad():
        for name in made.targets:
            own[f"base_model.model.{name}.lora_A.default.weight"].copy_(start[f"layer/{name}.a"][0])
            own[f"base_model.model.{name}.lora_B.default.weight"].copy_(start[f"layer/{name}.b"][0])
    learned = [p for p in own.values() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=PLAN.learning_rate, weight_decay=PLAN.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, run._rate)
    table, losses, tokenizer = rows(), [], letter_tokenizer(padding_side="right")
    ids = [tokenizer.get_vocab()[f"Ġ{letter}"] for letter in "ABCD"]
    for epoch in range(3):
        for chosen in run.order(epoch):
            batch = tokenizer([table.texts[i] for i in chosen[0]], padding=True, return_tensors="pt")
            last = batch["attention_mask"].sum(dim=1) - 1
            logits = tuned(**batch).logits[torch.arange(len(last)), last]
            labels = torch.from_numpy(table.labels[chosen[0]])
            loss = cross_entropy(logits, torch.tensor(ids)[labels]) if rest else cross_entropy(logits[:, ids], labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, PLAN.clip)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            losses.append(loss.detach())
    torch.testing.assert_close(found, torch.stack(losses), atol=1e-4, rtol=0)
    assert found[0] - found[-1] > 0.02


@pytest.mark.parametrize("kind", [LoraParameters, XsParameters])
def test_members_share_the_hosts_head_and_nothing_of_it_is_stored(kind):
    made = parameters("llama", False, kind=kind)
    values = made.start((1, 2, 3))
    stack = made.stack(values)
    assert stack.head["0.weight"].stride(0) == 0
    assert torch.equal(stack.head["0.weight"][2], made.host.head[0].weight)
    again = form_of(facts_of(made), made.host)(values)
    assert {n: v.shape for n, v in again.tensors().items()} == {n: v.shape for n, v in stack.tensors().items()}
    other = replace(made, frozen_head=False)
    assert any(name.startswith("head/") for name in other.start((1,)))
    _, nll = validate(made, values, rows())  # B is 0: the base itself (nearly, for LoRA-XS)
    tokenizer = letter_tokenizer()
    ids = [tokenizer.get_vocab()[f"Ġ{letter}"] for letter in "ABCD"]
    plain = last_logits(causal(causal_base("llama", False)), tokenizer, rows().texts)[:, ids]
    expected = float(cross_entropy(plain, torch.from_numpy(rows().labels)))
    np.testing.assert_allclose(nll, expected, atol=1e-3)
