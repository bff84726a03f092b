"""The linearised network against Jacobians by torch.autograd.functional, its limit of small noise, and its own case."""

import numpy as np
import pytest
import torch
from test_laplace_lora import ROWS, chosen, jacobian, tiny

from dubio.adapters.plan import LabelledTexts
from dubio.measures import log_mean
from dubio.models.extraction import Extraction
from dubio.models.tokens.batching import pad, tokenize
from dubio.posteriors.base_model import hashes_of
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.jacobians import names_of, wide_of
from dubio.posteriors.engine.linearised import LinearEngine
from dubio.posteriors.from_adapter import LINEAR_SAMPLES, Source, make_laplace_lora
from dubio.posteriors.methods.laplace_lora import LaplaceLora, fit_laplace_lora
from dubio.posteriors.sampling import Sampler, sample, sample_both
from dubio.posteriors.store import Stored, load_posterior, save_posterior
from dubio.posteriors.training.parametrisation import facts_of
from models.tiny import TEXTS

QUIET = Extraction(show=False)


def drawn(engine, host, *, tau=2.0, samples=5, linear=True, structure="kron"):
    """(a sampler over a posterior of the engine's adapter, its draws)."""
    found = fit_laplace_lora(engine, host, ROWS, structure=structure, tau=tau).with_facts(linear=linear)
    stored = Stored("laplace_lora", found, facts_of(engine.stack), hashes_of(host), samples)
    return Sampler(host, stored), found.draw(samples)


