import multiprocessing
import os
import signal

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from dubio.errors import DubioError
from dubio.files import atomic_path, check_folder, sha256_json, write_json, write_text


def leftovers(folder):
    return [path.name for path in folder.glob(".dubio-*")]


def half_written(target, ready):
    with atomic_path(target) as path:
        save_file({"half": np.zeros(9)}, path)  # puts a new file in place of one that it finds
        ready.set()
        signal.pause()


def start(target):
    """A process that has written half of `target` and waits."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=half_written, args=(target, ready))
    process.start()
    assert ready.wait(60)
    return process


def test_leftovers_of_the_killed_are_swept_and_those_of_the_living_kept(tmp_path):
    target = tmp_path / "t.txt"
    process = start(target)
    stranger = tmp_path / ".other.part"
    stranger.write_text("not ours")
    write_text(tmp_path / "u.txt", "whole")
    assert len(leftovers(tmp_path)) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(leftovers(tmp_path)) == 1
    assert not target.exists()
    write_text(tmp_path / "u.txt", "again")
    assert leftovers(tmp_path) == []
    assert stranger.exists()
    assert (tmp_path / "u.txt").read_text() == "again"


def test_where_nothing_can_be_locked(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError("no locks here")))
    (tmp_path / ".dubio-x").mkdir()
    write_text(tmp_path / "t.txt", "whole")
    assert (tmp_path / "t.txt").read_text() == "whole"
    assert leftovers(tmp_path) == [".dubio-x"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: full")])
def test_a_full_disk_is_one_line_and_leaves_the_old(tmp_path, error):
    target = tmp_path / "t.txt"
    target.write_text("old")

    def fill():
        with atomic_path(target) as path:
            path.write_text("ha")
            raise error

    with pytest.raises(DubioError, match=r"cannot write .*t\.txt: (No space left on device|I/O error: full); "):
        fill()
    assert [p.name for p in tmp_path.iterdir()] == ["t.txt"]
    assert target.read_text() == "old"


def test_other_errors_pass_and_leave_nothing(tmp_path):
    with pytest.raises(KeyError), atomic_path(tmp_path / "t.txt"):
        raise KeyError("x")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_whole_and_readable_by_all(tmp_path):
    write_json(tmp_path / "new" / "t.json", {"ä": [1, 2.5, None]})
    assert (tmp_path / "new" / "t.json").read_bytes() == '{\n  "ä": [\n    1,\n    2.5,\n    null\n  ]\n}\n'.encode()
    assert (tmp_path / "new" / "t.json").stat().st_mode & 0o777 == 0o644
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "new" / "u.json", float("nan"))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["t.json"]
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1}) != sha256_json({"a": 1, "b": 2})


def test_folders_are_checked_without_being_made(tmp_path, monkeypatch):
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for place in ("file", "file/a/b", "dangling", "dangling/a", "x" * 300):
        with pytest.raises(DubioError, match="cannot write") as caught:
            check_folder(tmp_path / place)
        assert "\n" not in str(caught.value)
        with pytest.raises(DubioError, match="cannot write"):
            write_text(tmp_path / place / "t.txt", "x")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(DubioError, match="read-only"):
        check_folder(tmp_path)
