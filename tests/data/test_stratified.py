"""Splits by label: sizes exact, shares to less than a row, groups whole; hostile tables; scikit-learn as a measure."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from dubio.data.preparing.stratified import stratified_split


def deviation(labels, split, sizes):
    """The most rows that a split has too many or too few of a label."""
    share = np.bincount(labels) / len(labels)
    found = [np.bincount(labels[split == at], minlength=len(share)) for at in range(len(sizes))]
    return max(np.abs(rows - size * share).max() for rows, size in zip(found, sizes, strict=True))


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    shares=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    seed=st.integers(0, 3),
    first=st.booleans(),
)
def test_single_rows_meet_every_size_and_every_share_to_less_than_a_row(labels, shares, seed, first):
    labels = np.unique(labels, return_inverse=True)[1]
    sizes = np.floor(np.array(shares) / max(sum(shares) + 1, 1) * len(labels)).astype(int).tolist()
    split = stratified_split(labels, np.arange(len(labels)), sizes, seed, first=0 if first else None)
    if not first or sizes[0] >= labels.max() + 1:
        assert [int((split == at).sum()) for at in range(len(sizes))] == sizes
    if not first:
        assert deviation(labels, split, sizes) < 1


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 25)), min_size=1, max_size=80), seed=st.integers(0, 3))
def test_groups_stay_whole_and_every_label_is_in_the_first_split(rows, seed):
    labels, groups = (np.unique(column, return_inverse=True)[1] for column in zip(*rows, strict=True))
    count = len(labels)
    sizes = [count - 2 * (count // 4), count // 4, count // 4]
    split = stratified_split(labels, groups, sizes, seed, first=0)
    assert all(len(set(split[groups == group])) == 1 for group in set(groups))
    assert set(labels[split == 0]) == set(labels)
    np.testing.assert_array_equal(split, stratified_split(labels, groups, sizes, seed, first=0))


def kinds(rows, seed=0):
    g = np.random.default_rng(seed)
    return {
        "pairs": np.unique(g.integers(0, int(0.8 * rows), rows), return_inverse=True)[1],
        "authors": np.unique(g.zipf(1.7, rows) % 300, return_inverse=True)[1],
    }


@pytest.mark.parametrize("kind", ["pairs", "authors"])
@pytest.mark.parametrize("classes", [3, 40])
def test_nearer_than_scikit_learn(kind, classes):
    """Its folds are greedy too, and all of one size: five of them make 60, 20 and 20 %."""
    rows = 3000
    g = np.random.default_rng(1)
    labels = np.unique(g.choice(classes, rows, p=g.dirichlet(np.ones(classes))), return_inverse=True)[1]
    groups, sizes = kinds(rows)[kind], [1800, 600, 600]
    ours = stratified_split(labels, groups, sizes, first=0)
    theirs = np.empty(rows, dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups)
        for fold, (_, held) in enumerate(folds):
            theirs[held] = (0, 0, 0, 1, 2)[fold]
    assert [int((ours == at).sum()) for at in range(3)] == sizes
    assert deviation(labels, ours, sizes) <= deviation(labels, theirs, sizes)
    if kind == "pairs":
        assert deviation(labels, ours, sizes) < 1.5


def test_seeds_differ_and_a_rest_is_left_over():
    labels = np.arange(200) % 4
    drawn = [stratified_split(labels, np.arange(200), [40, 40], seed) for seed in range(3)]
    assert all((split == -1).sum() == 120 for split in drawn)
    assert all(np.bincount(labels[split == at]).tolist() == [10] * 4 for split in drawn for at in (-1 + 1, 1))
    assert not np.array_equal(drawn[0], drawn[1])
    # Every row is drawn equally often.
    often = np.mean([stratified_split(labels, np.arange(200), [40, 40], seed) == 0 for seed in range(300)], axis=0)
    assert abs(often - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 300)


@pytest.mark.parametrize(
    ("labels", "groups", "sizes", "expected"),
    [
        ([0], [0], [1, 0, 0], [1, 0, 0]),  # one row
        ([0] * 10, range(10), [6, 2, 2], [6, 2, 2]),  # one class
        (range(10), range(10), [6, 2, 2], [10, 0, 0]),  # labels with one row each: nothing else would learn them
        ([0, 1] * 5, [0] * 10, [6, 2, 2], [10, 0, 0]),  # all rows one group
        ([0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], [6, 2, 2], [6, 2, 2]),
    ],
)
def test_hostile_tables(labels, groups, sizes, expected):
    labels, groups = np.array([*labels]), np.array([*groups])
    split = stratified_split(labels, groups, sizes, first=0)
    assert [int((split == at).sum()) for at in range(3)] == expected


def test_no_rows_and_no_sizes():
    none = np.zeros(0, dtype=np.int64)
    assert len(stratified_split(none, none, [0, 0])) == 0
    assert stratified_split(np.array([0, 1]), np.array([0, 1]), [0, 0]).tolist() == [-1, -1]
