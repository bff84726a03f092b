"""DDU against scipy.stats.multivariate_normal."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from dubio.containers import Representations
from dubio.scores.density.ddu import DDU


def planted(n, d, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    z = rng.normal(size=(n, d)) * (1 + y)[:, None] + 3 * np.eye(d)[y]
    return Representations.of(z, rng.normal(size=(n, 3)), y)


@pytest.mark.parametrize(("n", "d"), [(300, 6), (12, 25)])
def test_equals_multivariate_normal_densities(n, d):
    train, test = planted(n, d, 0), planted(40, d, 1)
    z, t = train.features.astype(np.float64), test.features.astype(np.float64)
    groups = [z[train.labels == c] for c in range(3)]
    covs = [np.cov(g.T, bias=True) for g in groups]
    ridge = 1e-3 * np.trace(sum(len(g) * c for g, c in zip(groups, covs, strict=True)) / n) / d
    log_density = [
        multivariate_normal(g.mean(axis=0), c + ridge * np.eye(d)).logpdf(t) for g, c in zip(groups, covs, strict=True)
    ]
    expected = -logsumexp(np.array(log_density) - np.log(3), axis=0)
    np.testing.assert_allclose(DDU().fit(train).score(test), expected, rtol=1e-8)


def test_a_scale_shifts_the_log_density_by_d_logs():
    train, test = planted(120, 5, 0), planted(40, 5, 1)
    grown = [Representations(np.float32(8) * r.features, r.logits, r.labels) for r in (train, test)]
    moved = DDU().fit(grown[0]).score(grown[1]) - DDU().fit(train).score(test)
    np.testing.assert_allclose(moved, 5 * np.log(8), rtol=1e-9)


def test_a_class_of_identical_rows_keeps_a_density():
    rows = planted(60, 5, 0)
    z = rows.features.copy()
    z[rows.labels == 2] = 7.0
    train = Representations(z, rows.logits, rows.labels)
    u = DDU().fit(train).score(train)
    assert np.isfinite(u).all()
    assert u[rows.labels == 2].max() < u[rows.labels != 2].min()
