"""Several processes that write into one folder: whatever their moments, what stands there is one of theirs, whole."""

import os
import threading
import time

import numpy as np
import pytest
import torch

from dubio.artifacts import store
from dubio.artifacts.store import load_artifact, save_artifact
from dubio.posteriors.methods.mc_dropout import McDropout
from dubio.posteriors.store import Stored, load_posterior, save_posterior
from dubio.writers import tidy, turn
from planted_artifact import made

PROCESSES = 8
ROUNDS = pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
DAY = 24 * 3600


@pytest.fixture(scope="module")
def four():
    return [made(seed) for seed in range(4)]


def children(count, work):
    """Runs work(number) in forked processes; returns how many failed."""
    started = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(number)
                code = 0
            finally:
                os._exit(code)
        started.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in started)


def locks(monkeypatch, known):
    """Whether the file system has locks."""
    if not known:
        monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError("no locks here")))


@ROUNDS
@pytest.mark.parametrize("known", [True, False], ids=["locks", "no locks"])
def test_eight_processes_that_fit_on_one_folder(four, tmp_path, monkeypatch, rounds, known):
    locks(monkeypatch, known)
    save_artifact(tmp_path, four[0], "card")
    names = {artifact.model["adapter"] for artifact in four}

    def work(number):
        g = np.random.default_rng([number, rounds])
        for _ in range(rounds):
            time.sleep(g.random() * 0.05)
            save_artifact(tmp_path, four[g.integers(4)], f"card {number}")
            assert load_artifact(tmp_path)[0].model["adapter"] in names

    assert children(PROCESSES, work) == 0
    artifact, manifest = load_artifact(tmp_path)
    assert artifact.model["adapter"] in names
    found = {path.name for path in (tmp_path / "dubio").iterdir()}
    expected = {*manifest.files, "README.md", "manifest.json"}
    assert found == expected if known else found >= expected


@pytest.mark.parametrize("known", [True, False], ids=["locks", "no locks"])
def test_a_fit_that_comes_between_the_files_of_another(four, tmp_path, monkeypatch, known):
    """The first has written its files and not yet its manifest, when the second begins and, if it may, ends."""
    locks(monkeypatch, known)
    real, reached, go, first = store.write_manifest, threading.Event(), threading.Event(), []

    def held(path, manifest):
        if not first:
            first.append(manifest)
            reached.set()
            assert go.wait(60)
        real(path, manifest)

    monkeypatch.setattr(store, "write_manifest", held)
    one = threading.Thread(target=save_artifact, args=(tmp_path, four[0], "card"))
    two = threading.Thread(target=save_artifact, args=(tmp_path, four[1], "card"))
    one.start()
    assert reached.wait(60)
    two.start()
    two.join(1.0)
    assert two.is_alive() is known
    go.set()
    one.join()
    two.join()
    assert load_artifact(tmp_path)[0].model["adapter"] == ("a1" if known else "a0")


def test_what_is_not_ours_is_not_tidied(tmp_path):
    ours = ["md-0123456789ab.safetensors", "rows-ba9876543210.safetensors"]
    others = ["model.safetensors", "md-0.safetensors", "md-0123456789AB.safetensors", "notes.txt"]
    for name in (*ours, *others, "manifest.json", "kept-0123456789ab.safetensors"):
        (tmp_path / name).write_text("x")
    (tmp_path / "dir-0123456789ab.safetensors").mkdir()
    old = time.time() - 2 * DAY
    os.utime(tmp_path / ours[0], (old, old))
    tidy(tmp_path, ["kept-0123456789ab.safetensors"], tmp_path / "manifest.json", certain=False)
    assert not (tmp_path / ours[0]).exists()
    assert (tmp_path / ours[1]).exists()  # another machine may be writing its manifest
    tidy(tmp_path, ["kept-0123456789ab.safetensors"], tmp_path / "manifest.json", certain=True)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, "manifest.json", "kept-0123456789ab.safetensors", "dir-0123456789ab.safetensors"}


def test_a_writer_that_hangs_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("dubio.writers._PATIENCE", 0.2)
    with turn(tmp_path / "x") as first, turn(tmp_path / "x") as second:
        assert (first, second) == (True, False)
    with turn(tmp_path / "x") as again:
        assert again


def test_a_folder_on_a_file_system_of_the_network_is_never_certain(tmp_path, monkeypatch):
    table = tmp_path / "mounts"
    table.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/a {tmp_path}/my\\040share nfs4 rw 0 0\n")
    real = store.Path.read_text
    monkeypatch.setattr(
        store.Path, "read_text", lambda self, **k: real(table if str(self) == "/proc/self/mounts" else self, **k)
    )
    for name, local in (("here", True), ("my share", False), ("my share/deep/er", False), ("my sharee", True)):
        with turn(tmp_path / name) as certain:
            assert certain is local, name


@ROUNDS
def test_eight_processes_that_make_one_posterior(tmp_path, rounds):
    def of(seed):
        g = torch.Generator().manual_seed(seed)
        tensors = {f"mean|layer/a.{part}": torch.randn(1, 3, 4, generator=g) for part in ("a", "b")}
        return Stored("mc_dropout", McDropout(tensors, {"rate": 0.1, "masks": "sample"}), {}, {"base": "b"}, 4)

    some = [of(seed) for seed in range(4)]
    known = {stored.sha256 for stored in some}

    def work(number):
        g = np.random.default_rng([number, rounds])
        for _ in range(3 * rounds):
            save_posterior(tmp_path, some[g.integers(4)])
            assert load_posterior(tmp_path, "mc_dropout").sha256 in known

    assert children(PROCESSES, work) == 0
    assert len(list((tmp_path / "posteriors" / "mc_dropout").iterdir())) == 2
