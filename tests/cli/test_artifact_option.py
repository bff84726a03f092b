import json
import shutil

import pytest

from tiny_classifier import dubio, snapshot

REVISION = "0" * 40


def assert_works(adapter, tiny, folder):
    """Fits, scores and evaluates `adapter` with its artefact in `folder`, as the tiny classifier's own does."""
    where = ("--artifact", folder / "fitted")
    ask = ("--train", tiny.train, "--calibration", tiny.calibration, "--methods", "softmax_response,md")
    done = dubio("fit", adapter, *ask, *where)
    assert done.code == 0, done
    assert done.out.endswith(f"wrote {folder / 'fitted' / 'dubio' / 'manifest.json'}\n")
    done = dubio("score", adapter, tiny.test, "--output", folder / "there.csv", *where)
    assert done.code == 0, done
    assert '"uncertainty_md","error_probability"' in (folder / "there.csv").read_text()
    done = dubio("evaluate", adapter, "--test", tiny.test, *where)
    assert done.code == 0, done
    return json.loads((folder / "fitted" / "dubio" / "manifest.json").read_text())


def test_artifact_in_a_folder_of_its_own(cached, tmp_path):
    before = snapshot(cached.adapter)
    manifest = assert_works(cached.adapter, cached, tmp_path)
    assert manifest["model"]["adapter"] == "adapter"
    assert snapshot(cached.adapter) == before


def test_adapter_on_the_hub(cached, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(cached.adapter, home / "snapshots" / REVISION, ignore=shutil.ignore_patterns("dubio"))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(REVISION)
    alone = dubio("fit", "owner/tiny", "--calibration", cached.calibration)
    assert (alone.code, alone.err) == (
        2, "dubio: owner/tiny is not a local folder; name one for what is fitted by --artifact\n"
    )  # fmt: skip
    manifest = assert_works("owner/tiny", cached, tmp_path)
    assert manifest["model"]["adapter"] == "owner/tiny"
    absent = dubio("fit", "owner/none", "--calibration", cached.calibration, "--artifact", tmp_path)
    assert (absent.code, absent.err.count("\n")) == (2, 1)
    assert "owner/none is no local folder and could not be fetched" in absent.err


@pytest.mark.parametrize("precision", [None, "float32"])
def test_scored_as_fitted(cached, tmp_path, precision):
    """What was fitted at another length and precision is scored at that length and precision."""
    where = ("--artifact", tmp_path)
    fitted = dubio("fit", cached.adapter, "--calibration", cached.calibration, "--methods", "softmax_response", *where,
                   "--max-length", "16", "--precision", "bfloat16")  # fmt: skip
    assert fitted.code == 0, fitted
    asked = () if precision is None else ("--precision", precision)
    for length in ((), ("--max-length", "16")):
        done = dubio("score", cached.adapter, cached.test, "--output", tmp_path / "out.csv", *where, *asked, *length)
        if precision is None:
            assert done.code == 0, done
        else:  # float32 logits are not those that were fitted on
            assert (done.code, "the artifact was fitted in bfloat16, not float32" in done.err) == (2, True)
