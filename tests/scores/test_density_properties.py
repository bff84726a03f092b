"""What every density score promises, on random tables: N < d, constant columns, a class missing, any affine unit."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize as sklearn_normalize

from dubio.containers import Representations
from dubio.errors import DubioError
from dubio.scores.base import State
from dubio.scores.density.ddu import DDU
from dubio.scores.density.huq import HUQ
from dubio.scores.density.knn import KNN
from dubio.scores.density.md import MD
from dubio.scores.density.rde import RDE
from dubio.scores.density.rmd import RMD

METHODS = [MD, RMD, DDU, KNN, RDE, HUQ]
UNSIGNED = [MD, KNN, RDE]  # distances: never negative
each_method = pytest.mark.parametrize("method", METHODS)
random_tables = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def draw(n, d, seed, classes=3, missing=None, constant=0, offset=0.0):
    """Classes apart, a quarter of the predictions wrong; the last `constant` columns never vary; steps of 1/64, so
    that a shift by an integer and a scale by a power of two are exact in float32."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    if missing is not None:
        y = np.where(y == missing, (missing + 1) % classes, y)
    z = rng.normal(size=(n, d)) + 2 * np.random.default_rng(99).normal(size=(classes, d))[y] + offset
    if constant:
        z[:, -constant:] = 5.0
    predicted = np.where(rng.random(n) < 0.75, y, (y + 1) % classes)
    logits = rng.normal(size=(n, classes)) + 2 * np.eye(classes)[predicted]
    return Representations.of(np.round(z * 64) / 64, logits, y)


def mapped(rows, a, b):
    return Representations.of(rows.features * np.float32(a) + np.float32(b), rows.logits, rows.labels)


@each_method
@random_tables
@given(
    n=st.integers(12, 60),
    d=st.integers(2, 40),
    seed=st.integers(0, 10**6),
    missing=st.sampled_from([None, 0, 2]),
    constant=st.integers(0, 1),
    normalize=st.booleans(),
)
def test_finite_of_the_right_sign_and_alike_in_batches(method, n, d, seed, missing, constant, normalize):
    train, calibration = draw(n, d, seed, 3, missing, constant), draw(80, d, seed + 1, 3, None, constant)
    fitted = method.with_options({"normalize": normalize}).fit(train, calibration)
    rows = Representations.of(
        np.concatenate([calibration.features[:20], np.zeros((1, d)), train.features[:3], np.full((1, d), 1e4)]),
        np.concatenate([calibration.logits[:20], np.full((5, 3), 1e4) * [1, -1, 0]]),
    )
    u = fitted.score(rows)
    assert np.isfinite(u).all()
    if method in UNSIGNED:
        assert u.min() >= 0
    one_by_one = np.concatenate([fitted.score(rows.take([i])) for i in range(len(rows))])
    np.testing.assert_allclose(one_by_one, u, rtol=1e-5, atol=1e-5)
    restored = method.with_options({"normalize": normalize}).restore(State(**vars(fitted.state())))
    np.testing.assert_array_equal(restored.score(rows), u)


@each_method
@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize(("a", "b"), [(2.0**-12, 0), (2.0**10, 0), (1, 64), (-4, 16), (3.7, -2.3)])
def test_ranks_do_not_depend_on_unit_and_origin(method, n, a, b):
    train, calibration, test = draw(n, 24, 0), draw(100, 24, 1), draw(100, 24, 2)
    u = method().fit(train, calibration).score(test)
    moved = method().fit(mapped(train, a, b), mapped(calibration, a, b)).score(mapped(test, a, b))
    assert spearmanr(u, moved).statistic > (1 - 1e-9 if a != 3.7 else 0.9999)


@each_method
@pytest.mark.parametrize("a", [2.0**-12, 2.0**10])
def test_normalised_scores_do_not_depend_on_the_norm(method, a):
    train, calibration, test = draw(60, 24, 0), draw(100, 24, 1), draw(100, 24, 2)
    options = {"normalize": True}
    u = method.with_options(options).fit(train, calibration).score(test)
    moved = method.with_options(options).fit(mapped(train, a, 0), mapped(calibration, a, 0)).score(mapped(test, a, 0))
    np.testing.assert_allclose(moved, u, rtol=1e-9)


@each_method
@pytest.mark.parametrize("n", [30, 200])
def test_normalised_scores_equal_those_of_scikit_learns_unit_rows(method, n):
    tables = draw(n, 24, 0), draw(100, 24, 1), draw(100, 24, 2)
    unit = [Representations.of(sklearn_normalize(rows.features), rows.logits, rows.labels) for rows in tables]
    u = method.with_options({"normalize": True}).fit(*tables[:2]).score(tables[2])
    v = method().fit(*unit[:2]).score(unit[2])
    np.testing.assert_allclose(u, v, rtol=1e-3, atol=1e-4 * np.ptp(v))
    assert spearmanr(u, method().fit(*tables[:2]).score(tables[2])).statistic < 0.999  # normalising does something


@each_method
@pytest.mark.parametrize(("n", "d"), [(300, 10), (40, 60)])
def test_rows_from_elsewhere_score_higher(method, n, d):
    train, calibration, inside = draw(n, d, 0), draw(200, d, 1), draw(200, d, 2)
    rng = np.random.default_rng(3)
    z = 1.5 * rng.normal(size=(200, d)) + 2 * np.random.default_rng(7).normal(size=d)
    outside = Representations.of(z, inside.logits)
    options = {"alpha": 0.0} if method is HUQ else {}
    fitted = method.with_options(options).fit(train, calibration)
    u = np.concatenate([fitted.score(inside), fitted.score(outside)])
    assert roc_auc_score(np.repeat([0, 1], 200), u) > 0.75


@each_method
def test_features_that_came_through_bfloat16(method):
    """Eight bits of mantissa: distances stay non-negative and keep their order."""

    def rounded(rows):
        bits = (rows.features.view(np.uint32) + 0x8000) & np.uint32(0xFFFF0000)
        return Representations.of(bits.view(np.float32), rows.logits, rows.labels)

    tables = draw(60, 80, 0), draw(100, 80, 1), draw(100, 80, 2)
    u = method().fit(*tables[:2]).score(tables[2])
    coarse = method().fit(*map(rounded, tables[:2])).score(rounded(tables[2]))
    assert spearmanr(u, coarse).statistic > 0.97


@each_method
@pytest.mark.parametrize("normalize", [False, True])
def test_constant_features_are_refused(method, normalize):
    rows = draw(30, 4, 0)
    flat = Representations.of(np.full((30, 4), 0.3), rows.logits, rows.labels)
    with pytest.raises(DubioError, match="same features"):
        method.with_options({"normalize": normalize}).fit(flat, rows)


@each_method
def test_options_are_checked(method):
    with pytest.raises(DubioError, match="option nonsense"):
        method.with_options({"nonsense": 1})
    with pytest.raises(DubioError, match="needs the"):
        method().fit(None, draw(30, 4, 0))
