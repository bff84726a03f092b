"""K-fold adapters: an ensemble in which each training row has one member that has not seen it.

    p(y | x)   = (1/K) sum_m softmax f_m(x)           a new row, by all members
    p(y | x_i) = softmax f_{fold(i)}(x_i)             a training row, by the member trained without fold(i)

A row's fold follows from its text alone, so that repeated texts share one and nothing need be stored. So every training
row has an honest error, at the cost of a single pass over the rows. They are errors of one member, and not of the mean.

Source: Parmanto et al. 1996 (cross-validation committees); out-of-fold errors as in CV+ (arXiv 1905.02928). Cost: K
trainings at once, each on a share 1 - 1/K of the rows, K adapters to keep, K passes a row.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from dubio.arrays import Float32, Int64
from dubio.data.texts import hash_rows
from dubio.errors import DubioError
from dubio.models.extraction import Extraction
from dubio.posteriors.ensemble import Ensemble
from dubio.posteriors.sampling import Sampler, sample_rows


class KFold(Ensemble):
    """tensors: the members' parameters, `member|NAME` `[K, ...]`; member m has not seen fold m."""

    kind: ClassVar[str] = "kfold"


def fold_numbers(texts: Sequence[str], pairs: Sequence[str] | None, folds: int) -> Int64:
    """`[N]` fold of each row, 0 to folds - 1, by the hash of its text (and pair): equal rows are in one fold."""
    head = np.ascontiguousarray(hash_rows(texts, pairs)[:, :8]).view(np.uint64).ravel()
    return (head % np.uint64(folds)).astype(np.int64)


def rows_of_members(fold: Int64, folds: int) -> list[Int64]:
    """Row numbers that each member is trained on; raises DubioError where a fold is empty or is all there is."""
    found = [np.flatnonzero(fold != m) for m in range(folds)]
    if any(len(rows) in (0, len(fold)) for rows in found):
        raise DubioError(f"{len(fold)} rows are too few for {folds} folds; give more rows or fewer members")
    return found


def sample_held_out(
    sampler: Sampler, texts: Sequence[str], pairs: Sequence[str] | None = None, how: Extraction | None = None
) -> tuple[Float32, Float32]:
    """(features `[N, d]`, log-probabilities `[1, N, C]`) of training rows, each by the member that has not seen it."""
    sampler = replace(sampler, trunks=None)  # each row is seen by one member only: there is nothing to read once
    engine, found = sampler.engine(), dict[int, tuple[Float32, Float32]]()
    if len(engine.stack) != sampler.stored.samples:  # rows are dealt among those that were trained
        raise DubioError(f"K-fold adapters judge their rows all together: draw {sampler.stored.samples}, not fewer")
    fold = fold_numbers(texts, pairs, len(engine.stack))
    for m in range(len(engine.stack)):
        at = np.flatnonzero(fold == m)
        if len(at):
            alone = replace(engine, stack=engine.stack.take(slice(m, m + 1)))
            own = None if pairs is None else [pairs[int(i)] for i in at]
            found[m] = sample_rows(sampler, alone, [texts[int(i)] for i in at], own, how)
    order = np.argsort(np.concatenate([np.flatnonzero(fold == m) for m in found]), kind="stable")
    features = np.concatenate([z for z, _ in found.values()])[order]
    return features, np.concatenate([table for _, table in found.values()], axis=1)[:, order]
