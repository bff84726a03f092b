"""HUQ: the pure orders (t_min = 0, t_max = 1, alpha = 0 or 1), a slow loop over the grid, ranks, the state."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.log_space import entropy, log_error
from dubio.scores.base import Score
from dubio.scores.density.huq import ALPHA, EPISTEMIC, HUQ, T_MAX, T_MIN, rank_among, risk_coverage_area
from dubio.scores.density.md import MD


def planted(n, seed, classes=3):
    """Two kinds of error: rows far from the training data, and rows between two classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    margin, far = rng.normal(1.5, 1.0, n), rng.random(n) < 0.15
    logits = rng.normal(size=(n, classes)) * 0.3
    logits[np.arange(n), y] += np.where(far, rng.normal(0, 2, n), margin)
    z = rng.normal(size=(n, 6)) + 3 * np.eye(6)[y] + far[:, None] * rng.normal(size=(n, 6)) * 3
    return Representations.of(z, logits, y)


TRAIN, CALIBRATION, TEST = planted(300, 0), planted(200, 1), planted(150, 2)


@pytest.mark.parametrize("epistemic", [name for name in EPISTEMIC if name != "rde"])
def test_pure_orders(epistemic):
    pure = {"epistemic": epistemic, "t_min": 0.0, "t_max": 1.0}
    far = Representations.of(TEST.features * 50, TEST.logits * 20)  # many rows beyond the calibration scores
    for rows in (TEST, far):
        density = EPISTEMIC[epistemic]().fit(TRAIN).score(rows)
        u = HUQ.with_options({**pure, "alpha": 0.0}).fit(TRAIN, CALIBRATION).score(rows)
        np.testing.assert_array_equal(rankdata(u), rankdata(density))
        u = HUQ.with_options({**pure, "alpha": 1.0}).fit(TRAIN, CALIBRATION).score(rows)
        np.testing.assert_array_equal(rankdata(u), rankdata(log_error(rows.logits)))


@pytest.mark.parametrize("aleatoric", ["softmax_response", "entropy"])
def test_choice_and_scores_equal_a_slow_loop_over_ranks(aleatoric):
    method = HUQ.with_options({"aleatoric": aleatoric}).fit(TRAIN, CALIBRATION)
    e = MD().fit(TRAIN).score(CALIBRATION)
    a = (log_error if aleatoric == "softmax_response" else entropy)(CALIBRATION.logits)
    n, errors = len(CALIBRATION), CALIBRATION.errors

    def joined(t_min, t_max, alpha):
        r_e, r_a = (rankdata(e) - 0.5) / n, (rankdata(a) - 0.5) / n
        group = [i for i in range(n) if r_e[i] <= t_min]
        out = (1 - alpha) * r_e + alpha * r_a
        for i in group:
            inside = (sum(a[j] < a[i] for j in group) + 0.5) / n
            out[i] = r_a[i] if r_a[i] > t_max else inside
        return out

    def area(u):
        order = np.argsort(u, kind="stable")
        return np.mean([errors[order[: k + 1]].mean() for k in range(n)])

    areas = {(t, m, w): area(joined(t, m, w)) for t in T_MIN for m in T_MAX for w in ALPHA}
    chosen = tuple(method.weights_)
    assert areas[chosen] == pytest.approx(min(areas.values()), abs=1e-12)
    np.testing.assert_allclose(method.score(CALIBRATION), joined(*chosen), atol=1e-12)


def test_never_worse_than_either_part_on_the_rows_it_chose_by():
    method = HUQ().fit(TRAIN, CALIBRATION)
    area = risk_coverage_area(method.score(CALIBRATION), CALIBRATION.errors)
    assert area < risk_coverage_area(log_error(CALIBRATION.logits), CALIBRATION.errors)  # planted: both parts matter
    assert area < risk_coverage_area(MD().fit(TRAIN).score(CALIBRATION), CALIBRATION.errors)


@given(arrays(np.int64, 5, elements=st.integers(0, 2)), arrays(np.bool_, 5))
def test_area_is_the_mean_over_orders_of_ties(u, errors):
    orders = [p for p in permutations(range(5)) if all(u[p[i]] <= u[p[i + 1]] for i in range(4))]
    slow = np.mean([[errors[list(p[: k + 1])].mean() for k in range(5)] for p in orders])
    assert risk_coverage_area(u.astype(np.float64), errors) == pytest.approx(slow)


finite = st.floats(-1e6, 1e6, width=32)


@given(arrays(np.float64, st.integers(1, 20), elements=finite), arrays(np.float64, 20, elements=finite))
@example(np.array([0.0] * 3 + [-1.0] + [1.0] * 7), np.array([0.0] + [-1.35481546e-20] * 19))  # rounded above its level
def test_ranks_are_mid_ranks_and_monotone(reference, values):
    np.testing.assert_allclose(
        rank_among(reference, reference), (rankdata(reference) - 0.5) / len(reference), rtol=1e-12
    )
    ranks = rank_among(reference, np.sort(values))
    assert (np.diff(ranks) >= 0).all()
    assert ranks.min() >= 0
    assert ranks.max() <= 1


def test_ranks_survive_extreme_scores():
    ranks = rank_among(np.array([0.0, 1e-300]), np.array([-1e308, 1e308, 0.5]))
    assert np.isfinite(ranks).all()
    assert ranks[0] < ranks[2] <= ranks[1]


@pytest.mark.parametrize("epistemic", list(EPISTEMIC))
def test_state_embeds_the_density_score(epistemic):
    options = {"epistemic": epistemic, "normalize": True}
    method = HUQ.with_options(options).fit(TRAIN, CALIBRATION)
    state = method.state()
    assert any(name.startswith("epistemic.") for name in state.arrays)
    again = HUQ.with_options(options).restore(state)
    np.testing.assert_array_equal(again.score(TEST), method.score(TEST))


def test_out_of_fold_equals_refitting_everything():
    method = HUQ()
    np.testing.assert_array_equal(method.out_of_fold(TRAIN, CALIBRATION), Score.out_of_fold(method, TRAIN, CALIBRATION))


def test_missing_splits_and_errors_are_named():
    with pytest.raises(DubioError, match="calibration split"):
        HUQ().fit(TRAIN)
    with pytest.raises(DubioError, match="train split"):
        HUQ().fit(None, CALIBRATION)
    with pytest.raises(DubioError, match="all right or all wrong"):
        HUQ().fit(TRAIN, CALIBRATION.take(~CALIBRATION.errors))
    with pytest.raises(DubioError, match="lacks"):
        HUQ().restore(MD().fit(TRAIN).state())
