"""Stacked training against separate runs, against peft and torch's own loop, and after a kill."""

from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from tiny_runs import PLAN, losses_of, parameters, rows, told
from torch.nn.functional import cross_entropy

from dubio.adapters.plan import TrainingPlan
from dubio.adapters.targets import lora_targets
from dubio.errors import DubioError
from dubio.models.bases.base import load_base
from dubio.models.tokens.batching import pad, tokenize
from dubio.posteriors.base_model import load_host
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.prefix_cache import Trunks, sharing_trunks
from dubio.posteriors.engine.stack import AdapterStack, Layout, LowRank
from dubio.posteriors.methods.blob import BlobParameters
from dubio.posteriors.methods.rank_dropout import RankDropoutParameters
from dubio.posteriors.methods.swag import Moments
from dubio.posteriors.trained import PosteriorPlan, stack_plan
from dubio.posteriors.training.optim import kl_share
from dubio.posteriors.training.parameters import LoraParameters, XsParameters, fresh_layers, targets_of
from dubio.posteriors.training.trainer import _Run, product_penalty, train_stack
from models.tiny import CLASSES, base_folder


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta", "llama", "gpt2"])
@pytest.mark.parametrize("kind", [LoraParameters, XsParameters])
def test_a_stacked_run_equals_separate_runs(family, kind):
    """Fifty steps with dropout and a penalty: losses to 1e-4, and the members differ."""
    made = parameters(family, kind)
    plan = replace(PLAN, dropout=0.1, penalty=0.01)
    together, values = losses_of(made, plan)
    assert together.shape == (50, 3)
    for m, seed in enumerate(plan.seeds):
        alone, own = losses_of(made, replace(plan, seeds=(seed,)))
        torch.testing.assert_close(alone[:, 0], together[:, m], atol=1e-4, rtol=0)
        for name, value in own.items():
            torch.testing.assert_close(value[0], values[name][m], atol=1e-3, rtol=0)
    assert (together[:, 0] - together[:, 1]).abs().max() > 0.05


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "deberta", "modernbert-cls", "llama", "qwen3", "gpt2"]
)
@pytest.mark.parametrize("kind", [LoraParameters, BlobParameters])
def test_blocks_that_run_again_give_the_same_training_from_fewer_kept_numbers(family, kind):
    """Losses to 1e-5 with masks and signs drawn inside the blocks; what the backward pass holds is a fraction."""
    made, plan = parameters(family, kind), replace(PLAN, dropout=0.1)
    before = model_bytes(made.host.model)
    plain, values = losses_of(made, plan, steps=12)
    again, own = losses_of(made, replace(plan, recompute=True), steps=12)
    torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-5)
    for name, value in own.items():
        torch.testing.assert_close(value, values[name], atol=1e-4, rtol=0)
    assert model_bytes(made.host.model) == before
    assert kept_bytes(made, replace(plan, recompute=True)) < 0.6 * kept_bytes(made, plan)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_two_passes_of_one_engine_may_come_before_their_backward(family):
    """Each block meets the noise and the layout of its own pass again, and the generators are left as they were."""
    made = parameters(family)
    values = {name: value.requires_grad_(True) for name, value in made.start((0, 1)).items()}
    values = {name: torch.nn.Parameter(value + 0.1) for name, value in values.items()}
    batches = [pad(tokenize(made.host, rows(8, seed).texts, None), made.host) for seed in (1, 2)]

    def gradients(recompute):
        engine = StackEngine(made.host.model, made.host.site, made.stack(values), made.host.inputs, recompute=recompute)
        drawn = [[torch.Generator().manual_seed(10 * k + m) for m in range(2)] for k in range(2)]
        seen = [engine.features(batch, Layout(2, dropout=0.5, generators=own)).square().sum()
                for batch, own in zip(batches, drawn, strict=True)]  # fmt: skip
        everyone = [g for own in drawn for g in own]
        states = [g.get_state() for g in everyone]
        found = torch.autograd.grad(sum(seen), [*values.values()], allow_unused=True)
        assert all(torch.equal(state, g.get_state()) for state, g in zip(states, everyone, strict=True))
        return [value for value in found if value is not None]

    for plain, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-4)
    assert not any(module._forward_pre_hooks for module in made.host.model.modules())


