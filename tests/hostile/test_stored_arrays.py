"""Arrays that a fit never wrote, under right hashes: refused when they are restored, never a traceback or a number."""

import numpy as np
import pytest

from dubio.decisions.recalibration import Recalibrator
from dubio.errors import DubioError
from dubio.heads import stored_head
from dubio.scores.base import State
from dubio.scores.registry import METHODS, get_method
from synthetic import planted

NAMES = [name for name in METHODS if get_method(name).build(head=None) and not name.startswith("adue_")]
SPOIL = {
    "NaN": lambda a: np.where(np.arange(a.size).reshape(a.shape) == a.size - 1, np.nan, a.astype(np.float64)),
    "infinity": lambda a: np.full(a.shape, np.inf),
    "one more side": lambda a: a[None],
    "flat": lambda a: a.reshape(-1) if a.ndim > 1 else a.reshape(-1, 1),
    "one more": lambda a: np.concatenate([a, a[:1]]) if len(a) else np.zeros((1, *a.shape[1:])),
    "scalar": lambda a: np.array(1.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    train, head = planted(120, seed=1)
    calibration, _ = planted(120, seed=2)
    return {name: get_method(name).build(head=head).fit(train, calibration) for name in NAMES}, head, calibration


@pytest.mark.parametrize("name", NAMES)
def test_no_method_restores_arrays_that_it_never_wrote(fitted, name):
    methods, head, rows = fitted
    state = methods[name].state()
    whole = get_method(name).build(head=head).restore(state)
    np.testing.assert_array_equal(whole.score(rows), methods[name].score(rows))
    for key, array in state.arrays.items():
        for what, spoil in SPOIL.items():
            spoilt = spoil(np.asarray(array))
            try:
                again = get_method(name).build(head=head).restore(State({**state.arrays, key: spoilt}, state.facts))
                again.score(rows)
            except DubioError as error:
                told = str(error)
            else:
                told = ""
            # A row more of neighbours, classes or references may be true; nothing else may pass.
            assert what == "one more" or told or array.size == 0, (key, what)
            assert "\n" not in told
        missing = State({k: v for k, v in state.arrays.items() if k != key}, state.facts)
        with pytest.raises(DubioError):
            get_method(name).build(head=head).restore(missing)


@pytest.mark.parametrize("name", [name for name in NAMES if get_method(name).build(head=None).learned])
def test_rows_of_another_width_or_class_count_are_one_line(fitted, name):
    methods, _, _ = fitted
    for other in (planted(50, seed=3, d=5)[0], planted(50, seed=3, classes=7)[0]):
        try:
            methods[name].score(other)
        except DubioError as error:
            told = str(error)
        else:
            told = ""
        assert "\n" not in told


RECALIBRATIONS = {
    "NaN": {"parameters": np.array([0, 1, np.nan, 0])}, "short": {"parameters": np.zeros(3)},
    "no spread": {"parameters": np.array([0.0, 0, 1, 0])}, "falls": {"parameters": np.array([0.0, 1, -1, 0])},
    "levels fall": {"knots": np.array([0.0, 1]), "levels": np.array([0.5, 0.1])},
    "knots repeat": {"knots": np.array([1.0, 1]), "levels": np.array([0.1, 0.5])},
    "above one": {"knots": np.array([0.0, 1]), "levels": np.array([0.5, 1.5])},
    "no knots": {"knots": np.zeros(0), "levels": np.zeros(0)},
    "other lengths": {"knots": np.arange(3.0), "levels": np.array([0.1, 0.5])},
    "texts": {"knots": np.array(["a"]), "levels": np.array(["b"])},
}  # fmt: skip


@pytest.mark.parametrize("name", RECALIBRATIONS)
def test_no_recalibration_of_other_numbers(name):
    arrays = RECALIBRATIONS[name]
    with pytest.raises(DubioError, match="fit again"):
        Recalibrator.from_state(State(arrays, {"kind": "platt" if "parameters" in arrays else "isotonic"}))


@pytest.mark.parametrize(
    "spec",
    [
        [{"layer": "linear", "in": 10**9, "out": 10**9, "bias": True}], [{"layer": "norm", "size": 10**12, "eps": 1.0}],
        [{"layer": "linear", "in": 10**5, "out": 10**5, "bias": False}],
        [{"layer": "kept_and_rest", "kept": [0], "size": 10**12}],
        [{"layer": "linear", "in": -1, "out": 2, "bias": True}], "linear", None, {"layer": "linear"}, [[]], [{}],
        [{"layer": "linear", "in": "2", "out": 2, "bias": True}], [{"layer": ["linear"]}],
    ],
)  # fmt: skip
def test_no_head_of_sizes_that_are_not_stored(spec):
    with pytest.raises(DubioError) as caught:
        stored_head(spec, {"0.weight": np.zeros((2, 3), np.float32), "0.bias": np.zeros(2, np.float32)})
    assert "\n" not in str(caught.value)
