"""Rows to splits of given sizes: groups stay whole, and every split has the labels in the same shares.

Groups of several rows are placed one after another, the largest first, each where it fits best: at least cost

    Σ_c ((g_sc + k_c − t_sc)² − (g_sc − t_sc)²) / (t_sc + 1)   and the same of the split's size,

with g_sc the rows of label c that split s has, t_sc = size_s · n_c / N those that it should have, k_c those of the
group. Rows that are groups of their own (in most tables nearly all) then fill what is missing at least Σ_sc |g_sc −
t_sc|, with the sizes met exactly where that can be: a transport problem, whose linear program has whole numbers as its
corners. So where every row is a group of its own, each size is met, and each label's share to less than one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array

from dubio.arrays import Float64, Int64

# What it costs that a number is a whole row or more off, that a split has a row too many or too few, and that a label
# is not in the first split, where a row costs 1 at most otherwise.
_OFF, _SIZE, _MUST = 1e2, 1e4, 1e5


@dataclass
class _State:
    """sizes, target `[S, C]`: what is to be met. got: `[S, C]` rows placed. first: the split that every label must be
    in, or None. of_group: `[G]` split of each group.
    """

    sizes: Int64
    target: Float64
    got: Int64
    first: int | None
    of_group: Int64


def stratified_split(
    labels: Int64, groups: Int64, sizes: Sequence[int], seed: int = 0, *, first: int | None = None
) -> Int64:  # fmt: skip
    """`[N]` number of each row's split, −1 where it is left over (the sizes may ask for fewer rows than there are).

    labels, groups: `[N]` codes from 0. sizes: rows of each split; where groups are large, the nearest that can be is
    made. first: the split that gets a row of every label, however rare (the one that is trained on). The same seed
    gives the same splits.
    """
    generator, rows = np.random.default_rng(seed), len(labels)
    asked = np.array([*sizes, rows - sum(sizes)], dtype=np.int64)
    assert (asked >= 0).all(), "more rows are asked for than there are"
    active = np.flatnonzero(asked)
    if rows == 0 or len(active) == 0:
        return np.full(rows, -1, dtype=np.int64)
    share = np.bincount(labels) / rows
    own = None if first is None or first not in active else int(np.searchsorted(active, first))
    counts = np.bincount(groups)
    state = _State(
        asked[active], asked[active][:, None] * share, np.zeros((len(active), len(share)), np.int64), own,
        np.full(len(counts), -1, np.int64),
    )  # fmt: skip
    alone = counts[groups] == 1
    _place_large(state, labels, groups, counts, generator)
    split = state.of_group[groups]
    split[alone] = _place_single(state, labels[alone], generator)
    return np.where(active == len(sizes), -1, active)[split]


def _place_large(
    state: _State, labels: Int64, groups: Int64, counts: Int64, generator: np.random.Generator
) -> None:  # fmt: skip
    """Places the groups of several rows, the largest first."""
    order = np.argsort(groups, kind="stable")
    starts = np.cumsum(counts) - counts
    large = generator.permutation(np.flatnonzero(counts > 1))
    large = large[np.argsort(-counts[large], kind="stable")]
    left = np.bincount(labels[counts[groups] == 1], minlength=state.got.shape[1])  # places that each label still has
    held = [np.unique(labels[order[starts[g] : starts[g] + counts[g]]], return_counts=True) for g in large]
    for own, _ in held:
        left[own] += 1
    for group, (own, rows) in zip(large, held, strict=True):
        left[own] -= 1
        if state.first is not None and ((state.got[state.first, own] == 0) & (left[own] == 0)).any():
            chosen = state.first
        else:
            chosen = _best(state, own, rows, generator)
        state.of_group[group] = chosen
        state.got[chosen, own] += rows


def _best(state: _State, own: Int64, rows: Int64, generator: np.random.Generator) -> int:
    """The split where a group costs least, among those with room for it if there are such."""
    target, got, size = state.target[:, own], state.got[:, own], state.got.sum(axis=1)
    total = rows.sum()
    cost = (rows * (2 * (got - target) + rows) / (target + 1)).sum(axis=1)
    cost += total * (2 * (size - state.sizes) + total) / (state.sizes + 1)
    cost += generator.uniform(0, 1e-6, len(cost))  # ties by the seed
    room = size + total <= state.sizes
    return int(np.argmin(np.where(room | ~room.any(), cost, np.inf)))


def _place_single(state: _State, labels: Int64, generator: np.random.Generator) -> Int64:
    """`[M]` splits of the rows that are groups of their own."""
    found, code = np.unique(labels, return_inverse=True)
    split = np.empty(len(labels), dtype=np.int64)
    if len(labels) == 0:
        return split
    count = np.bincount(code)
    must = np.zeros(len(found), dtype=np.bool_) if state.first is None else state.got[state.first, found] == 0
    lonely = must & (count == 1)  # of these there is no choice, and a table of identifiers has many
    split[lonely[code]] = -1 if state.first is None else state.first
    room = state.sizes - state.got.sum(axis=1)
    if state.first is not None:
        room[state.first] -= lonely.sum()
    free = ~lonely
    if free.any():
        need = state.target[:, found[free]] - state.got[:, found[free]]
        many = _transport(need, count[free], np.maximum(room, 0), (state.first, must[free]), generator)
        for column, label in enumerate(np.flatnonzero(free)):
            rows = generator.permutation(np.flatnonzero(code == label))
            split[rows] = np.repeat(np.arange(len(many)), many[:, column])
    return split


def _transport(
    need: Float64, count: Int64, room: Int64, must: tuple[int | None, NDArray[np.bool_]],
    generator: np.random.Generator,
) -> Int64:  # fmt: skip
    """`[S, C]` whole numbers with column sums `count`, row sums `room` where that can be, nearest to `need`.

    Each number is three parts, of which the cheaper fill first: up to ⌊need⌋ at −100 a row, the next row at 1 − 2·(need
    − ⌊need⌋), all others at +100: |x − need| within a row of it, and much more beyond. must: the split and labels whose
    first row comes before all.
    """
    splits, classes = need.shape
    whole = np.maximum(np.floor(need), 0.0)
    noise = generator.uniform(0, 1e-3, need.shape)
    cost = np.stack([noise - _OFF, noise + 1 - 2 * (need - whole), noise + _OFF])
    most = np.stack([whole, (need > 0).astype(float), np.full(need.shape, float(count.sum()))])
    first = np.zeros(need.shape)
    if must[0] is not None:
        first[must[0]] = must[1]
        most[0] -= first * (whole >= 1)
        most[1] -= first * (whole < 1) * most[1]
    cost, most = np.concatenate([cost, (noise - _MUST)[None]]), np.concatenate([most, first[None]])
    parts, cells = len(cost), splits * classes
    variable = np.arange(parts * cells)
    cell = variable % cells
    over = parts * cells + np.arange(2 * splits)  # rows too many, rows too few
    rows = np.concatenate([cell % classes, classes + cell // classes, classes + np.arange(2 * splits) % splits])
    sign = np.repeat([1.0, -1.0, 1.0], [2 * len(variable), splits, splits])
    matrix = coo_array((sign, (rows, np.concatenate([variable, variable, over]))), (classes + splits, over[-1] + 1))
    found = linprog(
        np.concatenate([cost.ravel(), np.full(2 * splits, _SIZE)]),
        A_eq=matrix.tocsr(), b_eq=np.concatenate([count, room]), method="highs-ds",
        bounds=np.stack([np.zeros(over[-1] + 1), np.concatenate([most.ravel(), np.full(2 * splits, np.inf)])], axis=1),
    )  # fmt: skip
    made = np.rint(found.x[: parts * cells].reshape(parts, splits, classes).sum(axis=0)).astype(np.int64)
    assert (made.sum(axis=0) == count).all(), "a corner of the transport problem is not whole"
    return made
