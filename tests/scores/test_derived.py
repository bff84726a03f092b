"""Scores built on another: lent or computed, the same to the bit; lent only by the very score; told what it costs."""

from unittest.mock import patch

import numpy as np
import pytest

from dubio.containers import Representations
from dubio.decisions.recalibration import Recalibrator
from dubio.fitted import Choice, Fitted, FittedScore
from dubio.scores.base import CHUNK
from dubio.scores.density.ddu import DDU
from dubio.scores.density.gaussian import whiten
from dubio.scores.density.huq import HUQ
from dubio.scores.density.md import MD
from dubio.scores.density.rmd import RMD
from dubio.scores.derived import DerivedScore
from dubio.scores.logits.softmax_response import SoftmaxResponse
from dubio.scores.registry import get_method
from dubio.workflow.evaluation import score_all
from synthetic import planted

TRAIN, CALIBRATION, TEST = (planted(400, flip=1.5, seed=seed)[0] for seed in (1, 2, 3))
LONG = planted(CHUNK + 3000, seed=4)[0]
NAMES = ("softmax_response", "md", "md_norm", "rmd", "rmd_norm", "ddu", "huq_md", "huq_ddu")


def fit_all(names=NAMES, train=TRAIN):
    methods = {}
    for name in names:
        score = get_method(name).build().fit(train, CALIBRATION)
        recalibrator = Recalibrator().fit(score.score(CALIBRATION), CALIBRATION.errors)
        methods[name] = FittedScore(name, score, recalibrator, np.zeros(0), 0.0)
    return Fitted(methods, Choice(method="softmax_response", why=""), np.zeros(0, dtype=bool))


def restored(score):
    return type(score)(score.config).restore(score.state())


@pytest.mark.parametrize("method", [RMD(), HUQ(), HUQ.with_options({"epistemic": "rmd", "normalize": True})])
def test_lent_or_computed_makes_no_bit_of_difference(method):
    method.fit(TRAIN, CALIBRATION)
    lent = restored(method.inner).score(LONG)
    np.testing.assert_array_equal(method.score_with(LONG, lent), method.score(LONG))


def test_the_inner_score_is_the_one_fitted_alone():
    assert RMD().fit(TRAIN).inner.same_as(restored(MD().fit(TRAIN)))
    assert HUQ.with_options({"epistemic": "ddu"}).fit(TRAIN, CALIBRATION).inner.same_as(DDU().fit(TRAIN))


def test_other_rows_options_or_classes_are_another_score():
    md = MD().fit(TRAIN)
    assert not md.same_as(MD().fit(CALIBRATION))
    assert not md.same_as(MD.with_options({"ridge": 1e-2}).fit(TRAIN))
    assert not md.same_as(RMD().fit(TRAIN))
    nearly = MD().fit(TRAIN)
    nearly.means_ = nearly.means_ + np.finfo(float).eps * np.abs(nearly.means_)
    assert not md.same_as(nearly)
    other = SoftmaxResponse().fit(None)
    other.facts_ = {"something": "else"}
    assert not SoftmaxResponse().fit(None).same_as(other)


def test_scoring_all_computes_each_shared_score_once_and_charges_everyone():
    fitted, computed = fit_all(), []
    original = MD._score

    def counted(self, rows):
        computed.append(self.config.normalize)
        return original(self, rows)

    with patch.object(MD, "_score", counted):
        scores, milliseconds = score_all(fitted, TEST)
    assert sorted(computed) == [False, True]
    for name, method in fitted.methods.items():
        np.testing.assert_array_equal(scores[name].uncertainty, method.score.score(TEST))
    for borrower, lender in (("rmd", "md"), ("rmd_norm", "md_norm"), ("huq_md", "md"), ("huq_ddu", "ddu")):
        assert milliseconds[borrower] > milliseconds[lender]


def test_nothing_is_borrowed_from_a_score_of_other_rows_or_not_there():
    own, foreign = fit_all(), fit_all(("md",), CALIBRATION)
    mixed = Fitted({**foreign.methods, "huq_md": own.methods["huq_md"]}, own.choice, own.errors)
    alone = Fitted({"huq_md": own.methods["huq_md"]}, own.choice, own.errors)
    expected = own.methods["huq_md"].score.score(TEST)
    with patch.object(DerivedScore, "score_with", side_effect=AssertionError):
        for fitted in (mixed, alone):
            np.testing.assert_array_equal(score_all(fitted, TEST)[0]["huq_md"].uncertainty, expected)


@pytest.mark.parametrize("rows", [1, 7])
def test_whitening_is_the_product_with_the_triangle(rows):
    g = np.random.default_rng(0)
    matrix, block = np.triu(g.normal(size=(5, 5))), g.normal(size=(rows, 5))
    np.testing.assert_allclose(whiten(block.copy(), matrix), block @ matrix, rtol=1e-12)


def test_no_rows_have_no_scores():
    none = Representations.of(TEST.features[:0], TEST.logits[:0])
    assert RMD().fit(TRAIN).score_with(none, np.zeros(0)).shape == (0,)