@pytest.mark.parametrize("family", ["bert", "deberta", "llama", "gpt2", "modernbert-mean"])
def test_logits_are_those_of_the_taylor_expansion(family):
    engine, host = tiny(family)
    sampler, draws = drawn(engine, host)
    batch = pad(tokenize(host, TEXTS[:3], None), host)
    features, logits = sampler.averaging().averaged(batch)
    with torch.no_grad():
        centre, expected = engine.forward(batch)
        expected = expected.expand(5, -1, -1).double()
        for name in chosen(draws):
            shift = wide_of(name, draws[name] - engine.stack.tensors()[name]).double()
            expected = expected + torch.einsum("ncrw,srw->snc", jacobian(engine, batch, name).double(), shift)
    assert float((expected - expected[:1]).abs().max()) > 0.05
    torch.testing.assert_close(logits.double(), expected, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(features, centre[0], atol=1e-5, rtol=1e-5)


def test_draws_near_the_adapter_predict_as_themselves():
    """The difference between both falls with the square of the noise."""
    engine, host = tiny()
    batch = pad(tokenize(host, TEXTS, None), host)
    gaps = []
    for tau in (1e4, 1e6):
        sampler, _ = drawn(engine, host, tau=tau)
        linear, own = sampler.averaging().averaged(batch)[1], sampler.engine().predict(batch)
        gaps.append(float((linear - own).abs().max()))
    assert gaps[0] > 1e-6
    assert gaps[1] < gaps[0] / 8  # the noise is a tenth


@pytest.mark.parametrize("budget", [1, 40, 4096])
def test_neither_the_batch_nor_the_budget_changes_a_row(budget):
    engine, host = tiny()
    sampler, _ = drawn(engine, host)
    averaging = sampler.averaging()
    assert isinstance(averaging, LinearEngine)
    tokens = tokenize(host, TEXTS, None)
    whole = averaging.averaged(pad(tokens, host), budget)[1]
    for i in (0, 3):
        alone = averaging.averaged(pad({key: [ids[i]] for key, ids in tokens.items()}, host))[1]
        torch.testing.assert_close(alone[:, 0], whole[:, i], atol=1e-4, rtol=1e-4)
    assert not any(p.requires_grad for p in engine.model.parameters())


def test_many_samples_have_the_moments_that_the_paper_draws_from():
    """N(f, J Sigma J'), written out with a diagonal Sigma."""
    engine, host = tiny()
    sampler, _ = drawn(engine, host, samples=20_000, structure="diag", tau=5.0)
    batch = pad(tokenize(host, TEXTS[1:2], None), host)
    logits = sampler.averaging().averaged(batch)[1][:, 0].double()
    posterior, expected = sampler.stored.posterior, torch.zeros(3, 3, dtype=torch.float64)
    for name in names_of(engine.stack.tensors()):
        j = jacobian(engine, batch, name)[0].double()
        expected = expected + torch.einsum("crw,rw,drw->cd", j, 1 / (posterior.tensors[f"values|{name}"] + 5.0), j)
    np.testing.assert_allclose(np.cov(logits.T), expected, atol=0.04 * float(expected.max()))
    np.testing.assert_allclose(logits.mean(dim=0), engine.predict(batch)[0, 0], atol=0.03)


def test_held_out_rows_are_searched_by_the_very_predictions(monkeypatch):
    """Several prior precisions by one pass give what each gives alone."""
    monkeypatch.setattr("dubio.posteriors.from_adapter.SEARCH_SAMPLES", 6)
    engine, host = tiny()
    source = Source(engine.stack, host, 0.0, "digest")
    made = make_laplace_lora(source, ROWS, ROWS, structure="diag", samples=6)
    found = dict(made.posterior.fact("search"))
    assert len(found) == 11
    assert made.posterior.fact("tau") == min(found, key=found.get)
    for tau in (1.0, 1e3):
        one = Stored(made.name, made.posterior.with_facts(tau=tau), made.form, made.base, 6)
        mean = log_mean(sample(Sampler(host, one), ROWS.texts, None, QUIET))
        assert found[tau] == pytest.approx(-mean[range(len(mean)), ROWS.labels].mean(), abs=1e-5)


def test_it_predicts_in_bfloat16_and_where_gradients_are_off():
    engine, host = tiny()
    sampler, draws = drawn(engine, host, tau=20.0)
    batch = pad(tokenize(host, TEXTS, None), host)
    expected = sampler.averaging().averaged(batch)[1]
    with torch.inference_mode():
        torch.testing.assert_close(sampler.averaging().averaged(batch)[1], expected)
    rounded = StackEngine(engine.model.bfloat16(), engine.site, engine.stack, engine.inputs)
    logits = LinearEngine.around(rounded, draws).averaged(batch)[1]
    assert logits.dtype == torch.float32
    shift, own = logits - logits.mean(dim=0), expected - expected.mean(dim=0)
    assert float((shift - own).norm() / own.norm()) < 0.15


def test_it_is_what_a_stored_posterior_predicts_by_and_an_older_one_does_not(tmp_path):
    engine, host = tiny()
    source = Source(engine.stack, host, 0.0, "digest")
    held = LabelledTexts(ROWS.texts[:4], None, ROWS.labels[:4], "held")
    made = make_laplace_lora(source, ROWS, held)
    assert made.samples == LINEAR_SAMPLES
    assert made.posterior.fact("linear") is True
    assert make_laplace_lora(source, ROWS, linear=False).samples == 10
    save_posterior(tmp_path, made)
    again = load_posterior(tmp_path, "laplace_lora")
    features, table = sample_both(Sampler(host, made), TEXTS, None, QUIET)
    assert table.shape == (LINEAR_SAMPLES, len(TEXTS), 3)
    assert np.array_equal(table, sample(Sampler(host, again), TEXTS, None, QUIET))
    np.testing.assert_allclose(
        features[2], engine.forward(pad(tokenize(host, TEXTS[2:3], None), host))[0][0, 0], atol=1e-5
    )
    facts = {"structure": "kron", "tau": 1.0, "rows": 7}
    older = Stored(made.name, LaplaceLora(made.posterior.tensors, facts), made.form, made.base, 10)
    assert isinstance(Sampler(host, older).averaging(), StackEngine)
