"""Laplace over LoRA against brute force: Jacobians by torch.autograd.functional, whole matrices, laplace-torch."""

import warnings

import numpy as np
import pytest
import torch
from tiny_runs import parameters

from dubio.adapters.plan import LabelledTexts
from dubio.errors import DubioError
from dubio.models.tokens.batching import pad, tokenize
from dubio.posteriors.engine.engine import StackEngine
from dubio.posteriors.engine.jacobians import Block, row_jacobians, shortened
from dubio.posteriors.engine.stack import AdapterStack, Layout, StackedLinear
from dubio.posteriors.methods.laplace_lora import LaplaceLora, fit_laplace_lora
from models.tiny import CLASSES, TEXTS

ROWS = LabelledTexts(TEXTS, None, np.array([0, 1, 2, 0, 1, 2, 0]), "seven")


def tiny(family="bert", rank=2, members=1):
    """An engine with one random adapter, and its host."""
    made = parameters(family, rank=rank)
    g = torch.Generator().manual_seed(0)
    values = {name: v + 0.2 * torch.randn(v.shape, generator=g) for name, v in made.start((1,) * members).items()}
    stack = made.stack(values)
    return StackEngine(made.host.model, made.host.site, stack, made.host.inputs), made.host


def chosen(values):
    return [name for name in values if name.startswith("layer/") and name.endswith((".a", ".b"))]


def jacobian(engine, batch, name):
    """`[n, C, r, w]`: derivatives of the logits by one A or by B', one row and class after another."""
    values = engine.stack.tensors()

    def logits(value):
        stack = engine.stack.with_tensors({**values, name: value})
        own = StackEngine(engine.model, engine.site, stack, engine.inputs)
        return own.logits(own.features(batch, Layout(1)))[0]

    with torch.enable_grad():
        found = torch.autograd.functional.jacobian(logits, values[name].clone())[:, :, 0]
    return found.transpose(2, 3) if name.endswith(".b") else found


def brute(engine, host, rows=ROWS):
    """Name -> the generalised Gauss-Newton matrix of the block, `[r, w, r, w]`, row by row."""
    tokens, total = tokenize(host, rows.texts, rows.pairs), {}
    for i in range(len(rows.texts)):
        batch = pad({key: [ids[i]] for key, ids in tokens.items()}, host)
        with torch.no_grad():
            p = torch.softmax(engine.predict(batch)[0, 0].double(), dim=0)
        hessian = torch.diag(p) - torch.outer(p, p)
        for name in chosen(engine.stack.tensors()):
            j = jacobian(engine, batch, name)[0].double()
            total[name] = total.get(name, 0) + torch.einsum("crw,cd,dsv->rwsv", j, hessian, j)
    return total


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_diagonal_equals_brute_force(family):
    engine, host = tiny(family)
    found = fit_laplace_lora(engine, host, ROWS, structure="diag", tau=1.0)
    for name, whole in brute(engine, host).items():
        expected = torch.einsum("rwrw->rw", whole)
        assert expected.max() > 1e-4
        np.testing.assert_allclose(found.tensors[f"values|{name}"], expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "deberta", "modernbert-mean"])
def test_the_factors_are_the_partial_traces_of_the_whole_matrix(family):
    engine, host = tiny(family)
    found = fit_laplace_lora(engine, host, ROWS, structure="kron", rank=64, tau=1.0)
    blocks = brute(engine, host)
    assert set(blocks) == set(chosen(found.part("mean")))
    for name, whole in blocks.items():
        t = {part: found.tensors[f"{part}|{name}"].double() for part in ("small", "small_values", "wide",
                                                                         "wide_values", "rest")}  # fmt: skip
        small = t["small"] @ torch.diag(t["small_values"]) @ t["small"].T
        wide = t["wide"].T @ torch.diag(t["wide_values"]) @ t["wide"]
        trace = float(torch.einsum("rwrw->", whole))
        torch.testing.assert_close(small * trace, torch.einsum("rwsw->rs", whole), rtol=2e-3, atol=1e-5 * trace)
        torch.testing.assert_close(wide, torch.einsum("rwrv->wv", whole), rtol=2e-3, atol=1e-5 * trace)
        assert abs(float(t["rest"])) < 1e-5 * trace


