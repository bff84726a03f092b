"""The anchored probe and the refitted head as wholes: the printed equation by loops, SciPy's minimum, any unit."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from dubio.containers import Representations, concatenate
from dubio.scores.learned.anchored_probe import AnchoredProbe
from dubio.scores.learned.refitted_head import RefittedHead
from synthetic import planted

RIDGE = 0.03


def printed_equation(rows, reference, a, b, c, gamma, w, own):
    """a s + b + c_yhat + gamma H + (w + w_yhat).z~ row by row; z~ standardised by the reference rows, over sqrt(d)."""
    z = reference.features.astype(np.float64)
    mean, sd, d = z.mean(axis=0), z.std(axis=0), z.shape[1]
    out = []
    for features, logits in zip(rows.features.astype(np.float64), rows.logits.astype(np.float64), strict=True):
        p = softmax(logits)
        top = int(np.argmax(p))
        s = np.log(np.delete(p, top).sum() / p[top])
        scaled = (features - mean) / sd / np.sqrt(d)
        out.append(a * s + b + c[top] + gamma * scipy_entropy(p) + (w + own[top]) @ scaled)
    return np.array(out)


@pytest.mark.parametrize("classwise", [False, True])
@pytest.mark.parametrize("fit", ["calibration", "both"])
def test_equals_the_printed_equation_at_scipys_minimum(classwise, fit):
    train, calibration, test = (planted(150, d=5, flip=1.5, seed=seed)[0] for seed in (1, 2, 3))
    options = {"fit": fit, "class_directions": classwise, "ridges": (RIDGE,)}
    method = AnchoredProbe.with_options(options).fit(train, calibration)
    rows = calibration if fit == "calibration" else concatenate([train, calibration])
    classes, d = 3, 5

    def unpack(theta):
        own = theta[3 + classes + d :].reshape(classes, d) if classwise else np.zeros((classes, d))
        return (
            1 + theta[0],
            theta[1],
            theta[2 : 2 + classes],
            theta[2 + classes],
            theta[3 + classes : 3 + classes + d],
            own,
        )

    columns = len(range(3 + classes + d + (classes * d if classwise else 0)))
    zero = np.zeros(columns)
    offset = printed_equation(rows, rows, *unpack(zero))
    design = np.stack([printed_equation(rows, rows, *unpack(row)) - offset for row in np.eye(columns)], axis=1)
    weight = np.where(np.arange(columns) < 2, 0.01, 1.0)  # slope and intercept hardly feel the ridge

    def objective(theta):
        eta = offset + design @ theta
        return np.logaddexp(0, np.where(rows.errors, -eta, eta)).mean() + RIDGE / 2 * (weight * theta**2).sum()

    found = minimize(objective, zero, method="BFGS", options={"gtol": 1e-8})
    expected = printed_equation(test, rows, *unpack(found.x))
    np.testing.assert_allclose(method.score(test), expected, atol=2e-3)
    assert method.facts_["slope"] == pytest.approx(1 + found.x[0], abs=2e-3)
    assert np.abs(expected - printed_equation(test, rows, *unpack(zero))).max() > 0.3  # far from softmax response


def test_the_ridge_is_chosen_by_its_own_held_out_gain():
    """Errors that one feature explains want a weak ridge; errors that nothing explains want the strongest."""
    table, _ = planted(1200, flip=0.0, seed=4)
    odd = Representations.of(table.features, table.logits,
                             np.where(table.features[:, 0] > 1, (table.labels + 1) % 3, table.labels))  # fmt: skip
    weak, strong = (AnchoredProbe().fit(None, rows).facts_["ridge"] for rows in (odd, table))
    assert strong == 1.0
    assert weak < 0.3


@pytest.mark.parametrize("unit", [2.0**-40, 2.0**20])
@pytest.mark.parametrize("make", [AnchoredProbe, RefittedHead])
def test_the_unit_of_the_features_does_not_matter(make, unit):
    """Constant features are told by their own size: a table in tiny units is not a table of constants."""

    def in_units(rows, unit):
        constant = np.full((len(rows), 1), 3.0, dtype=np.float32)
        return Representations(np.hstack([rows.features, constant]) * np.float32(unit), rows.logits, rows.labels)

    calibration, test = (planted(300, flip=1.5, seed=seed)[0] for seed in (2, 3))
    plain, moved = (make().fit(None, in_units(calibration, u)).score(in_units(test, u)) for u in (1.0, unit))
    np.testing.assert_allclose(moved, plain, rtol=1e-6, atol=1e-9)
    away = Representations(in_units(test, 1.0).features + np.float32(5) * np.eye(13, dtype=np.float32)[12], test.logits)
    np.testing.assert_array_equal(make().fit(None, in_units(calibration, 1.0)).score(away), plain)  # a constant moved
