"""The scores of the logits alone, against mpmath, SciPy, scikit-learn and slow loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score

from dubio.containers import Representations
from dubio.errors import DubioError, NotFittedError
from dubio.log_space import error_log_odds
from dubio.scores.logits.energy import Energy
from dubio.scores.logits.entropy import Entropy
from dubio.scores.logits.margin import Margin
from dubio.scores.logits.softmax_response import SoftmaxResponse
from dubio.scores.logits.temperature import TemperatureScaledResponse

mpmath = pytest.importorskip("mpmath")  # comes with torch, through sympy
FREE = [SoftmaxResponse, Entropy, Margin, Energy]


def rows_of(logits, labels=None):
    logits = np.asarray(logits, dtype=np.float32)
    return Representations.of(np.zeros((len(logits), 1)), logits, labels)


def noisy(n=400, classes=4, seed=0, scale=3.0):
    """Logits `scale` times too confident for their labels."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n, classes)) * 1.5
    labels = np.array([rng.choice(classes, p=softmax(row)) for row in true])
    return rows_of(scale * true, labels)


def score(method, rows):
    return method().fit(rows, rows).score(rows)


def exact(row):
    """log(1 - max p) and the entropy with 400 decimal digits."""
    with mpmath.workdps(400):
        terms = [mpmath.e ** mpmath.mpf(float(value)) for value in row]
        p = sorted((term / mpmath.fsum(terms) for term in terms), reverse=True)
        nats = -mpmath.fsum(q * mpmath.log(q) for q in p)
        return float(mpmath.log(mpmath.fsum(p[1:]))), float(nats)


@given(arrays(np.float32, st.tuples(st.just(1), st.integers(2, 6)), elements=st.floats(-80, 80, width=32)))
def test_softmax_response_and_entropy_equal_high_precision(logits):
    response, nats = exact(logits[0])
    rows = rows_of(logits)
    assert score(SoftmaxResponse, rows)[0] == pytest.approx(response, rel=1e-12, abs=1e-13)
    assert score(Entropy, rows)[0] == pytest.approx(nats, rel=1e-10, abs=1e-14)  # log p_1 near 0


def test_entropy_equals_scipy_and_margin_and_energy_their_definitions():
    rows = noisy()
    logits = rows.logits.astype(np.float64)
    np.testing.assert_allclose(score(Entropy, rows), scipy_entropy(softmax(logits, axis=1), axis=1), rtol=1e-9)
    slow = [sorted(row)[-2] - sorted(row)[-1] for row in logits.tolist()]
    np.testing.assert_allclose(score(Margin, rows), slow, rtol=1e-12)
    method = Energy.with_options({"temperature": 2.0}).fit(None)
    np.testing.assert_allclose(method.score(rows), -2 * np.log(np.exp(logits / 2).sum(axis=1)), rtol=1e-12)


def test_softmax_response_orders_rows_as_one_minus_the_maximum():
    rows = noisy(scale=1.0)
    naive = 1 - softmax(rows.logits.astype(np.float64), axis=1).max(axis=1)
    np.testing.assert_array_equal(rankdata(score(SoftmaxResponse, rows)), rankdata(naive))


def test_log_odds_order_rows_as_softmax_response():
    rows = noisy(scale=1.0)
    np.testing.assert_array_equal(rankdata(error_log_odds(rows.logits)), rankdata(score(SoftmaxResponse, rows)))


def test_two_classes_have_one_order():
    rows = rows_of(np.random.default_rng(0).normal(size=(300, 2)))
    orders = [rankdata(score(method, rows)) for method in (SoftmaxResponse, Entropy, Margin)]
    np.testing.assert_array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


@pytest.mark.parametrize("method", FREE)
def test_saturated_logits_stay_finite(method):
    rows = rows_of([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4], [1e4, 1e4, 1e4]])
    assert np.isfinite(score(method, rows)).all()


@pytest.mark.parametrize("method", [SoftmaxResponse, Margin])
def test_saturated_rows_are_still_told_apart(method):
    u = score(method, rows_of([[1e4, 0, -1e4], [1e3, 0, -1e4], [200, 0, -1e4], [1, 0, -1e4]]))
    assert (np.diff(u) > 0).all()


@pytest.mark.parametrize("method", [*FREE, TemperatureScaledResponse])
def test_planted_errors_score_higher(method):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    logits = rng.normal(size=(600, 3)) * 0.5
    logits[np.arange(600), labels] += np.where(rng.random(600) < 0.7, 4.0, 0.0)
    rows = rows_of(logits, labels)
    assert roc_auc_score(rows.errors, score(method, rows)) > 0.85


class Logits(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decision function is its input."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x):
        return np.asarray(x, dtype=np.float64)

    def predict(self, x):
        return self.classes_[np.argmax(x, axis=1)]


def test_temperature_equals_scikit_learn():
    rows = noisy(n=1500)
    method = TemperatureScaledResponse().fit(None, rows)
    frozen = FrozenEstimator(Logits().fit(rows.logits, rows.labels))
    oracle = CalibratedClassifierCV(frozen, method="temperature").fit(rows.logits, rows.labels)
    expected = oracle.predict_proba(rows.logits)
    mine = softmax(rows.logits / method.temperature_[0], axis=1)
    np.testing.assert_allclose(mine, expected, atol=1e-4)
    assert method.facts_["nll_after"] == pytest.approx(log_loss(rows.labels, mine), rel=1e-6)
    np.testing.assert_allclose(np.exp(method.score(rows)), 1 - expected.max(axis=1), atol=1e-4)


def test_temperature_is_recovered_and_never_raises_the_nll():
    rows = noisy(n=20000, scale=3.0)
    facts = TemperatureScaledResponse().fit(None, rows).facts_
    assert facts["temperature"] == pytest.approx(3.0, rel=0.05)
    assert facts["nll_after"] < facts["nll_before"]


def test_temperature_is_stored_and_needs_calibration():
    rows = noisy()
    method = TemperatureScaledResponse().fit(None, rows)
    np.testing.assert_array_equal(TemperatureScaledResponse().restore(method.state()).score(rows), method.score(rows))
    with pytest.raises(DubioError, match="calibration split"):
        TemperatureScaledResponse().fit(rows)
    with pytest.raises(NotFittedError):
        TemperatureScaledResponse().score(rows)
    with pytest.raises(DubioError, match="temperature"):
        Energy.with_options({"temperature": 0})