def test_one_row_of_one_token_is_exact():
    """Then every Jacobian is an outer product g x', and G x H / trace is the matrix itself."""
    g = torch.Generator().manual_seed(0)
    x, grads = torch.randn(7, generator=g), torch.randn(3, 2, generator=g)
    block = Block(7)
    block.add((grads[:, :, None] * x)[:, None], "kron")
    t = {name: value.double() for name, value in block.tensors("kron").items()}
    small = t["small"] @ torch.diag(t["small_values"]) @ t["small"].T
    wide = t["wide"].T @ torch.diag(t["wide_values"]) @ t["wide"]
    flat = (grads[:, :, None] * x).flatten(1).double()
    torch.testing.assert_close(torch.kron(small, wide), flat.T @ flat, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("structure", ["kron", "diag"])
def test_draws_have_the_inverse_as_covariance(structure):
    engine, host = tiny()
    rank, tau = 3, 0.5
    found = fit_laplace_lora(engine, host, ROWS, structure=structure, rank=rank, tau=tau)
    draws = found.draw(50_000)
    for name in chosen(draws)[:4]:
        wide = draws[name].transpose(1, 2) if name.endswith(".b") else draws[name]
        if structure == "diag":
            precision = torch.diag(found.tensors[f"values|{name}"].flatten()).double()
        else:
            t = {part: found.tensors[f"{part}|{name}"].double() for part in ("small", "small_values", "wide",
                                                                             "wide_values", "rest")}  # fmt: skip
            kept = t["wide"].T @ torch.diag(t["wide_values"] - t["rest"]) @ t["wide"]
            kept = kept + t["rest"] * torch.eye(len(kept))
            precision = torch.kron(t["small"] @ torch.diag(t["small_values"]) @ t["small"].T, kept)
        covariance = torch.linalg.inv(precision + tau * torch.eye(len(precision))).numpy()
        np.testing.assert_allclose(np.cov(wide.flatten(1).double().T), covariance, atol=0.04 * covariance.max())
    assert torch.equal(draws["head/0.weight"][0], draws["head/0.weight"][7])


def test_what_the_kept_directions_leave_of_the_trace_is_not_lost():
    engine, host = tiny()
    whole, cut = (fit_laplace_lora(engine, host, ROWS, rank=rank, tau=1.0).spectrum() for rank in (64, 2))
    assert len(whole) == len(cut) == sum(v.numel() for n, v in engine.stack.tensors().items() if n in chosen([n]))
    assert cut.sum() == pytest.approx(whole.sum(), rel=1e-3)
    assert cut.max() == pytest.approx(whole.max(), rel=1e-2)


def test_shortened_rows_keep_the_leading_directions_whatever_the_order():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 60, generator=g) @ torch.diag(0.7 ** torch.arange(60.0))
    once = shortened(rows, 20)
    stepwise = rows[:50]
    for start in range(50, 400, 50):
        stepwise = shortened(torch.cat([stepwise, rows[start : start + 50]]), 20)
    exact = torch.linalg.eigvalsh(rows.T @ rows).flip(0)[:10]
    for found in (once, stepwise):
        assert found.shape == (20, 60)
        torch.testing.assert_close(torch.linalg.svdvals(found)[:10] ** 2, exact, rtol=0.01, atol=0)
    state = torch.get_rng_state()
    assert torch.equal(shortened(rows, 20), once)
    assert torch.equal(torch.get_rng_state(), state)


def test_row_jacobians_do_not_depend_on_padding():
    engine, host = tiny()
    tokens = tokenize(host, TEXTS, None)
    together = row_jacobians(engine, pad(tokens, host))
    for i in (1, 4):
        alone = row_jacobians(engine, pad({key: [ids[i]] for key, ids in tokens.items()}, host))
        torch.testing.assert_close(alone[0][0], together[0][i], atol=1e-5, rtol=0)
        for name, columns in alone[1].items():
            torch.testing.assert_close(columns[:, 0], together[1][name][:, i], atol=1e-5, rtol=1e-3)
    assert all(not p.requires_grad for p in engine.model.parameters())


def test_the_prior_precision_maximises_the_evidence_written_out():
    engine, host = tiny()
    found = fit_laplace_lora(engine, host, ROWS, structure="diag")
    values = engine.stack.tensors()
    square = sum(float(values[name].double().pow(2).sum()) for name in chosen(values))
    spectrum = np.concatenate([found.tensors[f"values|{name}"].double().numpy().ravel() for name in chosen(values)])

    def evidence(tau):
        return -0.5 * tau * square + 0.5 * (np.log(tau) - np.log(spectrum + tau)).sum()

    best = found.fact("tau")
    assert all(evidence(best) >= evidence(best * factor) for factor in (0.5, 0.9, 1.1, 2.0))


def test_held_out_rows_choose_the_precision_of_the_least_nll():
    engine, host = tiny()
    found = fit_laplace_lora(engine, host, ROWS, structure="diag", tau=1.0)
    best = found.searched(lambda posteriors: [abs(np.log10(p.fact("tau")) - 4.6) for p in posteriors])
    assert best.fact("tau") == pytest.approx(10**4.5)
    assert len(best.fact("search")) == 9
    with pytest.raises(DubioError, match="must be positive"):
        found.with_facts(tau=0.0).draw(1)


def test_what_has_no_a_and_b_is_refused():
    engine, host = tiny(members=2)
    with pytest.raises(DubioError, match="one adapter with A and B"):
        fit_laplace_lora(engine, host, ROWS)
    bare = StackEngine(engine.model, engine.site, AdapterStack({}, tiny()[0].stack.head), engine.inputs)
    with pytest.raises(DubioError, match="one adapter with A and B"):
        fit_laplace_lora(bare, host, ROWS)


