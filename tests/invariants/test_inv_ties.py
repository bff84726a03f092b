"""Invariant 3: every metric is the average over the orders of tied scores, and the tie share is reported.

Two are not averages, by definition: average precision takes tied rows in one step (scikit-learn's convention), and a
coverage at risk answers them together, as a threshold must. What holds for them is that the order does not matter.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invariant_cases import fitted, tables
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

import dubio.metrics as dm
from dubio.containers import Scores
from dubio.decisions import risk_threshold
from dubio.metrics.evaluation import DETECTION
from dubio.metrics.ties import TieGroups
from dubio.scores.learned.guard import guard
from dubio.scores.learned.model_selection import error_auc
from dubio.scores.registry import METHODS
from metrics.tied_orders import averaged, orders

TOGETHER = {"error_pr_auc", "coverage_at_risk_5", "coverage_at_risk_10"}


def value(name, scores, errors):
    return float(DETECTION[name](TieGroups.of(scores, errors).cumulate())[0])


@st.composite
def small_tables(draw):
    n = draw(st.integers(2, 7))
    scores = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), dtype=float)
    errors = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    errors[:2] = [True, False]
    return scores, errors


@pytest.mark.parametrize("name", [name for name in DETECTION if name not in TOGETHER])
@given(small_tables())
@settings(max_examples=25, deadline=None)
def test_every_metric_is_the_mean_over_orders_of_ties(name, table):
    scores, errors = table
    strict = averaged(lambda ordered: value(name, np.arange(float(len(ordered))), ordered), scores, errors)
    assert value(name, scores, errors) == pytest.approx(strict, abs=1e-12)


@given(small_tables())
@settings(max_examples=40, deadline=None)
def test_what_takes_ties_together_does_not_look_at_their_order(table):
    scores, errors = table
    assert value("error_pr_auc", scores, errors) == pytest.approx(average_precision_score(errors, scores))
    p = scores / 4
    for order in list(orders(scores))[::5]:
        s, e = scores[order], errors[order]
        for name in TOGETHER:
            assert value(name, s, e) == value(name, scores, errors)
        for scheme in ("equal_width", "equal_mass"):
            assert dm.ece(p[order], e, 3, scheme) == pytest.approx(dm.ece(p, errors, 3, scheme), abs=1e-12)
        assert risk_threshold(s, e, 0.4, 0.3) == risk_threshold(scores, errors, 0.4, 0.3)
        assert error_auc(s[None], e) == pytest.approx(error_auc(scores[None], errors))


def test_scores_that_are_all_alike_tell_nothing():
    errors = tables()[2].errors
    flat = np.ones(len(errors))
    assert dm.roc_auc(flat, errors) == 0.5
    assert dm.prr(flat, errors) == pytest.approx(0.0, abs=1e-12)
    assert dm.aurc(flat, errors) == pytest.approx(errors.mean())
    assert dm.risk_at_coverage(flat, errors, 0.3) == pytest.approx(errors.mean())
    assert dm.delong_test(flat, flat, errors).p_value == 1.0
    assert guard(flat, flat, errors, np.arange(len(flat)) % 3).gain == 0.0


@pytest.mark.parametrize("name", list(METHODS))
def test_rounded_scores_of_every_method_and_their_tie_share(name):
    """Each method's own scores, rounded to a dozen levels: no figure depends on the order of rows."""
    test = tables()[2]
    u = fitted(name).score(test)
    coarse = np.round((u - u.min()) / np.ptp(u) * 12)
    scores = [Scores.of("softmax_response", np.zeros(len(u))), Scores.of("coarse", coarse, coarse / 12)]
    order = np.random.default_rng(1).permutation(len(u))
    shuffled = [replace(s, uncertainty=s.uncertainty[order]) for s in scores]
    shuffled[1] = replace(shuffled[1], error_probability=scores[1].error_probability[order])
    one = dm.Bootstrap(draws=1)
    found, other = (
        {(m.method, m.metric): m.value for m in dm.evaluate_scores("test", s, rows.logits, rows.labels, bootstrap=one)}
        for s, rows in ((scores, test), (shuffled, test.take(order)))
    )
    assert found.keys() == other.keys()
    for key, expected in found.items():
        # A bootstrap of one draw depends on the rows' places; every measured value must not.
        assert key[1].endswith("_gain_p") or other[key] == pytest.approx(expected, abs=1e-9), key
    assert set(DETECTION) <= {metric for method, metric in found if method == "coarse"}
    alone = sum(1 for level in np.unique(coarse) if (coarse == level).sum() == 1)
    assert found["coarse", "tie_share"] == pytest.approx(1 - alone / len(u))
    assert found["softmax_response", "tie_share"] == 1.0
    assert dm.spearman(coarse, test.errors) == pytest.approx(spearmanr(coarse, test.errors).statistic)


@pytest.mark.parametrize("name", list(METHODS))
def test_scores_of_distinct_rows_are_distinct(name):
    """In float32 no method loses digits on ordinary rows; `1 - max p` would on rows that the head is sure of."""
    sure = replace(tables()[2], logits=tables()[2].logits * np.float32(8))
    for rows in (tables()[2], sure):
        assert dm.tie_share(fitted(name).score(rows)) < 0.02
