"""Invariant 1: scores do not depend on batch size, order, padding side or amount of padding.

float32 forward: to 1e-5 of the score's range (at least 1). HUQ is a rank among n calibration rows, linear between them:
where two of those lie closer than float32 rounding it moves by up to a step, so that 1 / n is allowed besides.

bfloat16 forward: batches of the same composition give the same bits. In others the kernels sum in another order, and
one rounding in 256 that falls the other way travels through the layers: features move by a few units in the last place
of bfloat16 (2^-8 relative) on some rows, scores by a few per cent of their range, and the order of rows stays.

Two kinds of score have a step, and a row that lies on it falls to one side or the other: a score of the predicted class
(refitted heads, probes) jumps where the two largest logits change places, and HUQ where a rank crosses t_min or t_max.
Such rows are left out of the comparison, and are shown to lie within a rounding of the step.
"""

from dataclasses import replace

import numpy as np
import pytest
import tiny_chain
import torch
from invariant_cases import PRECISIONS, fitted, small, tables
from scipy.stats import spearmanr

from dubio.containers import Representations
from dubio.scores import base
from dubio.scores.density.huq import HUQ, rank_among
from dubio.scores.registry import METHODS

CHAINS = [
    (family, precision, variant)
    for family in tiny_chain.FAMILIES
    for precision in PRECISIONS
    for variant in ("one by one", "other order", "among longer rows", *(["left"] if family == "llama" else []))
]
RUNS = {
    "one by one": tiny_chain.one_by_one,
    "other order": tiny_chain.in_other_order,
    "among longer rows": tiny_chain.among_longer_rows,
    "left": lambda adapted: tiny_chain.padded_on(adapted, "left"),
}
_FITTED, _VARIANTS = {}, {}


def fitted_on_texts(name, family, precision):
    """The method fitted on representations of the tiny model, once."""
    if (name, family, precision) not in _FITTED:
        head = tiny_chain.model(family, precision).head
        parts = (tiny_chain.split(family, precision, part) for part in ("train", "calibration"))
        _FITTED[name, family, precision] = small(name, head).fit(*parts)
    return _FITTED[name, family, precision]


def variant_of(family, precision, variant):
    if (family, precision, variant) not in _VARIANTS:
        _VARIANTS[family, precision, variant] = RUNS[variant](tiny_chain.model(family, precision))
    return _VARIANTS[family, precision, variant]


def step_of(method):
    return 1 / len(method.epistemic_reference_) if isinstance(method, HUQ) else 0.0


def sides(method, rows):
    """`[K, N]` for each step of a score on which side of it a row lies, and `[K, N]` how far from it.

    The first step is the prediction's, at equal largest logits; HUQ's ranks step at t_min and t_max.
    """
    top = np.sort(rows.logits, axis=1)
    found = [(rows.predictions, top[:, -1] - top[:, -2])]
    if isinstance(method, HUQ):
        epistemic = rank_among(method.epistemic_reference_, method.epistemic_.score(rows))
        aleatoric = rank_among(method.aleatoric_reference_, method._aleatoric(rows))
        for rank, step in zip((epistemic, aleatoric), method.weights_[:2], strict=True):
            found.append((rank <= step, np.abs(rank - step)))
    return tuple(np.stack(part) for part in zip(*found, strict=True))


def fallen(method, one, other, precision):
    """`[N]` rows that lie on the other side of a step in `other`: few, and each within roundings of that step."""
    (side, far), (other_side, _) = sides(method, one), sides(method, other)
    moved = side != other_side
    unit = {"float32": 2.0**-24, "bfloat16": 2.0**-8}[precision]
    logits = 64 * unit * np.abs(one.logits).max()
    ranks = 3 * step_of(method) if precision == "float32" else 0.1  # a density moves further than a logit
    assert far[0, moved[0]].max(initial=0) <= logits
    assert far[1:][moved[1:]].max(initial=0) <= ranks
    assert moved.any(axis=0).sum() <= 3
    return moved.any(axis=0)


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize(("family", "precision", "variant"), CHAINS)
def test_scores_do_not_depend_on_the_batch(name, family, precision, variant):
    method = fitted_on_texts(name, family, precision)
    one, other = tiny_chain.split(family, precision, "test"), variant_of(family, precision, variant)
    stays = ~fallen(method, one, other, precision)
    u, v = method.score(one)[stays], method.score(other)[stays]
    moved, size = np.abs(u - v).max(), max(1.0, np.ptp(u))
    if precision == "float32":
        assert moved <= 1e-5 * size + step_of(method)
    else:
        assert moved <= 0.1 * size + step_of(method)
        assert spearmanr(u, v).statistic > 0.99


