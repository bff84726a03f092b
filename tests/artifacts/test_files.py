import json
import multiprocessing
import os
import signal
import stat
import threading
import time

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from dubio import files
from dubio.errors import DubioError
from dubio.files import atomic_path, check_folder, open_to_all, sha256_json, write_json, write_text
from dubio.owners import is_gone, read_mark, write_mark

WEEK = 8 * 24 * 3600


@pytest.fixture(autouse=True)
def sweep_always(monkeypatch):
    monkeypatch.setattr(files, "_SWEEP_EVERY", 0.0)


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


def room(folder, number=0, age=0.0, **changes):
    """A room that a writer has left, marked as one of this process; `changes`: of its mark."""
    made = folder / f".dubio-write-{number:016x}"
    made.mkdir()
    write_mark(made / ".owner", made.name)
    mark = json.loads((made / ".owner").read_text()) | changes
    (made / ".owner").write_text(json.dumps(mark))
    (made / "half").write_text("half")
    for path in (made / "half", made / ".owner", made):
        os.utime(path, (time.time() - age,) * 2)
    return made


def dead():
    """The id and the beginning of a process that has ended, and is waited for."""
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    began = int((files.Path(f"/proc/{process.pid}/stat")).read_bytes().rpartition(b")")[2].split()[19])
    process.join()
    return {"pid": process.pid, "began": began}


def test_what_is_certainly_left_behind_goes_and_all_else_stays(tmp_path):
    ended = dead()
    gone = [
        room(tmp_path, 1, **ended),
        room(tmp_path, 2, began=1),  # our id, used again: that process began at another time
        room(tmp_path, 3, place="another machine", age=WEEK),
        room(tmp_path, 4, age=WEEK),
    ]
    empty = tmp_path / f".dubio-write-{5:016x}"
    empty.mkdir()
    os.utime(empty, (time.time() - WEEK,) * 2)
    kept = [
        room(tmp_path, 6),  # of a living process
        room(tmp_path, 7, place="another machine", **ended),
        room(tmp_path, 8, name="another room", **ended, age=WEEK),
        room(tmp_path, 9, kind="something else", **ended, age=WEEK),
        room(tmp_path, 10, pid="1", age=WEEK),
        room(tmp_path, 11, pid=10**30),
        room(tmp_path, 12, pid=-1),
    ]
    for name in (".dubio-cache", ".dubio-x", ".dubio-", f".dubio-write-{13:016x}.bak", f".dubio-write-{13:015x}"):
        kept.append(room(tmp_path, 13, **ended).rename(tmp_path / name))
        os.utime(kept[-1], (time.time() - WEEK,) * 2)
    before = {path: (path / "half").read_text() for path in kept}
    write_text(tmp_path / "t.txt", "whole")
    assert [path for path in (*gone, empty) if path.exists()] == []
    assert {path: (path / "half").read_text() for path in kept} == before


def test_links_pipes_and_strange_marks_are_not_opened(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    ended = dead()
    linked = room(tmp_path, 1, **ended).rename(mine / "room")
    os.utime(linked, (time.time() - WEEK,) * 2)
    (tmp_path / f".dubio-write-{1:016x}").symlink_to(linked)
    os.mkfifo(tmp_path / f".dubio-write-{2:016x}")
    os.mkfifo(tmp_path / ".dubio-pipe")
    (tmp_path / f".dubio-write-{3:016x}").write_text("a file")
    marks = [room(tmp_path, number, **ended) / ".owner" for number in range(4, 9)]
    for mark in marks:
        mark.unlink()
    os.mkfifo(marks[0])
    marks[1].symlink_to(mine / "thesis.txt")
    marks[2].write_text("[" * 4000)
    marks[3].write_bytes(b"\xff\xfe" + bytes(10_000))
    marks[4].mkdir()
    for mark in marks:
        os.utime(mark, (time.time() - WEEK,) * 2, follow_symlinks=False) if not mark.is_dir() else None
        os.utime(mark.parent, (time.time() - WEEK,) * 2)
    before = sorted(path.name for path in tmp_path.iterdir())
    thread = threading.Thread(target=write_text, args=(tmp_path / "t.txt", "whole"), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "t.txt"])
    assert (mine / "thesis.txt").read_text() == "mine"
    assert (mine / "room" / "half").exists()


def test_a_process_that_ended_unwaited_for_is_gone(tmp_path):
    child = os.fork()
    if child == 0:
        write_mark(tmp_path / "mark", "x")
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # a zombie: its id still answers
    mark = read_mark(tmp_path / "mark", "x")
    assert mark["pid"] == child
    assert is_gone(mark)
    os.waitpid(child, 0)
    assert is_gone(mark)
    write_mark(tmp_path / "own", "x")
    assert not is_gone(read_mark(tmp_path / "own", "x"))
    assert read_mark(tmp_path / "own", "y") is None


def test_a_folder_is_listed_once_in_a_while_and_not_at_every_write(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_SWEEP_EVERY", 600.0)
    real, listed = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or real(path))
    for number in range(5):
        write_text(tmp_path / f"{number}.txt", "x")
        write_text(tmp_path / "sub" / f"{number}.txt", "x")
    own = [path for path in listed if path.startswith(str(tmp_path)) and ".dubio-write" not in path]
    assert sorted(own) == [str(tmp_path), str(tmp_path / "sub")]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o027])
def test_modes_are_those_of_the_umask_and_of_the_file_before(tmp_path, umask):
    before = os.umask(umask)
    try:
        (tmp_path / "plain").write_text("x")
        write_text(tmp_path / "new.txt", "x")
        with atomic_path(tmp_path / "new.safetensors") as path:
            save_file({"half": np.zeros(9)}, path)  # which writes for its owner alone
        for mode in (0o600, 0o664, 0o640, 0o755):
            (tmp_path / "old.txt").write_text("old")
            (tmp_path / "old.txt").chmod(mode)
            write_text(tmp_path / "old.txt", "new")
            assert stat.S_IMODE((tmp_path / "old.txt").stat().st_mode) == mode
        save_file({"half": np.zeros(9)}, tmp_path / "library.safetensors")
        open_to_all(tmp_path)
    finally:
        os.umask(before)
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert usual == 0o666 & ~umask
    for name in ("new.txt", "new.safetensors", "library.safetensors"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == usual, name
    assert leftovers(tmp_path) == []


def test_a_device_or_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DubioError, match="pipe: it is a device or a pipe"):
        write_text(tmp_path / "pipe", "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    assert leftovers(tmp_path) == []


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