class Wrapped(torch.nn.Module):
    """A's and B's of two layers as the parameters of a network, as laplace-torch wants them."""

    def __init__(self, engine, names):
        super().__init__()
        self.engine, self.names = engine, names
        values = engine.stack.tensors()
        self.own = torch.nn.ParameterList([torch.nn.Parameter(values[name].clone()) for name in names])

    def forward(self, ids):
        values = {**self.engine.stack.tensors(), **dict(zip(self.names, self.own, strict=True))}
        own = StackEngine(
            self.engine.model, self.engine.site, self.engine.stack.with_tensors(values), frozenset({"input_ids"})
        )
        return own.logits(own.features({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, Layout(1)))[0]


def test_the_matrix_equals_that_of_laplace_torch():
    """Its full curvature of the same adapter, by another route (curvlinops), against our diagonal and traces."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        laplace = pytest.importorskip("laplace", reason="laplace-torch is installed by requirements/oracles.txt")
        from laplace.curvature import CurvlinopsGGN
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.data import DataLoader, TensorDataset

        engine, host = tiny()
        names = chosen(engine.stack.tensors())[-4:]
        texts = [" ".join(text.split()[:2]) for text in TEXTS if len(text.split()) > 1]
        tokens = tokenize(host, texts, None)
        ids = torch.tensor(tokens["input_ids"])
        labels = torch.arange(len(ids)) % CLASSES
        model = Wrapped(engine, names)
        other = laplace.Laplace(
            model, "classification", subset_of_weights="all", hessian_structure="full", backend=CurvlinopsGGN
        )
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no forward derivatives
            other.fit(DataLoader(TensorDataset(ids, labels), batch_size=2))
    rows = LabelledTexts(texts, None, labels.numpy(), "few")
    found = fit_laplace_lora(engine, host, rows, structure="diag", tau=1.0)
    diagonal, at = other.H.detach().diagonal().double(), 0
    for name in names:
        like = engine.stack.tensors()[name][0]
        expected = diagonal[at : at + like.numel()].reshape(like.shape)
        at += like.numel()
        own = found.tensors[f"values|{name}"]
        np.testing.assert_allclose(own.T if name.endswith(".b") else own, expected, rtol=5e-3, atol=1e-5)
    assert isinstance(found, LaplaceLora)


def token_factors(engine, host, monkeypatch):
    """Name -> K-FAC's (input covariance, output covariance): means and sums over all tokens of all rows."""
    record, product, found, tokens = [], StackedLinear._product, {}, tokenize(host, TEXTS, None)
    monkeypatch.setattr(
        StackedLinear, "_product", lambda self, flat: record.append((self, flat, product(self, flat))) or record[-1][2]
    )
    count = sum(len(ids) for ids in tokens["input_ids"])
    values = {name: v.requires_grad_(name in chosen([name])) for name, v in engine.stack.tensors().items()}
    own = StackEngine(engine.model, engine.site, engine.stack.with_tensors(values), engine.inputs)
    for i in range(len(TEXTS)):
        record.clear()
        with torch.enable_grad():
            batch = pad({key: [ids[i]] for key, ids in tokens.items()}, host)
            z = own.logits(own.features(batch, Layout(1)))[0, 0]
        p = torch.softmax(z.detach(), dim=0)
        for c in range(CLASSES):
            column = p[c].sqrt() * (torch.eye(CLASSES)[c] - p)
            grads = torch.autograd.grad((column * z).sum(), [out for _, _, out in record], retain_graph=True)
            for (layer, x, _), grad in zip(record, grads, strict=True):
                name = next(n for n, update in own.stack.layers.items() if update.a is layer.a)
                a, b = layer.a[0].detach(), layer.b[0].detach()
                for part, seen, out in (("a", x[0], 2.0 * grad[0] @ b), ("b", x[0] @ a.T, 2.0 * grad[0])):
                    seen = seen.detach().double()
                    before = found.get(f"layer/{name}.{part}", (0, 0))
                    inner = before[0] + seen.T @ seen / (count * CLASSES)
                    found[f"layer/{name}.{part}"] = (inner, before[1] + out.double().T @ out.double())
    return found


@pytest.mark.parametrize("family", ["bert", "roberta", "llama"])
def test_the_factors_are_nearer_to_the_whole_matrix_than_those_of_single_tokens(family, monkeypatch):
    engine, host = tiny(family)
    found, blocks = fit_laplace_lora(engine, host, ROWS, tau=1.0), brute(engine, host)
    own, other = [], []
    for name, (inner, outer) in token_factors(engine, host, monkeypatch).items():
        whole = blocks[name].flatten(2).flatten(0, 1)
        t = {part: found.tensors[f"{part}|{name}"].double() for part in ("small", "small_values", "wide",
                                                                         "wide_values", "rest")}  # fmt: skip
        wide = t["wide"].T @ torch.diag(t["wide_values"] - t["rest"]) @ t["wide"]
        wide = wide + t["rest"] * torch.eye(len(wide))
        kron = torch.kron(t["small"] @ torch.diag(t["small_values"]) @ t["small"].T, wide)
        kfac = torch.kron(outer, inner) if name.endswith(".a") else torch.kron(inner, outer)
        own.append(float((kron - whole).norm() / whole.norm()))
        other.append(float((kfac - whole).norm() / whole.norm()))
    assert np.median(own) < 0.8 * np.median(other), (np.median(own), np.median(other))
