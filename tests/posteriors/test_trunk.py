"""What lies below the first adapted block runs once for rows that are seen more than once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import PLAN, parameters, rows

from dubio.adapters.training import TrainingPlan, lora_targets
from dubio.models.extraction import Extraction, tokenize
from dubio.posteriors.engine import StackEngine
from dubio.posteriors.onto import make_tfb, read_adapter
from dubio.posteriors.parameters import XsParameters, targets_of
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior
from dubio.posteriors.trained import PosteriorPlan, train_posterior
from dubio.posteriors.training import train_stack
from dubio.posteriors.trunk import Trunks, sharing_trunks
from models.tiny import CLASSES, base_folder

QUIET = Extraction(show=False)


def top_of(made, blocks=1, kind=None):
    """The same parameters, in the last blocks alone."""
    own = replace(made, targets=targets_of(made.host, lora_targets(made.host.model), blocks))
    return own if kind is None else kind(own.host, own.targets, own.rank, own.scale, own.fresh)


def engine_of(made):
    with torch.no_grad():
        return StackEngine(made.host.model, made.host.site, made.stack(made.start((0, 1))), made.host.inputs)


def passes_of(host):
    """Rows that go through the lowest block, as they go."""
    seen = []
    lists = [m for m in host.model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 2]
    lists[0][0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_kept_rows_are_read_once_and_are_those_of_the_whole_pass(family):
    made, trunks = parameters(family), Trunks()
    top, table, seen = top_of(made), rows(30), passes_of(made.host)
    tokens = tokenize(made.host, table.texts, None)
    trunk = trunks.read(engine_of(top), made.host, tokens)
    assert sum(seen) == 30
    assert trunks.read(engine_of(top_of(made, kind=XsParameters)), made.host, tokens) is trunk
    assert sum(seen) == 30
    other = trunks.read(engine_of(top), made.host, tokenize(made.host, rows(30, 1).texts, None))
    assert other is not trunk
    assert trunk.bytes == 4 * sum(len(ids) for ids in tokens["input_ids"]) * made.host.model.config.hidden_size
    assert [len(row) for row in trunk.rows] == [len(ids) for ids in tokens["input_ids"]]
    assert trunks.read(engine_of(made), made.host, tokens) is None  # nothing lies below the first block
    assert (
        trunks.read(engine_of(top), replace(made.host, hashes={**made.host.hashes, "base": "x"}), tokens) is not trunk
    )


def test_the_longest_unused_go_first_and_what_does_not_fit_is_not_kept():
    made = parameters("llama")
    top, tables = engine_of(top_of(made)), [tokenize(made.host, rows(20, seed).texts, None) for seed in range(3)]
    sizes = [Trunks().read(top, made.host, tokens).bytes for tokens in tables]
    trunks = Trunks(limit=sum(sizes) - 1)
    first, _ = (trunks.read(top, made.host, tokens) for tokens in tables[:2])
    assert trunks.read(top, made.host, tables[0]) is first
    trunks.read(top, made.host, tables[2])
    assert trunks.read(top, made.host, tables[0]) is first
    assert len(trunks.kept) == 2
    assert Trunks(limit=sizes[0] - 1).read(top, made.host, tables[0]) is None


def test_a_run_reads_its_rows_and_the_held_out_ones_once_and_counts_what_that_took():
    made, plan = parameters("llama"), replace(PLAN, epochs=3)
    top, seen = top_of(made), passes_of(made.host)
    with sharing_trunks() as trunks:
        run = train_stack(top, rows(40), rows(20, 1), plan)
        assert sum(seen) == 60
        for trunk in trunks.kept.values():
            assert trunk.seconds > 0
        again = train_stack(top, rows(40), rows(20, 1), plan)
        assert sum(seen) == 60
        slow = {key: replace(trunk, seconds=1e3) for key, trunk in trunks.kept.items()}
        trunks.kept.update(slow)
        told = train_stack(top, rows(40), rows(20, 1), plan)
    assert run.history[0]["nll"] == again.history[0]["nll"] == told.history[0]["nll"]
    assert told.history[0]["seconds"] > 2e3 > told.history[1]["seconds"]  # as if it had read them itself
    train_stack(top, rows(40), rows(20, 1), plan)
    assert sum(seen) == 120  # outside, nothing is left


@pytest.mark.parametrize("name", ["swag_lora", "swag_lora_xs"])
def test_both_phases_of_swag_share_one(name, tmp_path, monkeypatch):
    seen, read = [], StackEngine.trunk

    def counted(engine, batch):
        seen.append(len(batch["input_ids"]))
        return read(engine, batch)

    monkeypatch.setattr(StackEngine, "trunk", counted)
    plan = TrainingPlan(rank=2, epochs=2, batch_size=8, max_length=32, top_layers=1, show=False)
    names = [f"c{i}" for i in range(CLASSES)]
    train_posterior(name, str(base_folder("llama")), names, (rows(40), rows(20, 1)), tmp_path / "a", plan,
                    PosteriorPlan(swag_epochs=2))  # fmt: skip
    assert sum(seen) == 60


def test_samples_from_a_kept_trunk_are_the_same(tmp_path):
    """Of draws, and of the linearised network."""
    plan = TrainingPlan(rank=2, epochs=1, batch_size=8, max_length=32, top_layers=1, show=False)
    names, folder = [f"c{i}" for i in range(CLASSES)], tmp_path / "a"
    train_posterior("ensemble", str(base_folder("llama")), names, (rows(40), rows(20, 1)), folder, plan,
                    PosteriorPlan(members=3))  # fmt: skip
    host = parameters("llama").host
    stored, table = load_posterior(folder, "ensemble"), rows(25, 2)
    plain = sample(Sampler(host, stored), table.texts, None, QUIET)
    trunks = Trunks()
    seen = passes_of(host)
    for _ in range(2):
        kept = sample(Sampler(host, stored, trunks=trunks), table.texts, None, QUIET)
        np.testing.assert_allclose(kept, plain, atol=1e-6)
    assert sum(seen) == 25


def test_the_search_of_tfb_reads_its_rows_once(tmp_path):
    from dubio.models.loading import load
    from dubio.posteriors.onto import make_laplace_lora

    plan = TrainingPlan(rank=2, epochs=1, batch_size=8, max_length=32, top_layers=1, show=False)
    names, folder = [f"c{i}" for i in range(CLASSES)], tmp_path / "a"
    train_posterior("ensemble", str(base_folder("llama")), names, (rows(40), rows(20, 1)), folder, plan,
                    PosteriorPlan(members=2))  # fmt: skip
    source = read_adapter(load(folder), folder)
    seen = passes_of(source.host)
    make_tfb(source, rows(30, 3), samples=2)
    assert sum(seen) == 30
    stored = make_laplace_lora(source, rows(10, 4))
    plain = sample(Sampler(source.host, stored, 5), rows(9, 5).texts, None, QUIET)
    kept = sample(Sampler(source.host, stored, 5, trunks=Trunks()), rows(9, 5).texts, None, QUIET)
    np.testing.assert_allclose(kept, plain, atol=1e-5)
