"""What lies below the first adapted block runs once for rows that are seen more than once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import PLAN, parameters, rows

from dubio.adapters.plan import TrainingPlan
from dubio.adapters.targets import lora_targets
from dubio.models.extraction import Extraction
from dubio.models.loading import load
from dubio.models.tokens.batching import pad, tokenize
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.prefix_cache import Trunks, sharing_trunks
from dubio.posteriors.from_adapter import make_laplace_lora, make_tfb, read_adapter
from dubio.posteriors.sampling import Sampler, sample
from dubio.posteriors.store import load_posterior
from dubio.posteriors.trained import PosteriorPlan, train_posterior
from dubio.posteriors.training.parameters import XsParameters, targets_of
from dubio.posteriors.training.trainer import train_stack
from models.tiny import CLASSES, base_folder, save_base

QUIET = Extraction(show=False)
TOP = TrainingPlan(rank=2, epochs=2, batch_size=8, max_length=32, top_layers=1, show=False)
NAMES = [f"c{i}" for i in range(CLASSES)]


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
    lists = [m for m in host.model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) in (2, 3)]
    lists[0][0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
    )
    return seen


def run(folder, name="ensemble", family="llama", **extra):
    """A posterior of that name, trained in the last block."""
    tables = rows(40), rows(20, 1)
    train_posterior(name, str(base_folder(family)), NAMES, tables, folder, TOP, PosteriorPlan(**extra))
    return folder


@pytest.fixture
def counted(monkeypatch):
    """Rows that are read for a trunk, call by call."""
    seen, read = [], StackEngine.trunk

    def counting(engine, batch):
        seen.append(len(batch["input_ids"]))
        return read(engine, batch)

    monkeypatch.setattr(StackEngine, "trunk", counting)
    return seen


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_kept_rows_are_the_hidden_states_that_transformers_gives(family, blocks, tmp_path):
    made = parameters(family, base=save_base(tmp_path / "base", family, num_hidden_layers=3))
    tokens = tokenize(made.host, rows(30).texts, None)
    engine = engine_of(top_of(made, blocks))
    trunk = Trunks().read(engine, made.host, tokens)
    assert engine.below == 3 - blocks
    batch = pad(tokens, made.host)
    inputs = {key: value for key, value in batch.items() if key in made.host.inputs}
    with torch.no_grad():
        states = made.host.model(**inputs, output_hidden_states=True).hidden_states[engine.below]
    for row, whole, ids in zip(trunk.rows, states, tokens["input_ids"], strict=True):
        torch.testing.assert_close(row, whole[: len(ids)], atol=2e-5, rtol=1e-5)
    assert trunk.bytes == 4 * sum(len(ids) for ids in tokens["input_ids"]) * states.shape[2]
    at = np.array([4, 0, 4])
    assert trunk.of(at).shape == (3, max(len(tokens["input_ids"][i]) for i in at), states.shape[2])
    assert torch.equal(trunk.of(at)[1, : len(trunk.rows[0])], trunk.rows[0])


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_the_same_rows_below_the_same_block_are_read_once(family, tmp_path):
    made, trunks = parameters(family, base=save_base(tmp_path / "base", family, num_hidden_layers=3)), Trunks()
    top, seen, host = top_of(made), passes_of(made.host), made.host
    tokens = tokenize(host, rows(30).texts, None)
    trunk = trunks.read(engine_of(top), host, tokens)
    assert trunks.read(engine_of(top_of(made, kind=XsParameters)), host, tokens) is trunk
    assert sum(seen) == 30
    others = [
        trunks.read(engine_of(top_of(made, 2)), host, tokens),
        trunks.read(engine_of(top), host, tokenize(host, rows(30, 1).texts, None)),
        trunks.read(engine_of(top), replace(host, hashes={**host.hashes, "base": "other"}), tokens),
        trunks.read(engine_of(top), replace(host, hashes={**host.hashes, "config": "other"}), tokens),
        trunks.read(engine_of(top), replace(host, precision="bfloat16"), tokens),
    ]
    assert len({id(other) for other in [trunk, *others]}) == 6
    assert sum(seen) == 6 * 30
    assert trunks.read(engine_of(made), host, tokens) is None  # nothing lies below the first block


def test_what_does_not_fit_beside_the_others_is_not_kept(counted):
    made = parameters("llama")
    top, tables = engine_of(top_of(made)), [tokenize(made.host, rows(20, seed).texts, None) for seed in range(2)]
    sizes = [Trunks().read(top, made.host, tokens).bytes for tokens in tables]
    trunks = Trunks(limit=sum(sizes) - 1)
    first = trunks.read(top, made.host, tables[0])
    before = sum(counted)
    assert trunks.read(top, made.host, tables[1]) is None
    assert trunks.read(top, made.host, tables[0]) is first
    assert Trunks(limit=sizes[0] - 1).read(top, made.host, tables[0]) is None
    assert sum(counted) == before


def test_a_family_whose_blocks_need_more_is_not_read():
    made, trunks = parameters("deberta"), Trunks()
    assert trunks.read(engine_of(top_of(made)), made.host, tokenize(made.host, rows(20).texts, None)) is None


def test_a_run_reads_its_rows_and_the_held_out_ones_once_and_counts_what_that_took(tmp_path):
    made, plan = parameters("llama"), replace(PLAN, epochs=3)
    top, seen, tables = top_of(made), passes_of(made.host), (rows(40), rows(20, 1))
    with sharing_trunks() as trunks:
        first = train_stack(top, *tables, plan)
        again = train_stack(top, *tables, plan)
        assert sum(seen) == 60
        trunks.kept.update({key: replace(trunk, seconds=1e3) for key, trunk in trunks.kept.items()})
        told = train_stack(top, *tables, plan, work=tmp_path)
        second = train_stack(top, *tables, plan, begin=told.best)
        longer = train_stack(top, *tables, plan, work=tmp_path)
    assert first.history[0]["nll"] == again.history[0]["nll"] == told.history[0]["nll"]
    assert 2e3 < told.history[0]["seconds"] < 2.1e3  # as if it had read them itself
    assert longer.history == told.history
    assert (
        max(epoch["seconds"] for epoch in [*told.history[1:], *second.history]) < 100
    )  # of a run before it: not twice
    train_stack(top, *tables, plan)
    assert sum(seen) == 120  # outside, nothing is left


def test_a_resumed_run_does_not_count_the_reading_again(tmp_path, monkeypatch):
    made, plan = top_of(parameters("llama")), replace(PLAN, epochs=3)

    def kill(epoch, *_):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stack(made, rows(40), rows(20, 1), plan, work=tmp_path, watch=kill)
    with sharing_trunks() as trunks:
        train_stack(made, rows(40), rows(20, 1), replace(plan, epochs=1))
        trunks.kept.update({key: replace(trunk, seconds=1e3) for key, trunk in trunks.kept.items()})
        resumed = train_stack(made, rows(40), rows(20, 1), plan, work=tmp_path)
    assert max(epoch["seconds"] for epoch in resumed.history) < 100


def test_trunks_that_are_named_win_over_those_around():
    mine = Trunks()
    with sharing_trunks() as outer:
        with sharing_trunks(mine) as inner, sharing_trunks() as same:
            assert inner is mine is same
        with sharing_trunks() as again:
            assert again is outer


@pytest.mark.parametrize("name", ["swag_lora", "swag_lora_xs"])
def test_both_phases_of_swag_share_one(name, tmp_path, counted):
    run(tmp_path / "a", name, swag_epochs=2)
    assert sum(counted) == 60


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_samples_from_a_kept_trunk_are_the_same(family, tmp_path):
    """Also where a model is run in inference mode before."""
    stored, host = load_posterior(run(tmp_path / "a", family=family, members=3), "ensemble"), parameters(family).host
    table, trunks = rows(25, 2), Trunks()
    plain = sample(Sampler(host, stored), table.texts, None, QUIET)
    seen = passes_of(host)
    for _ in range(2):
        kept = sample(Sampler(host, stored, trunks=trunks), table.texts, None, QUIET)
        np.testing.assert_allclose(kept, plain, atol=1e-6)
    assert sum(seen) == 25


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_linearised_network_goes_on_from_a_kept_trunk(family, tmp_path):
    """More rows than are linearised at once, and in inference mode."""
    folder = run(tmp_path / "a", family=family, members=2)
    source = read_adapter(load(folder), folder)
    stored, table = make_laplace_lora(source, rows(10, 4)), rows(40, 5)
    plain = sample(Sampler(source.host, stored, 5), table.texts, None, QUIET)
    seen = passes_of(source.host)
    with torch.inference_mode():
        kept = sample(Sampler(source.host, stored, 5, trunks=Trunks()), table.texts, None, QUIET)
    np.testing.assert_allclose(kept, plain, atol=1e-5)
    assert sum(seen) == 40


def test_the_search_of_tfb_reads_its_rows_once(tmp_path):
    folder = run(tmp_path / "a", members=2)
    source = read_adapter(load(folder), folder)
    seen = passes_of(source.host)
    make_tfb(source, rows(30, 3), samples=2)
    assert sum(seen) == 30
