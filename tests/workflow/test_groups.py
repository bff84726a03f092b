"""Near-repeated rows stay together: in one fold, and on one side of the cut into fitting and certification halves."""

from dataclasses import replace

import numpy as np

import dubio
from dubio.artifacts.store import load_artifact
from dubio.containers import Representations
from dubio.data.tables import table_of
from dubio.decisions import risk_threshold
from dubio.scores.base import fold_of
from dubio.scores.registry import get_method
from dubio.workflow.evaluation import promise
from dubio.workflow.fitting import FitPlan, fit_methods, halves
from dubio.workflow.tables import repeats
from synthetic import planted


def grouped(rows=600, seed=3):
    table = planted(rows=rows, seed=seed)[0]
    return replace(table, groups=np.random.default_rng(0).integers(0, rows // 2, size=rows))


def whole(assignment, groups):
    return all(len(np.unique(assignment[groups == g])) == 1 for g in np.unique(groups))


def test_folds_and_halves_keep_groups_whole():
    table = grouped()
    folds, kept = fold_of(table), halves(table, 0.5, 0)
    assert whole(folds, table.groups)
    assert whole(kept, table.groups)
    assert np.bincount(folds).min() > 80
    assert all(table.errors[folds == f].any() and not table.errors[folds == f].all() for f in range(5))
    assert 0.4 < kept.mean() < 0.6


def test_without_groups_every_row_is_its_own():
    table = planted(rows=300)[0]
    alone = replace(table, groups=np.arange(300))
    assert np.array_equal(fold_of(table), fold_of(alone))
    assert np.array_equal(halves(table, 0.4, 1), halves(alone, 0.4, 1))


def test_take_keeps_groups():
    table = grouped()
    assert np.array_equal(table.take(slice(5, 50)).groups, table.groups[5:50])


def test_near_repeats_are_found_in_texts_and_pairs():
    texts = ["the flight was late again today", "THE FLIGHT was late again today!!", "a lovely little film"]
    assert list(repeats(table_of(texts))) == [0, 0, 1]
    assert list(repeats(table_of(texts, pairs=["yes indeed it was", "no it never was", "maybe"]))) == [0, 1, 2]


def test_twins_no_longer_flatter_a_refitted_head():
    """Rows copied once each, labels pure noise: without groups a fold's twins give its labels away."""
    g = np.random.default_rng(1)
    z, labels = g.normal(size=(250, 120)).astype(np.float32), g.integers(0, 2, size=250)
    logits = g.normal(size=(250, 2)).astype(np.float32)
    twice = Representations.of(np.repeat(z, 2, axis=0), np.repeat(logits, 2, axis=0), np.repeat(labels, 2))
    method = get_method("refitted_calibration")
    blind = method.build().fit(None, twice)
    honest = method.build().fit(None, replace(twice, groups=np.repeat(np.arange(250), 2)))
    assert blind.facts_["cross_validated_gain"] > 0.25
    assert abs(honest.facts_["cross_validated_gain"]) < 0.12


def test_a_promise_counts_texts_through_fit_and_artifact(tmp_path):
    """Certification rows keep their groups; an artifact without any, as older ones are, promises as before."""
    table = planted(rows=500, seed=3)[0]
    three = table.take(np.repeat(np.arange(500), 3))
    grouped, loose = (fit_methods(None, replace(three, groups=g), plan=FitPlan(("softmax_response",), show=False))
                      for g in (np.repeat(np.arange(500), 3), None))  # fmt: skip
    assert (loose.groups, len(np.unique(grouped.groups))) == (None, len(grouped.errors) // 3)
    certified = grouped.chosen.certified
    alone = risk_threshold(certified[::3], grouped.errors[::3], risk=0.3, delta=0.1)
    for kept in (grouped, _saved(grouped, tmp_path / "grouped")):
        found = promise(kept, 0.3)
        assert found.threshold == alone.threshold
        assert found.texts == alone.rows
        assert f"({alone.rows} distinct texts)" in found.promise
    assert promise(_saved(loose, tmp_path / "loose"), 0.3) == promise(loose, 0.3)
    assert promise(loose, 0.3).texts is None


def _saved(fit, folder):
    """As it comes back from its folder."""
    folder.mkdir()
    dubio.save(fit, None, folder)
    return load_artifact(folder)[0]
