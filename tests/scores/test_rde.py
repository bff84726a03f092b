"""RDE against scikit-learn's KernelPCA.transform and MinCovDet.mahalanobis."""

import warnings

import numpy as np
import pytest
from sklearn.covariance import MinCovDet
from sklearn.decomposition import KernelPCA
from sklearn.metrics import roc_auc_score

from dubio.containers import Representations
from dubio.scores.density.rde import RDE, WIDTH, draw_rows, fit_robust


def planted(n, d=8, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return Representations.of(rng.normal(size=(n, d)) + 3 * np.eye(d)[y], rng.normal(size=(n, classes)), y)


def test_components_and_distances_equal_scikit_learn():
    train, test = planted(200), planted(40, seed=1)
    method = RDE.with_options({"per_class": False}).fit(train)
    z, t = train.features.astype(np.float64), test.features.astype(np.float64)
    gamma = WIDTH / np.trace(np.cov(z.T, bias=True))
    kpca = KernelPCA(10, kernel="rbf", gamma=gamma, eigen_solver="dense", random_state=42)
    h = kpca.fit_transform(z)
    unit = h.std(axis=0)
    mine = method.components_of(t - method.location_)
    expected = kpca.transform(t) / unit
    signs = np.sign((mine * expected).sum(axis=0))  # an eigenvector is known up to its sign
    np.testing.assert_allclose(mine * signs, expected, rtol=1e-6, atol=1e-8)
    mcd = MinCovDet(random_state=42).fit(h / unit * signs)
    np.testing.assert_allclose(method.score(test), mcd.mahalanobis(expected * signs), rtol=1e-3)
    assert method.facts_["components"] == 10
    assert method.facts_["robust"] is True


def test_distance_to_the_nearest_class_equals_scikit_learn():
    train, test = planted(200), planted(40, seed=1)
    method = RDE().fit(train)
    h, t = (method.components_of(rows.features - method.location_) for rows in (train, test))
    medians = np.array([np.median(h[train.labels == c], axis=0) for c in range(3)])
    mcd = MinCovDet(random_state=42).fit(h - medians[train.labels])
    expected = np.min([mcd.mahalanobis(t - m) for m in medians], axis=0)
    np.testing.assert_allclose(method.score(test), expected, rtol=1e-3)


def test_one_centre_for_all_scores_a_class_above_rows_from_elsewhere():
    def table(n, seed):
        rng = np.random.default_rng(seed)
        y = np.arange(n) % 3
        return Representations.of(rng.normal(size=(n, 60)) + 2 * means[y], rng.normal(size=(n, 3)), y)

    means = np.random.default_rng(99).normal(size=(3, 60))
    train, inside = table(60, 0), table(150, 1)
    elsewhere = 1.5 * np.random.default_rng(2).normal(size=(150, 60)) + 2 * np.random.default_rng(7).normal(size=60)
    outside = Representations.of(elsewhere, inside.logits)
    auc = {}
    for per_class in (True, False):
        method = RDE.with_options({"per_class": per_class}).fit(train)
        u = np.concatenate([method.score(inside), method.score(outside)])
        auc[per_class] = roc_auc_score(np.repeat([0, 1], 150), u)
    assert auc[True] > 0.95
    assert auc[False] < 0.85


def test_planted_outliers_in_train_do_not_pull_the_centre():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 6))
    z[:30] += 4
    train = Representations.of(z, rng.normal(size=(300, 2)))
    u = RDE.with_options({"components": 6, "per_class": False}).fit(train).score(train)
    assert roc_auc_score(np.arange(300) < 30, u) > 0.95


def test_repeated_rows_neither_crash_nor_warn():
    rng = np.random.default_rng(0)
    z = np.repeat(rng.normal(size=(3, 5)), [90, 5, 5], axis=0)
    train = Representations.of(z, rng.normal(size=(100, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = RDE.with_options({"per_class": False}).fit(train)
        u = method.score(train)
    assert np.isfinite(u).all()
    assert method.facts_["robust"] is False
    assert u[95:].min() > u[:90].max()


def test_fallback_is_the_plain_covariance():
    h = np.zeros((50, 2))
    h[:5] = np.random.default_rng(0).normal(size=(5, 2))
    location, white, robust = fit_robust(h, 0)
    assert not robust
    np.testing.assert_allclose(location, h.mean(axis=0))
    np.testing.assert_allclose(white.matrix @ white.matrix.T, np.linalg.inv(np.cov(h.T, bias=True)), rtol=1e-4)


def test_reference_rows_are_stratified_and_seeded():
    y = np.repeat([0, 1, 2], [600, 300, 100])[np.random.default_rng(0).permutation(1000)]
    table = Representations.of(np.random.default_rng(1).normal(size=(1000, 2)), np.zeros((1000, 3)), y)
    rows = draw_rows(table, 100, 42)
    assert len(np.unique(rows)) == 100
    np.testing.assert_allclose(np.bincount(y[rows]), [60, 30, 10], atol=1)
    np.testing.assert_array_equal(rows, draw_rows(table, 100, 42))
    assert not np.array_equal(rows, draw_rows(table, 100, 43))
    np.testing.assert_array_equal(draw_rows(table, 1000, 42), np.arange(1000))


@pytest.mark.parametrize("normalize", [False, True])
def test_rows_bound_the_cost(normalize):
    method = RDE.with_options({"rows": 60, "components": 2, "normalize": normalize}).fit(planted(500))
    assert method.reference_.shape == (60, 8)
    assert method.components_.shape == (60, 2)