def test_a_score_of_the_predicted_class_jumps_where_the_prediction_changes_and_softmax_response_does_not():
    """The step is the method's, whatever the precision: it has learned from errors of the prediction at hand."""
    rows = tables()[2]
    tied, turned = rows.logits.copy(), rows.logits.copy()
    order = np.argsort(rows.logits, axis=1)
    for which, logits in enumerate((tied, turned)):
        second = np.take_along_axis(logits, order[:, -2:-1], axis=1)
        np.put_along_axis(logits, order[:, -1:], second + (1e-6 if which == 0 else -1e-6), axis=1)
    one, other = (Representations.of(rows.features, logits, rows.labels) for logits in (tied, turned))
    assert (one.predictions != other.predictions).all()
    moved = {n: np.abs(fitted(n).score(one) - fitted(n).score(other)) for n in ("softmax_response", "refitted_both")}
    assert moved["softmax_response"].max() < 1e-5
    assert np.median(moved["refitted_both"]) > 0.5


@pytest.mark.parametrize(("family", "precision", "variant"), CHAINS)
def test_features_and_logits_move_by_roundings_only(family, precision, variant):
    """And they do move: where every bit stayed, the test above would compare a run with itself."""
    one, other = tiny_chain.split(family, precision, "test"), variant_of(family, precision, variant)
    unit = {"float32": 2.0**-24, "bfloat16": 2.0**-8}[precision]
    for a, b in ((one.features, other.features), (one.logits, other.logits)):
        assert np.abs(a - b).max() <= 64 * unit * np.abs(a).max()
    vectors = torch.backends.cpu.get_cpu_capability() != "DEFAULT"  # without, each bfloat16 product is summed alone
    if variant == "one by one" and (vectors or precision == "float32"):
        assert (one.features != other.features).any()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", tiny_chain.FAMILIES)
def test_the_same_batches_give_the_same_bits(family, precision):
    """Also whichever side the tokenizer is told to pad on: encoders are only ever padded on the right."""
    adapted = tiny_chain.model(family, precision)
    one = tiny_chain.split(family, precision, "test")
    for other in (
        tiny_chain.run(adapted, tiny_chain.texts("test")),
        tiny_chain.with_tokenizer_side(adapted, "left"),
        tiny_chain.with_tokenizer_side(adapted, "right"),
        tiny_chain.padded_on(adapted, "right"),
    ):
        assert one.features.tobytes() == other.features.tobytes()
        assert one.logits.tobytes() == other.logits.tobytes()


def test_the_adapters_are_judged_on_padded_batches_with_errors_of_both_kinds():
    for family in tiny_chain.FAMILIES:
        lengths = {len(text.split()) for text in tiny_chain.texts("test")}
        assert max(lengths) > 10 * min(lengths)
        errors = tiny_chain.split(family, "float32", "test").errors
        assert 0.1 < errors.mean() < 0.5


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", list(METHODS))
def test_scores_of_arrays_do_not_depend_on_order_or_chunks(name, precision, monkeypatch):
    method, rows = fitted(name, precision), tables(precision)[2]
    u = method.score(rows)
    order = np.random.default_rng(0).permutation(len(rows))
    close = {"rtol": 1e-6, "atol": 1e-6 * max(1.0, np.ptp(u))}  # AdUE's head is float32, all others end far below
    np.testing.assert_allclose(method.score(rows.take(order)), u[order], **close)
    np.testing.assert_allclose(method.score(rows.take([7])), u[7], **close)
    monkeypatch.setattr(base, "CHUNK", 50)
    np.testing.assert_allclose(method.score(rows), u, **close)


@pytest.mark.parametrize("name", list(METHODS))
def test_labels_of_the_scored_rows_are_never_read(name):
    """Nor is anything else that comes after: scores of rows without labels are the same bits."""
    method, rows = fitted(name), tables()[2]
    assert method.score(replace(rows, labels=None)).tobytes() == method.score(rows).tobytes()


@pytest.mark.parametrize("name", list(METHODS))
def test_no_rows_give_no_scores(name):
    rows = tables()[2]
    empty = Representations(rows.features[:0], rows.logits[:0])
    assert fitted(name).score(empty).shape == (0,)
