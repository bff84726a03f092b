"""Manifests that were written by hand, with right digests: they are refused, or at worst useless, never wrong."""

import shutil

import pytest

from dubio.artifacts.manifest import _canonical, read_manifest, write_manifest
from dubio.artifacts.store import load_artifact
from dubio.errors import ArtifactError
from dubio.files import sha256_file


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny.adapter / "dubio", tmp_path / "adapter" / "dubio")


def refused(folder, message, **changes):
    """Writes the manifest with some fields changed and a right digest, loads, and puts the old one back."""
    path = folder / "manifest.json"
    whole = path.read_bytes()
    write_manifest(path, read_manifest(path).model_copy(update=changes))
    with pytest.raises(ArtifactError, match=message) as caught:
        load_artifact(folder.parent)
    assert "\n" not in str(caught.value)
    path.write_bytes(whole)


def entries(folder, **changes):
    """The manifest's methods, the first one changed."""
    first, *rest = read_manifest(folder / "manifest.json").methods
    return [first.model_copy(update=changes), *rest]


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/file", "..", ".", "", "rows-x/../../secret"])
def test_no_file_outside_the_folder_is_read(folder, name):
    secret = folder.parent / "secret"
    secret.write_text("x")
    files = read_manifest(folder / "manifest.json").files
    refused(folder, "outside its own folder|is missing", files=files | {name: sha256_file(secret)})


def test_no_method_outside_the_hashed_files_is_read(folder):
    inside = next(folder.glob("softmax_response-*"))
    shutil.copy(inside, folder.parent / "copy.safetensors")
    shutil.copy(inside, folder / "copy.safetensors")
    for name in ("../copy.safetensors", "copy.safetensors", ""):
        refused(folder, "names no hash of the file", methods=entries(folder, file=name))


def test_what_does_not_fit_together(folder):
    whole = read_manifest(folder / "manifest.json")
    other = next(path.name for path in folder.glob("md-*"))
    no_rows = {name: digest for name, digest in whole.files.items() if not name.startswith("rows-")}
    for message, changes in (
        ("does not fit together", {"choice": whole.choice.model_copy(update={"method": "nope"})}),
        ("does not fit together", {"methods": []}),
        ("does not fit together", {"labels": [*whole.labels, "more"]}),
        ("names no hash of the file ''", {"files": no_rows}),
        ("cannot be restored as nope", {"methods": entries(folder, name="nope")}),
        ("cannot be restored as rde", {"methods": entries(folder, name="rde")}),
        ("cannot be restored as adue", {"methods": entries(folder, name="adue")}),
        ("cannot be restored as softmax_response", {"methods": entries(folder, options={"nope": 1})}),
        ("cannot be restored as softmax_response", {"methods": entries(folder, options={"head": 1})}),
        ("cannot be restored as softmax_response", {"methods": entries(folder, recalibration={})}),
        ("has schema version 0 and this dubio reads 1", {"schema_version": 0}),
    ):
        refused(folder, message, **changes)
    all_one = [entry.model_copy(update={"file": other}) for entry in whole.methods if not entry.name.startswith("md")]
    refused(folder, "cannot be restored as temperature", methods=all_one)
    load_artifact(folder.parent)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"schema_version": 1}', "[" * 100_000, "1" * 5000, "\ud800"])
def test_no_manifest_at_all(folder, text):
    (folder / "manifest.json").write_text(text, errors="surrogatepass")
    with pytest.raises(ArtifactError, match=r"manifest\.json") as caught:
        load_artifact(folder.parent)
    assert "\n" not in str(caught.value)


def test_fields_of_another_type(folder):
    path = folder / "manifest.json"
    body = read_manifest(path).model_dump(mode="json")
    for changes in ({"labels": "food"}, {"labels": None}, {"methods": {}}, {"nope": 1}, {"costs": {"md": {"x": "y"}}}):
        path.write_text(_canonical(body | changes))
        with pytest.raises(ArtifactError, match="does not follow the schema at "):
            load_artifact(folder.parent)
