"""A sample of spoilt tables through the commands: exit code 0 or 2, one line, and nothing left behind."""

import pytest

from table_fuzz import spoilt
from tiny_classifier import dubio, snapshot


@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_spoilt_tables_through_the_commands(cached, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    codes = []
    for seed in range(9000, 9012):
        path, output = spoilt(seed, tmp_path), tmp_path / "out.jsonl"
        adapter = snapshot(cached.adapter)
        if command == "score":
            done = dubio("score", cached.adapter, path, "--output", output, "--quiet")
        else:
            done = dubio("evaluate", cached.adapter, "--test", path, "--quiet")
        codes.append(done.code)
        assert done.code in (0, 2), done
        if done.code == 2:
            assert done.err.startswith("dubio: ")
            assert done.err.count("\n") == 1
            assert not output.exists()
        else:
            output.unlink(missing_ok=True)
        assert snapshot(cached.adapter) == adapter
        path.unlink()
        assert list(tmp_path.iterdir()) == []
    assert set(codes) == {0, 2} or command == "evaluate"


def test_a_spoilt_table_by_a_real_process(cached, forks, tmp_path):
    log = cached.root / "log"
    for seed in (9000, 9001, 9002):
        path = spoilt(seed, tmp_path)
        code, _ = forks.run(["score", cached.adapter, path, "--output", tmp_path / "out.jsonl", "--quiet"], log)
        said = log.read_text()
        assert (code == 0 and "Traceback" not in said) or (code == 2 and said.count("\n") == 1), said
