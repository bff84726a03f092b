"""Invariant 4: fit -> save -> load in a new process -> the same scores, to the bit; and the same fit, to the bit."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from invariant_cases import CLASSES, PRECISIONS, fitted, small, tables
from safetensors.numpy import load_file, save_file

from dubio.artifacts.manifest import SplitFacts
from dubio.artifacts.store import Artifact, save_artifact
from dubio.decisions import Recalibrator
from dubio.fitted import Choice, FittedScore
from dubio.scores.registry import METHODS

CHILD = Path(__file__).with_name("round_trip_child.py")
ROUTES = ("state", "artifact")


def recalibrated(name, precision):
    train, calibration, test = tables(precision)
    method = fitted(name, precision)
    map_ = Recalibrator().fit(method.out_of_fold(train, calibration), calibration.errors)
    return FittedScore(name, method, map_, method.score(test))


def save_states(folder, precision):
    folder.mkdir()
    for name in METHODS:
        method = fitted(name, precision)
        state = method.state()
        save_file({**state.arrays} or {"none": np.zeros(1)}, folder / f"{name}.safetensors")
        stored = {"options": method.config.model_dump(mode="json"), "facts": dict(state.facts)}
        (folder / f"{name}.json").write_text(json.dumps(stored, allow_nan=False), encoding="utf-8")


@pytest.fixture(scope="module")
def trip(tmp_path_factory):
    """(methods with maps by precision and name, what the new process scored)."""
    folder = tmp_path_factory.mktemp("trip")
    made, rows = {}, {}
    for precision in PRECISIONS:
        test = tables(precision)[2]
        rows |= {f"{precision}.features": test.features, f"{precision}.logits": test.logits}
        methods = {name: recalibrated(name, precision) for name in METHODS}
        made |= {(precision, name): method for name, method in methods.items()}
        artifact = Artifact(
            methods=methods, choice=Choice(method="md", why="A test."), errors=test.errors, model={"adapter": "tiny"},
            labels=tuple("abc"), splits={"train": SplitFacts(rows=1, duplicates=0, sha256="a")}, hashes={},
            fingerprint=np.zeros((8, CLASSES), dtype=np.float32),
        )  # fmt: skip
        save_artifact(folder / precision, artifact, "A card.")
        save_states(folder / precision / "states", precision)
    save_file(rows, folder / "rows.safetensors")
    subprocess.run([sys.executable, str(CHILD), str(folder)], check=True, timeout=300)
    return made, load_file(folder / "scores.safetensors")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", list(METHODS))
def test_a_new_process_gives_the_same_bits(trip, name, precision):
    made, scored = trip
    expected = fitted(name, precision).score(tables(precision)[2])
    assert np.ptp(expected) > 0
    for route in ROUTES:
        assert scored[f"{precision}.{route}.{name}"].tobytes() == expected.tobytes(), route
    probability = made[precision, name].recalibrator.predict(expected)
    assert scored[f"{precision}.probability.{name}"].tobytes() == probability.tobytes()
    assert scored[f"{precision}.certified.{name}"].tobytes() == made[precision, name].certified.tobytes()


@pytest.mark.parametrize("name", list(METHODS))
def test_the_same_fit_gives_the_same_bits(name):
    train, calibration, test = tables()
    again = small(name).fit(train, calibration)
    assert again.score(test).tobytes() == fitted(name).score(test).tobytes()
    assert again.out_of_fold(train, calibration).tobytes() == fitted(name).out_of_fold(train, calibration).tobytes()
    assert json.dumps(again.facts_) == json.dumps(fitted(name).facts_)


@pytest.mark.parametrize("name", list(METHODS))
def test_a_fit_leaves_its_tables_and_the_head_alone(name):
    before = [{key: value.copy() for key, value in vars(table).items() if value is not None} for table in tables()]
    method = small(name)
    weights = {key: value.clone() for key, value in method.head.state_dict().items()}
    method.fit(*tables()[:2]).score(tables()[2])
    for table, arrays in zip(tables(), before, strict=True):
        for key, copy in arrays.items():
            np.testing.assert_array_equal(getattr(table, key), copy)
    assert all((method.head.state_dict()[key] == value).all() for key, value in weights.items())


def test_both_ways_out_of_the_guard_went_on_the_trip():
    """A method that fell back and one that did not store different things; both kinds must be among those tested."""
    fell_back = {fitted(name).facts_.get("fell_back") for name in METHODS}
    assert fell_back == {None, False, True}