def test_blocks_run_again_above_a_kept_trunk_and_in_folds(tmp_path):
    """The same run, which a run that was killed without the setting goes on with."""
    host, missing = load_host(str(base_folder("bert")), [f"c{i}" for i in range(CLASSES)], max_length=32)
    made = LoraParameters(host, targets_of(host, lora_targets(host.model), 1), 4, 2.0, fresh_layers(host, missing))
    plan = replace(PLAN, epochs=2, dropout=0.1, folds=True)
    whole = train_stack(made, rows(), rows(20, 1), plan)
    train_stack(made, rows(), rows(20, 1), plan, work=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    again = train_stack(made, rows(), rows(20, 1), replace(plan, recompute=True))
    for name, value in again.values.items():
        torch.testing.assert_close(value, whole.values[name], atol=1e-4, rtol=0)
    taken_up = train_stack(made, rows(), rows(20, 1), replace(plan, recompute=True), work=tmp_path)
    assert told(taken_up) == told(whole)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def model_bytes(model):
    """All that a pass could leave behind."""
    hooks = [name for name, module in model.named_modules() if module._forward_pre_hooks or module._forward_hooks]
    return [(name, value.numpy().tobytes()) for name, value in model.state_dict().items()] + [str(model), hooks]


def kept_bytes(made, plan):
    """What one step keeps for its backward pass: bytes of tensors, each storage once, parameters apart."""
    run, seen = _Run(made, rows(), plan), {}
    state = run.begin(None)
    owned = {value.untyped_storage().data_ptr() for value in made.host.model.state_dict().values()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            seen[storage.data_ptr()] = (storage.nbytes(), storage)
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run.losses(state.values, run.order(0)[0], 0)
    return sum(size for size, _ in seen.values())


NOISY = {
    BlobParameters: {"kl_rate": 1e-4, "kl_schedule": "blundell"},
    RankDropoutParameters: {"kl_weight": 1e-6, "kl_schedule": "each"},
}


@pytest.mark.parametrize("family", ["bert", "deberta", "llama"])
@pytest.mark.parametrize("kind", NOISY)
def test_members_that_are_distributions_are_trained_as_alone(family, kind):
    made, plan = parameters(family, kind), replace(PLAN, dropout=0.1, **NOISY[kind])
    together, values = losses_of(made, plan, steps=20)
    silent, _ = losses_of(parameters(family), replace(PLAN, dropout=0.1), steps=20)
    assert (together - silent).abs().max() > 1e-3  # the noise is there
    for m, seed in enumerate(plan.seeds):
        alone, own = losses_of(made, replace(plan, seeds=(seed,)), steps=20)
        torch.testing.assert_close(alone[:, 0], together[:, m], atol=1e-4, rtol=1e-4)
        for name in own:
            if name.endswith(made.spreads):
                torch.testing.assert_close(own[name][0], values[name][m], atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", NOISY)
def test_a_killed_run_of_distributions_goes_on_to_the_same_numbers(tmp_path, kind):
    made, plan = parameters(kind=kind), replace(PLAN, epochs=3, **NOISY[kind])
    whole = train_stack(made, rows(), rows(30, 1), plan)

    def kill(epoch, step, _):
        if (epoch, step) == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stack(made, rows(), rows(30, 1), plan, work=tmp_path, watch=kill)
    again = train_stack(made, rows(), rows(30, 1), plan, work=tmp_path)
    assert told(again) == told(whole)
    for name, value in whole.values.items():
        torch.testing.assert_close(again.values[name], value, atol=0, rtol=0)


def test_the_weights_of_the_divergence_are_those_printed_and_sum_to_one():
    for steps in (1, 2, 7, 3000):
        for schedule in ("blundell", "constant"):
            shares = [kl_share(schedule, i, steps) for i in range(1, steps + 1)]
            missing = 1 / (2 ** (steps + 1) - 1) if schedule == "blundell" else 0
            assert sum(shares) == pytest.approx(1 - missing)
    assert [kl_share("blundell", i, 3) for i in (1, 2, 3)] == pytest.approx([2 / 15, 4 / 15, 8 / 15])
    assert kl_share("each", 2, 9) == 1


def test_one_member_equals_peft_and_torch_alone():
    """The same start, batches and settings through peft's own LoRA and torch's AdamW: losses to 1e-4."""
    made = parameters()
    plan = replace(PLAN, seeds=(7,), epochs=3)
    run = _Run(made, rows(), plan)
    state = run.begin(None)
    start = {name: value.detach().clone() for name, value in state.values.items()}
    found = torch.cat([loss for epoch in range(3) for loss in run.epoch(state.values, epoch)])

    model, _, _ = load_base(str(base_folder("bert")), CLASSES, "cpu")
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=list(lora_targets(model)),
        modules_to_save=["classifier", *(["pooler"] if made.fresh else [])],
        task_type="SEQ_CLS",
    )  # fmt: skip
    tuned = peft.get_peft_model(model, config).eval()
    own = dict(tuned.named_parameters())
    with torch.no_grad():
        for name in made.targets:
            own[f"base_model.model.{name}.lora_A.default.weight"].copy_(start[f"layer/{name}.a"][0])
            own[f"base_model.model.{name}.lora_B.default.weight"].copy_(start[f"layer/{name}.b"][0])
        for part in ("weight", "bias"):
            own[f"base_model.model.classifier.modules_to_save.default.{part}"].copy_(start[f"head/0.{part}"][0])
            for name in made.fresh:
                inner = name.replace("bert.pooler", "bert.pooler.modules_to_save.default")
                own[f"base_model.model.{inner}.{part}"].copy_(start[f"layer/{name}.{part}"][0])
    learned = [p for p in own.values() if p.requires_grad]
    groups = [{"params": [p], "weight_decay": 0.0 if p.dim() < 2 else plan.weight_decay} for p in learned]
    optimiser = torch.optim.AdamW(groups, lr=plan.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, run._rate)
    table, losses = rows(), []
    tokens = tokenize(made.host, table.texts, None)
    for epoch in range(3):
        for chosen in run.order(epoch):
            batch = pad({key: [values[i] for i in chosen[0]] for key, values in tokens.items()}, made.host)
            loss = cross_entropy(tuned(**batch).logits, torch.from_numpy(table.labels[chosen[0]]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, plan.clip)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            losses.append(loss.detach())
    torch.testing.assert_close(found, torch.stack(losses), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["bert", "deberta", "llama", "gpt2"])
def test_training_from_a_kept_trunk_is_the_same_training(family):
    """Adapters in the last block: what lies below runs once for all epochs, and the losses are the same."""
    made = parameters(family)
    top = replace(made, targets=targets_of(made.host, lora_targets(made.host.model), 1))
    assert 0 < len(top.targets) < len(made.targets)
    plan, calls = replace(PLAN, epochs=3, dropout=0.1), []
    lists = [m for m in made.host.model.modules() if isinstance(m, torch.nn.ModuleList)]
    next(m for m in lists if len(m) == 2)[0].register_forward_hook(lambda *_: calls.append(1))
    kept = train_stack(top, rows(), rows(30, 1), plan)
    few = len(calls)
    with sharing_trunks(Trunks(limit=0)):
        again = train_stack(top, rows(), rows(30, 1), plan)
    assert few < len(calls) - few or family == "deberta"  # whose blocks need more than hidden states
    for one, other in zip(kept.history, again.history, strict=True):
        np.testing.assert_allclose(one["train_loss"], other["train_loss"], atol=1e-5)
        np.testing.assert_allclose(one["nll"], other["nll"], atol=1e-4)


def test_a_run_is_not_resumed_where_other_things_were_gathered(tmp_path):
    made, plan = parameters(), replace(PLAN, seeds=(1,), epochs=2)
    train_stack(made, rows(), rows(30, 1), plan, work=tmp_path, carried=Moments(2, (".a",), 3))
    for moments, steps in ((Moments(2, (".a",), 3), 0), (Moments(2, (".a",), 5), 20), (Moments(4, (".a",), 3), 20)):
        seen = []
        train_stack(
            made, rows(), rows(30, 1), plan, work=tmp_path, carried=moments, watch=lambda *_, seen=seen: seen.append(1)
        )
        assert len(seen) == steps


def test_more_top_layers_than_there_are_is_refused():
    made = parameters()
    with pytest.raises(DubioError, match="has 2 blocks, so top_layers cannot be 3"):
        targets_of(made.host, ("query",), 3)


def test_members_see_each_row_once_an_epoch_and_not_together():
    run = _Run(parameters(), rows(), PLAN)
    steps = run.order(2)
    for m in range(3):
        assert sorted(np.concatenate([step[m] for step in steps])) == list(range(80))
    assert not any(np.array_equal(step[0], step[1]) for step in steps)
    assert not np.array_equal(np.concatenate([s[0] for s in steps]), np.concatenate([s[0] for s in run.order(3)]))


def test_training_learns_and_keeps_the_best_epoch_of_each_member():
    made = parameters()
    found = train_stack(made, rows(200), rows(100, 1), replace(PLAN, epochs=8, learning_rate=2e-2, keep=(1, 8)))
    accuracy = np.array([entry["accuracy"] for entry in found.history])
    assert accuracy.shape == (8, 3)
    assert (accuracy.max(axis=0) > 0.6).all()
    assert found.best_epoch == list(1 + accuracy.argmax(axis=0))
    assert set(found.kept) == {1, 8}
    name = f"layer/{made.targets[0]}.b"
    for m, epoch in enumerate(found.best_epoch):
        if epoch in found.kept:
            torch.testing.assert_close(found.best[name][m], found.kept[epoch][name][m])
    assert not made.host.model.training
    assert not any(p.requires_grad for p in made.host.model.parameters())


def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path):
    made, plan = parameters(), replace(PLAN, epochs=4, dropout=0.1, keep=(1,))
    whole = train_stack(made, rows(), rows(30, 1), plan, work=tmp_path / "a")

    class KilledError(Exception):
        pass

    def kill(epoch, step, _):
        if (epoch, step) == (2, 3):
            raise KilledError

    with pytest.raises(KilledError):
        train_stack(made, rows(), rows(30, 1), plan, work=tmp_path / "b", watch=kill)
    steps = []
    again = train_stack(
        made, rows(), rows(30, 1), plan, work=tmp_path / "b", watch=lambda epoch, step, _: steps.append(epoch)
    )
    assert set(steps) == {2, 3}
    assert told(again) == told(whole)
    assert again.best_epoch == whole.best_epoch
    for group in ("values", "best"):
        for name, value in getattr(whole, group).items():
            torch.testing.assert_close(getattr(again, group)[name], value, atol=0, rtol=0)
    assert again.kept.keys() == whole.kept.keys()


def test_product_penalty_in_trace_form_equals_the_product():
    g = torch.Generator().manual_seed(0)
    layers = {
        str(i): LowRank(torch.randn(3, 2 + i, 7, generator=g), torch.randn(3, 5, 2 + i, generator=g), 4.0)
        for i in range(2)
    }
    direct = sum((layer.b @ layer.a).pow(2).sum(dim=(1, 2)) for layer in layers.values())
    torch.testing.assert_close(product_penalty(AdapterStack(layers, {})), direct)
    made = parameters()
    assert (product_penalty(made.stack(made.start((1, 2)))) == 0).all()


def test_lora_xs_factors_are_the_truncation_of_the_weight_and_start_as_nothing():
    made = parameters(kind=XsParameters)
    for name, (a, b) in made.factors().items():
        u, s, v = np.linalg.svd(made.weight(name).double().numpy())
        np.testing.assert_allclose((b @ a).numpy(), (u[:, :4] * s[:4]) @ v[:4], atol=1e-5)
        np.testing.assert_allclose((b.T @ b).numpy(), np.eye(4), atol=1e-5)
    values = made.start((0,))
    assert {name: tuple(v.shape) for name, v in values.items() if name.endswith("core")} == {
        f"layer/{name}.core": (1, 4, 4) for name in made.targets
    }
    update = made.stack(values).layers[made.targets[0]]
    assert 0 < (update.b @ update.a).abs().max() < 1e-3


def test_at_a_constant_rate_an_epoch_does_not_depend_on_later_ones():
    made, tables, kept = parameters(), (rows(40), rows(20, 1)), {}
    for constant in (True, False):
        extra = PosteriorPlan(members=2, keep="1", constant=constant)
        for epochs in (1, 3):
            plan = TrainingPlan(epochs=epochs, batch_size=8, learning_rate=5e-3, show=False)
            run = train_stack(made, *tables, stack_plan("ensemble", plan, extra, (0, 1)))
            kept[constant, epochs] = run.kept[1]
    assert all(torch.equal(value, kept[True, 3][name]) for name, value in kept[True, 1].items())
    assert not all(torch.equal(value, kept[False, 3][name]) for name, value in kept[False, 1].items())
