import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from dubio.errors import DubioError
from dubio.metrics import delong_test


def slow_delong(a, b, positive):
    """Placements by double loop and the full covariance matrix of DeLong et al. 1988."""
    placements = []
    for scores in (a, b):
        wins = np.array([[(x > y) + 0.5 * (x == y) for y in scores[~positive]] for x in scores[positive]])
        placements.append((wins.mean(axis=1), wins.mean(axis=0)))
    s10 = np.cov(np.stack([p[0] for p in placements]))
    s01 = np.cov(np.stack([p[1] for p in placements]))
    covariance = s10 / positive.sum() + s01 / (~positive).sum()
    contrast = np.array([1.0, -1.0])
    difference = placements[0][0].mean() - placements[1][0].mean()
    error = np.sqrt(contrast @ covariance @ contrast)
    return difference, error, 2 * (1 - norm.cdf(abs(difference) / error))


@pytest.mark.parametrize("digits", [0, 1, 9])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_direct_covariance(seed, digits):
    generator = np.random.default_rng(seed)
    positive = generator.random(80) < 0.3
    a = np.round(generator.normal(size=80) + positive, digits)
    b = np.round(0.5 * a + generator.normal(size=80), digits)
    found = delong_test(a, b, positive)
    np.testing.assert_allclose((found.difference, found.standard_error, found.p_value), slow_delong(a, b, positive))
    assert found.difference == pytest.approx(roc_auc_score(positive, a) - roc_auc_score(positive, b))
    assert delong_test(b, a, positive).p_value == pytest.approx(found.p_value)


def test_size_under_the_null():
    """Two equally good scores: about 5 % of the tests reject at 5 %."""
    generator = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        positive = generator.random(200) < 0.3
        shared = generator.normal(size=200) + positive
        rejected += delong_test(shared + generator.normal(size=200), shared + generator.normal(size=200),
                                positive).p_value < 0.05  # fmt: skip
    assert 0.02 <= rejected / 400 <= 0.085


def test_same_order_and_perfect_separation():
    positive = np.array([False, False, True, True])
    same = delong_test([1.0, 2, 3, 4], [10.0, 20, 30, 40], positive)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    opposite = delong_test([1.0, 2, 3, 4], [4.0, 3, 2, 1], positive)
    assert (opposite.difference, opposite.p_value) == (1.0, 0.0)


def test_too_few_rows():
    with pytest.raises(DubioError, match="two rows of each kind"):
        delong_test([1.0, 2, 3], [1.0, 2, 3], [1, 0, 0])
