"""Arrays that are not what they are called: probabilities as logits, other shapes than at the fit, samples of -inf."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

import dubio
from dubio.artifacts.store import load_artifact
from dubio.containers import Representations
from dubio.errors import DubioError


def world(rows=300, classes=3, seed=0):
    g = np.random.default_rng(seed)
    logits = g.normal(size=(rows, classes)) * 2
    return logits, (logits + g.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("classes", [2, 3, 50])
@pytest.mark.parametrize("rows", [1, 2, 300])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_probabilities_are_refused(classes, rows, dtype):
    logits, y = world(rows, classes)
    p = softmax(logits, axis=1).astype(dtype)
    with pytest.raises(DubioError, match="sums to 1, as probabilities do; pass the logits, or the logarithm"):
        Representations.of(logits, p, y)
    with pytest.raises(DubioError, match="as probabilities do"):
        Representations.of(logits, np.eye(classes)[y], y)


def test_rounded_probabilities_are_refused():
    logits, y = world()
    with pytest.raises(DubioError, match="as probabilities do"):
        Representations.of(logits, softmax(logits, axis=1).astype(np.float16), y)


def test_log_probabilities_are_fine_logits():
    logits, y = world()
    known = Representations.of(logits, log_softmax(logits, axis=1), y)
    np.testing.assert_array_equal(known.predictions, Representations.of(logits, logits, y).predictions)


def test_logits_that_sum_to_1_by_chance_pass():
    for chance in ([[0.3, 0.7], [2.0, -1.0]], [[0.3, 0.7], [0.4, 0.7]], [[0.3004, 0.7]], [[-0.5, 1.5]]):
        assert len(Representations.of(np.zeros((len(chance), 1)), chance)) == len(chance)
    assert len(Representations.of(np.zeros((0, 4)), np.zeros((0, 2)))) == 0


def with_samples(table, size, seed=3):
    noise = np.random.default_rng(seed).normal(size=(size, *table.logits.shape))
    samples = {"five": log_softmax(table.logits + noise, axis=2).astype(np.float32)}
    return Representations.of(table.features, table.logits, table.labels, samples=samples)


@pytest.fixture(scope="module")
def fitted():
    logits, y = world(600)
    rows = with_samples(Representations.of(np.tile(logits, (1, 3)), logits, y), 4)
    return dubio.fit(None, rows, methods=["softmax_response", "knn", "five.mutual_information", "probe"])


def others():
    """Name -> (rows of another shape, what is said)."""
    logits, y = world(50, seed=1)
    four, y4 = world(50, 4, seed=1)
    right = Representations.of(np.tile(logits, (1, 3)), logits, y)
    narrow, two = replace(right, features=right.features[:, :1]), Representations.of(right.features, logits[:, :2])
    return {
        "one column": (with_samples(narrow, 4), "columns of features: 1 here, and 9 at the fit"),
        "a class more": (Representations.of(right.features, four, y4), "classes: 4 here, and 3 at the fit"),
        "a class fewer": (replace(two, labels=y % 2), "classes: 2 here, and 3 at the fit"),
        "more samples": (with_samples(right, 6), "samples of five: 6 here, and 4 at the fit"),
    }  # fmt: skip


@pytest.mark.parametrize("name", others())
def test_other_shapes_than_at_the_fit_are_refused_before_any_arithmetic(fitted, name, tmp_path, monkeypatch):
    rows, said = others()[name]
    dubio.save(fitted, None, tmp_path)
    for known in (fitted, load_artifact(tmp_path)[0]):
        for method in known.methods.values():
            monkeypatch.setattr(type(method.score), "score", None)
        for verb in (dubio.score, dubio.evaluate):
            with pytest.raises(DubioError, match=said):
                verb(known, rows)


def test_the_shape_of_the_fit_passes(fitted, tmp_path):
    logits, y = world(50, seed=1)
    rows = with_samples(Representations.of(np.tile(logits, (1, 3)), logits, y), 4)
    dubio.save(fitted, None, tmp_path)
    kept = load_artifact(tmp_path)[0]
    expected = dubio.score(fitted, rows).uncertainty
    np.testing.assert_array_equal(dubio.score(kept, rows).uncertainty, expected)
    older = replace(kept, model={key: value for key, value in kept.model.items() if key not in ("width", "samples")})
    np.testing.assert_array_equal(dubio.score(older, rows).uncertainty, expected)


def test_train_and_calibration_of_two_shapes_are_refused():
    logits, y = world()
    calibration = Representations.of(logits, logits, y)
    with pytest.raises(DubioError, match="columns of features: 1 in train, and 3 in calibration"):
        dubio.fit(Representations.of(logits[:, :1], logits, y), calibration)


def test_samples_of_minus_infinity_are_refused_at_the_door():
    logits, y = world(20)
    samples = log_softmax(np.stack([logits] * 3), axis=2)
    samples[1, 7] = [0.0, -np.inf, -np.inf]
    with pytest.raises(DubioError, match="samples of five: row 7 holds -inf, a probability of exactly 0"):
        Representations.of(logits, logits, y, samples={"five": samples})
