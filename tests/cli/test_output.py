"""Who reads the output may go away, know few letters, or have a full disk: no report is lost and no traceback shown."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dubio.cli import output
from dubio.cli.main import main
from dubio.cli.output import lasting_output
from dubio.errors import DubioError
from tiny_classifier import environment, one_thread

ROOT = Path(__file__).parents[2]


@one_thread()
def run(arguments, folder, out=None, encoding="utf-8"):
    """(exit code, output, standard error) of the command in a process of its own.

    out: descriptor of its standard output; None for a file.
    """
    errors, said = folder / "err", folder / "out"
    child = os.fork()
    if child == 0:
        signal.alarm(300)
        code = 70
        try:
            target = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if out is None else out
            os.dup2(target, 1)
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", encoding=encoding, closefd=False) for n in (1, 2))
            sys.argv = ["dubio", *map(str, arguments)]
            try:
                main()
            except SystemExit as stop:
                code = stop.code
            sys.stdout.flush()  # as Python does at the end
        except BaseException as error:
            os.write(2, f"Traceback: {type(error).__name__}: {error}".encode())
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, said.read_bytes() if said.exists() else b"", errors.read_text(errors="replace")


@pytest.fixture
def closed():
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    handle = os.open("/dev/full", os.O_WRONLY)
    yield handle
    os.close(handle)


def commands(tiny, folder):
    """Each that prints, with what must be there when it has."""
    return {
        "methods": (["methods"], []),
        "fit": (
            ["fit", tiny.adapter, "--calibration", tiny.calibration, "--methods", "softmax_response", "--artifact",
             folder / "artifact"], [folder / "artifact/dubio/manifest.json"],
        ),
        "score": (["score", tiny.adapter, tiny.test, "--output", folder / "out.csv"], [folder / "out.csv"]),
        "evaluate": (
            ["evaluate", tiny.adapter, "--test", tiny.test, "--report", folder / "report"],
            [folder / "report/index.html", folder / "report/metrics.json"],
        ),
        "show": (
            ["bench", "show", ROOT / "results/laplace-minilm", "--draws", 0, "--out", folder / "tables"],
            [folder / "tables/index.html", folder / "tables/tables.md"],
        ),
        "help": (["--help"], []),
    }  # fmt: skip


def slowly(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("command", ["methods", "evaluate", "help", *map(slowly, ("fit", "score", "show"))])
def test_a_closed_pipe_costs_nothing(cached, tmp_path, closed, command):
    arguments, left = commands(cached, tmp_path)[command]
    code, _, err = run(arguments, tmp_path, out=closed)
    assert (code, "Traceback" in err, "Pipe" in err) == (0, False, False), err
    assert [path for path in left if not path.is_file()] == []


@pytest.mark.parametrize(("command", "encoding"), [
    ("methods", "latin-1"), ("methods", "ascii"), ("evaluate", "latin-1"), slowly("evaluate", "ascii"),
    slowly("evaluate", "cp1252"), slowly("show", "latin-1"), slowly("show", "ascii"),
])  # fmt: skip
def test_a_terminal_of_few_letters_shows_all_numbers(cached, tmp_path, command, encoding):
    arguments, left = commands(cached, tmp_path)[command]
    code, plain, err = run(arguments, tmp_path, encoding=encoding)
    assert (code, "Traceback" in err) == (0, False), err
    assert [path for path in left if not path.is_file()] == []

    def numbers(data, how):
        return [word for word in data.decode(how).split() if word[:1].isdigit() and word.isascii()]

    assert len(plain) > 500
    if command != "evaluate":  # which tells its own seconds
        _, whole, _ = run(arguments, tmp_path)
        assert numbers(plain, encoding) == numbers(whole, "utf-8")


@pytest.mark.parametrize("command", ["methods", slowly("evaluate")])
def test_a_full_disk_under_the_output_is_one_line(cached, tmp_path, full, command):
    arguments, left = commands(cached, tmp_path)[command]
    code, _, err = run(arguments, tmp_path, out=full)
    told = [line for line in err.splitlines() if line.startswith("dubio: ")]
    assert (code, len(told), "Traceback" in err) == (2, 1, False), err
    assert "cannot write to standard output: No space left on device" in told[0]
    assert [path for path in left if not path.is_file()] == []
    if command == "evaluate":
        assert json.loads((tmp_path / "report/metrics.json").read_text())


def test_a_shell_shows_no_complaint_of_the_interpreter_either():
    command = f"set -o pipefail; '{sys.executable}' -m dubio methods | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=300, env=environment(), check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1


def test_no_output_at_all():
    command = f"'{sys.executable}' -m dubio methods >&- 2>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=300, env=environment(), check=False)
    assert done.returncode == 0


def test_letters_that_a_terminal_lacks():
    assert "−1.5 – ≤ 2 ’x’ ✓".encode("ascii", output._ERRORS) == b"-1.5 - <= 2 'x' \\u2713"
    assert "\ud800".encode("utf-8", output._ERRORS) == b"\\ud800"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", output._ERRORS)


def test_streams_that_are_no_files_stay_and_are_put_back(tmp_path, monkeypatch):
    text, path = io.StringIO(), tmp_path / "out"
    with path.open("w", encoding="ascii") as real:
        monkeypatch.setattr(sys, "stdout", real)
        monkeypatch.setattr(sys, "stderr", text)
        print("before")
        with lasting_output():
            assert sys.stderr is text
            assert sys.stdout is not real
            print("– within")
        assert sys.stdout is real
        print("after")
    assert path.read_text() == "before\n- within\nafter\n"


def test_what_comes_after_a_full_disk_is_dropped(full):
    stream = io.TextIOWrapper(io.BufferedWriter(output._Lasting(full, "wb", closefd=False)), "utf-8")
    stream.write("x")
    with pytest.raises(DubioError, match="No space left"):
        stream.flush()
    stream.write("y")
    stream.flush()
