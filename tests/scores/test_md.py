"""MD against np.linalg.inv and scikit-learn, and on rows that leave the span of the training features."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.density.md import MD


def planted(n, d, seed, classes=3):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    z = rng.normal(size=(n, d)) + 4 * np.eye(max(classes, d))[y, :d]
    return Representations.of(z, rng.normal(size=(n, classes)), y)


@pytest.mark.parametrize(("n", "d"), [(200, 6), (12, 30)])
@pytest.mark.parametrize("normalize", [False, True])
def test_equals_the_inverse_in_a_slow_loop(n, d, normalize):
    train, test = planted(n, d, 0), planted(50, d, 1)
    method = MD.with_options({"ridge": 1e-2, "normalize": normalize}).fit(train)
    z, t = train.features.astype(np.float64), test.features.astype(np.float64)
    if normalize:
        z, t = z / np.linalg.norm(z, axis=1)[:, None], t / np.linalg.norm(t, axis=1)[:, None]
    means = [z[train.labels == c].mean(axis=0) for c in range(3)]
    centred = np.array([z[i] - means[train.labels[i]] for i in range(n)])
    cov = centred.T @ centred / n
    precision = np.linalg.inv(cov + 1e-2 * np.trace(cov) / d * np.eye(d))
    slow = [min((row - m) @ precision @ (row - m) for m in means) for row in t]
    np.testing.assert_allclose(method.score(test), slow, rtol=1e-9)


def test_equals_the_pooled_covariance_of_discriminant_analysis():
    train, test = planted(600, 5, 2), planted(40, 5, 3)
    lda = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(train.features, train.labels)
    shift = test.features[:, None] - lda.means_[None]
    expected = np.einsum("ncd,de,nce->nc", shift, np.linalg.inv(lda.covariance_), shift).min(axis=1)
    np.testing.assert_allclose(MD.with_options({"ridge": 1e-10}).fit(train).score(test), expected, rtol=1e-4)


@pytest.mark.parametrize("unit", [1.0, 1e-4])
def test_finds_rows_outside_the_span_of_few_training_rows(unit):
    """N = 100 < d = 256, features in a 40-dimensional subspace: absolute ridges and pseudo-inverses fail here."""
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.normal(size=(256, 256)))[0]
    means = 3 * rng.normal(size=(2, 40))

    def draw(n, outside):
        y = np.arange(n) % 2
        z = (means[y] + rng.normal(size=(n, 40))) @ basis[:40] + 0.01 * rng.normal(size=(n, 256))
        z += outside * rng.normal(size=(n, 216)) @ basis[40:]
        return Representations.of(unit * z, rng.normal(size=(n, 2)), y)

    method = MD().fit(draw(100, 0))
    u = np.concatenate([method.score(draw(300, 0)), method.score(draw(300, 0.3))])
    assert u.min() >= 0
    assert roc_auc_score(np.repeat([0, 1], 300), u) > 0.999


def test_half_way_between_two_classes_is_far():
    rng = np.random.default_rng(5)
    y = np.arange(200) % 2
    z = rng.normal(size=(200, 2)) + np.where(y, 10, -10)[:, None]
    train = Representations.of(z, rng.normal(size=(200, 2)), y)
    middle = Representations.of(rng.normal(size=(50, 2)), rng.normal(size=(50, 2)))
    method = MD().fit(train)
    assert method.score(middle).min() > method.score(train).max()


def test_needs_the_train_split():
    with pytest.raises(DubioError, match="MD needs the train split"):
        MD().fit(None, planted(10, 2, 0))
