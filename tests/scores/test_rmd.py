"""RMD against the precisions of scikit-learn's empirical covariances."""

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance

from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.density.rmd import RMD


def planted(n, d, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return Representations.of(rng.normal(size=(n, d)) + 3 * np.eye(d)[y], rng.normal(size=(n, 3)), y)


def test_equals_two_empirical_covariances():
    train, test = planted(300, 8, 0), planted(60, 8, 1)
    z, t = train.features.astype(np.float64), test.features.astype(np.float64)
    means = np.array([z[train.labels == c].mean(axis=0) for c in range(3)])
    tied = EmpiricalCovariance(assume_centered=True).fit(z - means[train.labels])
    nearest = np.min([tied.mahalanobis(t - m) for m in means], axis=0)
    expected = nearest - EmpiricalCovariance().fit(z).mahalanobis(t)
    np.testing.assert_allclose(RMD.with_options({"ridge": 1e-12}).fit(train).score(test), expected, rtol=1e-7)


def test_equals_the_ridged_inverses_with_fewer_rows_than_features():
    train, test = planted(9, 20, 2), planted(30, 20, 3)
    z, t = train.features.astype(np.float64), test.features.astype(np.float64)
    means = np.array([z[train.labels == c].mean(axis=0) for c in range(3)])

    def precision(x):
        cov = x.T @ x / len(x)
        return np.linalg.inv(cov + 1e-3 * np.trace(cov) / 20 * np.eye(20))

    within, total, middle = precision(z - means[train.labels]), precision(z - z.mean(axis=0)), z.mean(axis=0)
    slow = [min((r - m) @ within @ (r - m) for m in means) - (r - middle) @ total @ (r - middle) for r in t]
    np.testing.assert_allclose(RMD().fit(train).score(test), slow, rtol=1e-8)


def test_one_class_is_refused():
    rows = planted(30, 4, 0)
    with pytest.raises(DubioError, match="two classes"):
        RMD().fit(rows.take(rows.labels == 1))


def test_ignores_what_is_unusual_for_every_class():
    """A shift along a direction that has nothing to do with the classes moves MD and hardly RMD."""
    train, test = planted(3000, 8, 0), planted(60, 8, 1)
    shifted = Representations(test.features + 6 * np.eye(8, dtype=np.float32)[7], test.logits)
    method = RMD().fit(train)
    change = np.abs(method.score(shifted) - method.score(test))
    assert change.max() < 3.0  # MD moves by 36 and more
