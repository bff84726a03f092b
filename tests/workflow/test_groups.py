"""Near-repeated rows stay together: in one fold, and on one side of the cut into fitting and certification halves."""

from dataclasses import replace

import numpy as np
import pytest

import dubio
from dubio.artifacts.store import load_artifact
from dubio.containers import Representations
from dubio.data.groups import groups_of, repeats
from dubio.data.tables import as_table, table_of
from dubio.decisions import risk_threshold
from dubio.errors import DubioError
from dubio.scores.base import fold_of
from dubio.scores.registry import get_method
from dubio.workflow.evaluation import promise
from dubio.workflow.fitting import FitPlan, fit_methods, halves
from dubio.workflow.rows import held_out
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


def test_the_labels_column_names_no_groups():
    table = as_table({"text": ["a b", "c d"], "label": ["x", "y"], "author": ["x", "y"]})
    assert list(groups_of(table, "author")) == [0, 1]
    with pytest.raises(DubioError, match="column 'label' holds the labels, so all rows of a class would be one group"):
        groups_of(table, "label")


def table_with(**columns):
    return as_table({"text": ["a b c d e", "f g h i j", "A B c d e!", "k l m n o"], **columns})


def test_groups_are_near_repeats_a_column_or_none():
    table = table_with(author=["x", "y", "z", "x"], thread=[7, 7, 8, 9])
    assert list(groups_of(table)) == list(repeats(table)) == [0, 1, 0, 2]
    assert groups_of(table, "none") is None
    assert list(groups_of(table, "author")) == [0, 1, 2, 0]
    assert list(groups_of(table, "thread")) == [0, 0, 1, 2]
    assert list(groups_of(table.take([3, 2, 0]), "author")) == [0, 1, 0]


@pytest.mark.parametrize(("columns", "by", "message"), [
    ({}, "author", "no column 'author'; there are: text"),
    ({"none": list("abcd")}, "none", "could also mean the column"),
    ({"repeats": list("abcd")}, "repeats", "could also mean the column"),
    ({"author": ["x", None, "y", "z"]}, "author", "row 2: column 'author' is missing; give every row its group"),
    ({"author": ["x", "y", " ", "z"]}, "author", "row 3: column 'author' is missing"),
    ({"author": [1.0, 2.0, 3.0, float("nan")]}, "author", "row 4: column 'author' is missing"),
    ({"author": [[1], [2], [3], [4]]}, "author", "holds list<item: int64>; a group is one name or number a row"),
])  # fmt: skip
def test_groups_that_are_none(columns, by, message):
    with pytest.raises(DubioError) as caught:
        groups_of(table_with(**columns), by)
    assert message in str(caught.value)


def test_too_few_groups_are_told_as_groups():
    table = planted(rows=300)[0]
    wrong = int(table.errors.sum())
    few = replace(table, groups=np.arange(300) % 4)
    with pytest.raises(DubioError) as caught:
        fold_of(few)
    message = str(caught.value)
    assert message.startswith(f"300 rows, {wrong} of them wrong, are 4 groups of rows that belong together: 4 with an ")
    assert "0 without are too few for 5 folds" in message
    assert "--groups COLUMN or none" in message
    kept = table.take(np.flatnonzero(~table.errors))
    with pytest.raises(DubioError, match=r"^0 wrong and [0-9]+ right rows are too few for 5 folds; give"):
        fold_of(replace(kept, groups=np.arange(len(kept))))


@pytest.mark.parametrize("by", [None, "author", "repeats", "none"])
def test_what_is_held_out_keeps_groups_whole(by):
    g = np.random.default_rng(0)
    authors = g.integers(0, 40, 400)
    own = ["".join(g.choice(list("abcdefghij"), 8)) for _ in range(400)]
    texts = [" ".join(g.choice(own, 5)) for _ in range(200)]
    table = as_table(
        {"text": [*texts, *(t + "!" if by == "repeats" else t for t in texts)], "author": authors.astype(str)}
    )
    held, rest = held_out(table, 0, groups_by=by)
    assert len(held) + len(rest) == 400
    assert 10 <= len(held) <= 80
    shared = {
        name: set(held.extra(name).to_pylist()) & set(rest.extra(name).to_pylist()) for name in ("text", "author")
    }
    bare = [{t.rstrip("!") for t in part.texts} for part in (held, rest)]
    assert (shared["author"] == set()) == (by == "author")
    assert (bare[0] & bare[1] == set()) == (by in (None, "repeats"))


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
