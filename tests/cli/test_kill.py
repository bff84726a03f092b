"""`kill -9` at random moments: the next run completes from what is whole, to the same bits, and readers see no half."""

import json
import threading

import numpy as np
import pytest

from dubio.artifacts.store import load_artifact
from dubio.models.cache import map_arrays
from tiny_classifier import sentences, write_table

PAUSE = 0.02  # before each rename, so that kills fall between them too
SOME = "softmax_response,temperature,md,huq_md,probe,refitted_both"
KILLS = [2, pytest.param(10, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    parts = zip(("train", "calibration", "new"), sentences(2600, 900, 6000, seed=11), strict=True)
    return {name: write_table(folder / f"{name}.csv", *rows) for name, rows in parts}


class Reader(threading.Thread):
    """Looks at one thing over and over until told to stop; complaints are what it should not have seen."""

    def __init__(self, look):
        super().__init__()
        self.look, self.halt, self.looks, self.complaints = look, threading.Event(), 0, []

    def run(self):
        while not self.halt.wait(0.01):
            try:
                self.look()
            except Exception as error:
                self.complaints.append(error)
            self.looks += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.halt.set()
        self.join()
        assert self.looks > 3
        assert self.complaints == []


def contents(folder):
    """Every file's bytes; of the manifest all but what the fit has cost."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    found["manifest.json"] = json.loads(found["manifest.json"]) | {"costs": None, "digest": None}
    return found


def whole_shards(folder):
    for path in folder.glob("cache*/*.safetensors"):
        assert np.isfinite(map_arrays(path)["features"]).all()


def stamps(cache):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.glob("*.safetensors")}


def moments(kills, seconds):
    """When to kill: once as soon as a shard is there, then at random, one time in each part of the run."""
    return [None, *np.random.default_rng(kills).permuted((np.arange(1, kills) - 0.5) / (kills - 1)) * seconds]


def killed_and_run_again(forks, arguments, folder, moment):
    """Kills one run and lets the next complete; returns how many shards the first had finished."""
    cache, log, code = folder / "cache", folder / "log", 0
    while code == 0:  # where the machine was busier when the time was taken, the run is over before the kill
        cache = cache.with_name(f"{cache.name}-")
        when = (lambda cache=cache: any(cache.glob("*.safetensors"))) if moment is None else moment
        code, _ = forks.run([*arguments, "--cache", cache], log, kill_after=when, pause=PAUSE)
        moment = None if moment is None else moment * 0.7
    assert code == -9, log.read_text()
    finished = stamps(cache)
    again, _ = forks.run([*arguments, "--cache", cache], log)
    assert again == 0, log.read_text()
    after = stamps(cache)
    assert {name: after[name] for name in finished} == finished
    assert list(folder.rglob(".*")) == []
    return len(finished)


@pytest.mark.parametrize("kills", KILLS)
def test_killed_fits(cached, forks, tables, tmp_path, kills):
    base = ["fit", cached.adapter, "--train", tables["train"], "--calibration", tables["calibration"]]
    arguments = [*base, "--methods", SOME]
    code, seconds = forks.run(
        [*arguments, "--artifact", tmp_path / "whole", "--cache", tmp_path / "c"], tmp_path / "log", pause=PAUSE
    )
    assert code == 0, (tmp_path / "log").read_text()
    expected, found = contents(tmp_path / "whole" / "dubio"), []
    for kill, moment in enumerate(moments(kills, seconds)):
        folder = tmp_path / str(kill)
        folder.mkdir()
        allowed = [expected["manifest.json"]["methods"]]
        if kill % 2:  # an earlier fit stands there
            older = [*base, "--artifact", folder, "--cache", tmp_path / "c", "--methods", "softmax_response,entropy"]
            assert forks.run(older, folder / "log")[0] == 0
            allowed.append(contents(folder / "dubio")["manifest.json"]["methods"])

        def look(folder=folder, allowed=allowed):
            whole_shards(folder)
            if (folder / "dubio" / "manifest.json").exists():
                artifact, manifest = load_artifact(folder)
                assert [entry.model_dump() for entry in manifest.methods] in allowed
                assert set(artifact.methods) == {entry.name for entry in manifest.methods}

        with Reader(look):
            found.append(killed_and_run_again(forks, [*arguments, "--artifact", folder], folder, moment))
        assert contents(folder / "dubio") == expected
    assert sum(found) > 0


@pytest.mark.parametrize("kills", KILLS)
def test_killed_scores(cached, forks, tables, tmp_path, kills):
    def arguments(folder, kind):
        return ["score", cached.adapter, tables["new"], "--output", folder / f"out{kind}", "--risk", "0.2"]

    expected, seconds, found = {}, 0.0, []
    for kind in (".csv", ".parquet"):
        ask = [*arguments(tmp_path, kind), "--cache", tmp_path / f"cache{kind}"]
        code, seconds = forks.run(ask, tmp_path / "log", pause=PAUSE)
        assert code == 0, (tmp_path / "log").read_text()
        expected[kind] = (tmp_path / f"out{kind}").read_bytes()
    for kill, moment in enumerate(moments(kills, seconds)):
        folder, kind = tmp_path / str(kill), (".csv", ".parquet")[kill % 2]
        folder.mkdir()
        output = folder / f"out{kind}"
        if kill % 3:
            output.write_bytes(b"old")

        def look(folder=folder, output=output, kind=kind, old=kill % 3):
            whole_shards(folder)
            if old or output.exists():
                assert output.read_bytes() in (b"old", expected[kind])

        with Reader(look):
            found.append(killed_and_run_again(forks, arguments(folder, kind), folder, moment))
        assert output.read_bytes() == expected[kind]
    assert sum(found) > 0
