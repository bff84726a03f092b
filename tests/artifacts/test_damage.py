"""Whatever byte of an artefact changes, goes missing or is added: one clear line, never a number."""

import shutil

import numpy as np
import pytest

from dubio.artifacts.manifest import read_manifest, write_manifest
from dubio.artifacts.store import load_artifact
from dubio.errors import ArtifactError

FLIPS = pytest.mark.parametrize("flips", [300, pytest.param(2000, marks=pytest.mark.slow)])


@pytest.fixture
def adapter(tiny, tmp_path):
    """A folder with a copy of the artefact without its figures, which are slow to read a thousand times."""
    shutil.copytree(tiny.adapter / "dubio", tmp_path / "dubio")
    path = tmp_path / "dubio" / "manifest.json"
    write_manifest(path, read_manifest(path).model_copy(update={"calibration": []}))
    return tmp_path


def assert_refused(adapter, what):
    with pytest.raises(ArtifactError) as caught:
        load_artifact(adapter)
    assert "\n" not in str(caught.value), what
    assert str(adapter / "dubio") in str(caught.value), what


def files(adapter):
    return sorted((adapter / "dubio").iterdir())


@FLIPS
def test_flipped_bytes(adapter, flips):
    g, whole = np.random.default_rng(0), {path: path.read_bytes() for path in files(adapter)}
    untouched = {path.name for path in whole}
    for _ in range(flips):
        path = list(whole)[g.integers(len(whole))]
        spoilt, at, bits = bytearray(whole[path]), int(g.integers(len(whole[path]))), int(g.integers(1, 256))
        spoilt[at] ^= bits
        path.write_bytes(spoilt)
        assert_refused(adapter, (path.name, at, bits))
        path.write_bytes(whole[path])
        untouched.discard(path.name)
    assert untouched == set()
    load_artifact(adapter)


def test_cut_grown_emptied_removed(adapter):
    g = np.random.default_rng(1)
    for path in files(adapter):
        whole = path.read_bytes()
        for cut in (0, len(whole) - 1, *g.integers(1, len(whole) - 1, 3)):
            path.write_bytes(whole[:cut])
            assert_refused(adapter, (path.name, cut))
        for tail in (b"\n", b" "):
            path.write_bytes(whole + tail)
            assert_refused(adapter, (path.name, tail[:9]))
        path.unlink()
        assert_refused(adapter, path.name)
        path.mkdir()
        assert_refused(adapter, path.name)
        path.rmdir()
        path.write_bytes(whole)
    load_artifact(adapter)


def test_files_changed_for_each_other(adapter):
    one, two = (path for path in files(adapter) if path.name.startswith(("md-", "rde-")))
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    assert_refused(adapter, (one, two))


def test_stray_files_do_not_matter(adapter):
    (adapter / "dubio" / ".dubio-x").mkdir()
    (adapter / "dubio" / "md-0.safetensors").write_bytes(b"of an earlier fit")
    load_artifact(adapter)


@pytest.mark.parametrize("exponent", ["1e999", "-1e999", "NaN", "Infinity"])
def test_numbers_that_are_not_finite(adapter, exponent):
    # What a flip can make of 1.5e-05 (1.5e905), which Python reads as infinity.
    path = adapter / "dubio" / "manifest.json"
    text = path.read_text().replace('"fit_seconds": ', f'"fit_seconds": {exponent}, "x": ', 1)
    assert exponent in text
    path.write_text(text)
    assert_refused(adapter, exponent)
