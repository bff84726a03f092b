"""K-fold adapters: who sees what, and that a training row is given by the one member that has not seen it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import CLASSES, PLAN, parameters, rows

from dubio.adapters.plan import LabelledTexts
from dubio.errors import DubioError
from dubio.models.extraction import Extraction
from dubio.posteriors.base_model import hashes_of
from dubio.posteriors.methods.kfold import KFold
from dubio.posteriors.sampling import Sampler, sample, sample_held_out
from dubio.posteriors.store import Stored
from dubio.posteriors.training.folds import fold_numbers, rows_of_members
from dubio.posteriors.training.parametrisation import facts_of
from dubio.posteriors.training.trainer import _Run, train_stack

FOLDED = replace(PLAN, folds=True)
QUIET = Extraction(show=False)


def test_a_fold_is_of_the_text_alone():
    texts = rows(300).texts
    fold = fold_numbers(texts, None, 5)
    np.testing.assert_array_equal(fold_numbers(texts[::-1], None, 5), fold[::-1])
    np.testing.assert_array_equal(fold_numbers([f"  {t}\n" for t in texts], None, 5), fold)
    assert np.bincount(fold, minlength=5).min() > 30  # all near 60
    assert not np.array_equal(fold_numbers(texts, texts, 5), fold)


def test_no_member_is_trained_on_a_row_of_its_fold_and_each_sees_the_others():
    run = _Run(parameters(), rows(), FOLDED)
    fold = fold_numbers(rows().texts, None, 3)
    for epoch in range(4):
        steps = run.order(epoch)
        for m in range(3):
            seen = np.concatenate([step[m] for step in steps])
            assert not (fold[seen] == m).any()
            assert len(set(seen)) == len(seen) == run.rows
    everything = [set(np.concatenate([s[m] for e in range(30) for s in run.order(e)])) for m in range(3)]
    assert [len(seen) for seen in everything] == [int((fold != m).sum()) for m in range(3)]


def test_a_row_of_its_fold_cannot_change_a_member():
    table = rows(60)
    fold = fold_numbers(table.texts, None, 3)
    labels = np.where(fold == 1, (table.labels + 1) % CLASSES, table.labels)  # other labels in fold 1 alone
    plan = replace(FOLDED, epochs=2)
    first = train_stack(parameters(), table, rows(30, 1), plan).values
    other = train_stack(parameters(), LabelledTexts(table.texts, None, labels, "other"), rows(30, 1), plan).values
    same = [all(torch.equal(value[m], other[name][m]) for name, value in first.items()) for m in range(3)]
    assert same == [False, True, False]


@pytest.mark.parametrize("pairs", [False, True])
def test_a_training_row_is_given_by_the_member_that_has_not_seen_it(pairs):
    made = parameters()
    posterior = KFold.of({n: torch.randn_like(v) * 0.3 for n, v in made.start((0, 1, 2)).items()})
    sampler = Sampler(made.host, Stored("kfold", posterior, facts_of(made), hashes_of(made.host), 3))
    texts = rows(40).texts
    second = rows(40, 7).texts if pairs else None
    every = sample(sampler, texts, second, QUIET)
    features, held = sample_held_out(sampler, texts, second, QUIET)
    fold = fold_numbers(texts, second, 3)
    assert (held.shape, len(features), len(set(fold))) == ((1, 40, every.shape[2]), 40, 3)
    np.testing.assert_allclose(held[0], every[fold, np.arange(40)], atol=1e-5)
    assert np.abs(every[0] - every[1]).max() > 0.01
    with pytest.raises(DubioError, match="draw 3, not fewer"):  # other folds than those of the training
        sample_held_out(replace(sampler, samples=2), texts, second, QUIET)


def test_too_few_rows_are_refused():
    with pytest.raises(DubioError, match="2 rows are too few for 3 folds"):
        rows_of_members(np.array([0, 1]), 3)
    with pytest.raises(DubioError, match="too few for 2 folds"):
        rows_of_members(np.array([1, 1, 1]), 2)
