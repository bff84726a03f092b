"""A disk that is full halfway: simulated by a limit on the size of any file, which root must keep to as well."""

import pytest

LIMIT = 4096


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_no_room_for_the_result(cached, forks, tmp_path, kind):
    output, log = tmp_path / f"out.{kind}", tmp_path / "log"
    output.write_text("old")
    code, _ = forks.run(["score", cached.adapter, cached.calibration, "--output", output], log, limit=LIMIT)
    assert (code, log.read_text().count("\n")) == (2, 1), log.read_text()
    assert log.read_text().startswith(f"dubio: cannot write {output}: ")
    assert "File too large; choose another place" in log.read_text()
    assert output.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"log", output.name}


@pytest.mark.parametrize(("cache", "limit"), [("cold", LIMIT), ("warm", LIMIT)])
def test_no_room_for_shards_or_methods(cached, forks, tmp_path, cache, limit):
    log, artifact = tmp_path / "log", tmp_path / "artifact"
    shards = {"cold": tmp_path / "cache", "warm": cached.cache}[cache]
    ask = ["fit", cached.adapter, "--train", cached.train, "--calibration", cached.calibration, "--artifact", artifact,
           "--cache", shards, "--methods", "softmax_response,knn"]  # fmt: skip
    code, _ = forks.run(ask, log, limit=limit)
    assert code == 2, log.read_text()
    assert log.read_text().startswith(f"dubio: cannot write {(artifact / 'dubio') if cache == 'warm' else shards}")
    assert log.read_text().count("\n") == 1
    assert not (artifact / "dubio" / "manifest.json").exists()
    assert not list(tmp_path.rglob(".*"))
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("limit", [LIMIT, 1 << 18])
def test_no_room_for_an_adapter(cached, forks, tmp_path, limit):
    """At the first of the Trainer's files, or in the midst of a checkpoint's tensors."""
    out, log = tmp_path / "adapter", tmp_path / "log"
    ask = ["train", "--train", cached.validation, "--validation", cached.calibration, "--model", cached.base,
           "--out", out, "--set", "epochs=1", "--set", "rank=64"]  # fmt: skip
    code, _ = forks.run(ask, log, limit=limit)
    assert code == 2, log.read_text()
    assert log.read_text().count("dubio: cannot write ") == 1  # among the Trainer's bars
    assert "Traceback" not in log.read_text()
    assert not (out / "adapter_config.json").exists()
