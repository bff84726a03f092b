"""Class Gaussians against slow loops, np.linalg and SciPy."""

import numpy as np
import pytest

from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.density import gaussian
from dubio.scores.density.gaussian import GaussianConfig, feature_blocks, fit_classes, squared_distances, whitener


def table(n=40, d=5, labels=None, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes if labels is None else labels
    z = rng.normal(size=(n, d)) + 3 * np.asarray(y)[:, None] * rng.normal(size=d)
    return Representations.of(z, rng.normal(size=(n, classes)), y)


@pytest.mark.parametrize("block", [7, 2048])
def test_moments_equal_slow_loops(monkeypatch, block):
    monkeypatch.setattr(gaussian, "BLOCK", block)
    rows = table()
    found = fit_classes(rows, normalize=False)
    z = rows.features.astype(np.float64)
    means = np.array([z[rows.labels == c].mean(axis=0) for c in range(3)])
    within = sum(np.outer(z[i] - means[rows.labels[i]], z[i] - means[rows.labels[i]]) for i in range(40)) / 40
    np.testing.assert_allclose(found.means, means, rtol=1e-12)
    np.testing.assert_allclose(found.within, within, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.total, np.cov(z.T, bias=True), rtol=1e-12, atol=1e-13)
    assert found.scale == pytest.approx(np.trace(within) / 5)


@pytest.mark.parametrize("n", [400, 4])
def test_whitener_inverts_the_ridged_covariance(n):
    x = np.random.default_rng(1).normal(size=(n, 12))
    cov, scale = np.cov(x.T, bias=True), 2.0
    white = whitener(cov, 1e-3, scale)
    ridged = cov + 1e-3 * scale * np.eye(12)
    np.testing.assert_allclose(white.matrix @ white.matrix.T, np.linalg.inv(ridged), rtol=1e-9, atol=1e-9)
    assert white.log_det == pytest.approx(np.linalg.slogdet(ridged)[1])
    assert white.facts["condition"] == pytest.approx(np.linalg.cond(ridged, 1), rel=0.05)
    values = np.linalg.eigvalsh(cov)
    assert white.facts["effective_rank"] == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert white.facts["effective_rank"] <= min(n - 1, 12) + 1e-9
    assert white.matrix.flags.c_contiguous


def test_a_ridge_lost_in_rounding_is_raised_and_reported():
    x = np.random.default_rng(2).normal(size=(3, 30))
    white = whitener(np.cov(x.T, bias=True), 1e-25, 1.0)
    assert 1e-25 < white.facts["ridge"] <= 1e-6
    assert np.isfinite(white.matrix).all()


def test_a_covariance_that_cannot_be_factored_is_refused():
    with pytest.raises(DubioError, match="cannot be factored"):
        whitener(-5 * np.eye(3), 1e-3, 1.0)


def test_distances_equal_the_quadratic_form():
    rng = np.random.default_rng(3)
    x, mu, a = rng.normal(size=(9, 4)), rng.normal(size=(2, 4)), rng.normal(size=(30, 4))
    white, location = whitener(np.cov(a.T), 1e-3, 1.0).matrix, rng.normal(size=4)
    precision = white @ white.T
    slow = [[(r - m) @ precision @ (r - m) for m in mu] for r in x]
    np.testing.assert_allclose(squared_distances(x, location, white, (mu - location) @ white), slow, rtol=1e-10)


def test_a_class_of_one_row_is_named():
    with pytest.raises(DubioError, match="class 2 has one training row"):
        fit_classes(table(n=7, labels=[0, 0, 0, 1, 1, 1, 2]), normalize=False)


def test_a_class_without_rows_gets_no_mean():
    found = fit_classes(table(n=6, labels=[0, 0, 0, 3, 3, 3], classes=5), normalize=False)
    assert found.means.shape == (2, 5)
    assert found.facts["classes"] == [0, 3]
    assert found.facts["absent_classes"] == [1, 2, 4]


@pytest.mark.parametrize("normalize", [False, True])
def test_constant_features_are_refused(normalize):
    z = np.full((10, 3), 12345.678) * (np.arange(1, 11)[:, None] if normalize else 1)
    rows = Representations.of(z, 2 * np.eye(2)[np.arange(10) % 2], np.arange(10) % 2)
    with pytest.raises(DubioError, match="same features"):
        fit_classes(rows, normalize)


def test_collapsed_classes_fall_back_to_the_total_variance():
    y = np.arange(10) % 2
    found = fit_classes(Representations.of(np.eye(2)[y], 2 * np.eye(2)[y], y), normalize=False)
    assert found.scale == pytest.approx(np.trace(found.total) / 2)
    assert found.scale > 0


@pytest.mark.parametrize("offset", [1.0, 1000.0])
def test_rounding_of_collapsed_classes_is_not_taken_for_variance(offset):
    """One row of each class is off by one step of float32: the scale is still that of the classes' distance."""
    y = np.arange(40) % 2
    z = (offset + 100 * y[:, None] * np.ones(3)).astype(np.float32)
    z[:2] = np.nextafter(z[:2], np.float32(1e9))
    found = fit_classes(Representations.of(z, 2 * np.eye(2)[y], y), normalize=False)
    assert np.trace(found.within) > 0
    assert found.scale == pytest.approx(2500.0, rel=1e-3)


def test_rows_have_unit_norm_and_zero_rows_stay_zero():
    z = np.array([[3, 4], [0, 0], [1e-30, 0]], dtype=np.float32)
    block = next(feature_blocks(z, normalize=True))[1]
    np.testing.assert_allclose(block, [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-12)
    assert z[0, 0] == 3  # the caller's array is not touched


def test_unlabelled_rows_and_a_ridge_of_zero_are_refused():
    rows = table()
    with pytest.raises(DubioError, match="labels"):
        fit_classes(Representations(rows.features, rows.logits), normalize=False)
    with pytest.raises(ValueError, match="ridge"):
        GaussianConfig(ridge=0)
