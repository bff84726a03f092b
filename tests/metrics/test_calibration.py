import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss
from torchmetrics.classification import BinaryCalibrationError

from dubio.errors import DubioError
from dubio.metrics import (
    accuracy,
    brier,
    ece,
    error_probability_brier,
    error_probability_ece,
    nll,
    reliability_bins,
)


def table(seed, n=600, classes=4):
    generator = np.random.default_rng(seed)
    p = softmax(generator.normal(size=(n, classes)) * 2, axis=1)
    return p, generator.integers(0, classes, n)


def test_accuracy_nll_brier_equal_scikit_learn():
    p, y = table(0)
    assert accuracy(p, y) == accuracy_score(y, p.argmax(axis=1))
    assert nll(np.log(p), y) == pytest.approx(log_loss(y, p))
    assert brier(p, y) == pytest.approx(
        np.mean([sum((p[i, c] - (y[i] == c)) ** 2 for c in range(4)) for i in range(600)])
    )
    binary = np.stack([1 - p[:, 0], p[:, 0]], axis=1)
    assert brier(binary, y == 0) == pytest.approx(2 * brier_score_loss(y == 0, p[:, 0]))
    assert error_probability_brier(p[:, 0], y == 0) == pytest.approx(brier_score_loss(y == 0, p[:, 0]))


@pytest.mark.parametrize("seed", range(3))
def test_equal_width_ece_equals_torchmetrics(seed):
    generator = np.random.default_rng(seed)
    p = generator.random(500)
    happened = generator.random(500) < p**2
    slow = BinaryCalibrationError(n_bins=15)(torch.tensor(p), torch.tensor(happened.astype(int)))
    assert ece(p, happened) == pytest.approx(float(slow), abs=1e-6)
    assert error_probability_ece(p, happened, scheme="equal_width") == ece(p, happened)


def test_confidence_one_belongs_to_the_last_bin():
    # Sure of everything, right in 47.5 %: the error is 0.525 whatever the scheme, and one bin is filled.
    correct = np.arange(200) < 95
    for scheme in ("equal_width", "equal_mass"):
        assert ece(np.ones(200), correct, scheme=scheme) == pytest.approx(0.525)
    mixed = np.array([0.95, 1.0, 1.0, 0.95])
    assert ece(mixed, [1, 1, 1, 0], bins=10) == pytest.approx(abs(mixed.mean() - 0.75))
    assert len(reliability_bins(np.ones(200), correct).rows) == 1


def test_an_inner_edge_belongs_to_the_bin_above():
    # 0.5 joins 0.9, not 0.1: |0.1 - 0| / 3 + |1.4 - 1| / 3.
    assert ece([0.1, 0.5, 0.9], [0, 0, 1], bins=2) == pytest.approx(0.5 / 3)


def slow_equal_mass(p, happened, bins):
    """Splits every row into `bins` equal parts, so that each bin holds exactly N parts; tied rows are shared evenly."""
    values = np.unique(p)
    parts = []
    for value in values:
        tied = p == value
        parts += [(value, happened[tied].mean())] * (int(tied.sum()) * bins)
    cut = np.array(parts).reshape(bins, len(p), 2)
    return float(np.abs(cut[:, :, 0].mean(axis=1) - cut[:, :, 1].mean(axis=1)).mean())


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 7), st.sampled_from([1, 2, 9]))
@settings(max_examples=60, deadline=None)
def test_equal_mass_ece_equals_the_slow_split(seed, n, bins, digits):
    generator = np.random.default_rng(seed)
    p, happened = np.round(generator.random(n), digits), generator.random(n) < 0.5
    assert ece(p, happened, bins, "equal_mass") == pytest.approx(slow_equal_mass(p, happened, bins), abs=1e-10)
    rows = generator.permutation(n)
    for scheme in ("equal_width", "equal_mass"):
        assert ece(p[rows], happened[rows], bins, scheme) == pytest.approx(ece(p, happened, bins, scheme), abs=1e-12)


@pytest.mark.parametrize(("scheme", "strategy"), [("equal_width", "uniform"), ("equal_mass", "quantile")])
def test_reliability_bins_equal_scikit_learn(scheme, strategy):
    generator = np.random.default_rng(3)
    p = generator.random(600)
    happened = generator.random(600) < p
    found = reliability_bins(p, happened, 10, scheme)
    outcome, confidence = calibration_curve(happened, p, n_bins=10, strategy=strategy)
    np.testing.assert_allclose(found.outcome, outcome)
    np.testing.assert_allclose(found.confidence, confidence)
    assert found.rows.sum() == 600
    gap = np.abs(found.outcome - found.confidence) @ found.rows / 600
    assert gap == pytest.approx(ece(p, happened, 10, scheme))


def test_calibrated_and_miscalibrated():
    generator = np.random.default_rng(0)
    p = generator.random(100_000)
    happened = generator.random(100_000) < p
    for scheme in ("equal_width", "equal_mass"):
        assert ece(p, happened, scheme=scheme) < 0.01
        assert ece(np.sqrt(p), happened, scheme=scheme) > 0.1


def test_refusals():
    with pytest.raises(DubioError, match=r"outside \[0, 1\]"):
        ece([0.5, 1.5], [0, 1])
    with pytest.raises(DubioError, match="no binning scheme 'x'"):
        ece([0.5], [1], scheme="x")
    with pytest.raises(DubioError, match="bins"):
        ece([0.5], [1], bins=0)
    with pytest.raises(DubioError, match="log-softmax"):
        nll([[0.5, 0.5]], [0])
    with pytest.raises(DubioError, match="softmax outputs"):
        brier([[2.0, -1.0]], [0])
    with pytest.raises(DubioError, match="outside the model's 2 classes"):
        accuracy([[0.5, 0.5]], [2])
    with pytest.raises(DubioError, match="no rows"):
        accuracy(np.zeros((0, 2)), [])
