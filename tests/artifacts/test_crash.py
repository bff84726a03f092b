"""Writers that crash, and readers beside them: the artefact is the old one or the new one, whole."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dubio.artifacts.store import load_artifact, save_artifact
from planted_artifact import METHODS, made
from synthetic import planted


class CrashError(Exception):
    pass


@pytest.fixture(scope="module")
def both():
    return made(0), made(1)


def same(one, two):
    rows, _ = planted(50, seed=9)
    assert one.model == two.model
    assert set(one.methods) == set(two.methods) == set(METHODS)
    for name, method in one.methods.items():
        np.testing.assert_array_equal(method.score.score(rows), two.methods[name].score.score(rows))
        np.testing.assert_array_equal(method.certified, two.methods[name].certified)
    np.testing.assert_array_equal(one.errors, two.errors)
    np.testing.assert_array_equal(one.fingerprint, two.fingerprint)
    np.testing.assert_array_equal(one.hashes["train"], two.hashes["train"])


def crash_after(monkeypatch, calls, name, when):
    """Makes the k-th call of a Path method crash, before or after it is done; returns the counter."""
    real, count = getattr(Path, name), [0]

    def spoilt(self, *arguments, **options):
        count[0] += 1
        if count[0] == calls and when == "before":
            raise CrashError
        real(self, *arguments, **options)
        if count[0] == calls and when == "after":
            raise CrashError

    monkeypatch.setattr(Path, name, spoilt)
    return count


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["replace", "unlink"])
def test_a_crash_at_any_step_leaves_the_old_or_the_new(both, tmp_path, when, name):
    old, new = both
    save_artifact(tmp_path, old, "card of the old")
    seen, step, crashed = [], 0, True
    while crashed:
        step += 1
        with pytest.MonkeyPatch.context() as patch:
            count = crash_after(patch, step, name, when)
            try:
                save_artifact(tmp_path, new, "card of the new")
                crashed = count[0] >= step
            except CrashError:
                crashed = True
        found, _ = load_artifact(tmp_path)
        seen.append(found.model["adapter"])
        same(found, {"a0": old, "a1": new}[found.model["adapter"]])
        save_artifact(tmp_path, old, "card of the old")  # and a later fit tidies up
        _, manifest = load_artifact(tmp_path)
        assert {path.name for path in (tmp_path / "dubio").iterdir()} == {*manifest.files, "README.md", "manifest.json"}
    assert seen == sorted(seen)
    # Renames come before the manifest's own; unlinking, of the old fit's files, after it.
    assert set(seen) == ({"a0", "a1"} if name == "replace" else {"a1"})
    assert step > len(METHODS) + 1


def test_readers_beside_a_writer(both, tmp_path):
    """A reader that holds the old manifest while its files are replaced reads again."""
    save_artifact(tmp_path, both[0], "card")
    known, failures, loads, halt = {"a0", "a1"}, [], [], threading.Event()

    def read():
        while not halt.is_set():
            try:
                artifact, manifest = load_artifact(tmp_path)
                assert artifact.model == manifest.model
                loads.append(artifact.model["adapter"])
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for turn in range(60):
        save_artifact(tmp_path, both[turn % 2], f"card {turn}")
    halt.set()
    thread.join()
    assert failures == []
    assert set(loads) == known


def test_saving_again_is_idempotent_and_keeps_only_what_it_names(both, tmp_path):
    path = save_artifact(tmp_path, both[0], "card")
    first = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    save_artifact(tmp_path, both[0], "card")
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == first
    fewer = {"softmax_response": both[0].methods["softmax_response"]}
    chosen = both[0].choice.model_copy(update={"method": "softmax_response"})
    save_artifact(tmp_path, replace(both[0], methods=fewer, choice=chosen), "card")
    assert sorted(p.name.rpartition("-")[0] for p in path.parent.glob("*.safetensors")) == ["rows", "softmax_response"]
