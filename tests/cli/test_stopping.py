"""Ctrl-C ends a command with one line that says how to go on, and with the exit code of shells."""

import os
import signal
import subprocess
import sys
import time

import pytest

from dubio.cli import methods
from dubio.cli.stopping import how_to_go_on
from tiny_classifier import dubio, environment


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "a", "--calibration", "c.csv"], "are kept in the cache"),
        (["--quiet", "evaluate"], "are kept in the cache"),
        (["score", "a", "t.csv", "--output", "o.csv"], "are kept in the cache"),
        (["score", "a", "t.parquet", "--output", "o.parquet", "--executor", "ray"], "nothing was written"),
        (["train"], "finished epochs are kept"),
        (["bench", "run", "grid.yaml"], "finished steps are kept"),
        (["methods"], "nothing was written"),
        ([], "nothing was written"),
    ],
)
def test_each_command_says_how_to_go_on(arguments, said):
    line = how_to_go_on(arguments)
    assert said in line
    assert line.startswith("stopped; ")
    assert "same command again" in line
    assert "\n" not in line


def test_an_interrupt_is_one_line_and_exit_code_130(monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr(methods, "run", stopped)
    found = dubio("methods")
    assert (found.code, found.out) == (130, "")
    assert found.err.strip() == "dubio: stopped; nothing was written; run the same command again to start over"


def test_a_signal_in_a_process_of_its_own_is_the_same():
    program = (
        "import sys, time\n"
        "from dubio.cli import main, methods\n"
        "def wait():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "methods.run = wait\n"
        "sys.argv = ['dubio', 'methods']\n"
        "main.main()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.1)
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.strip().startswith("dubio: stopped; ")
    assert len(err.strip().splitlines()) == 1
