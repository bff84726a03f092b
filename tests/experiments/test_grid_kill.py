"""A grid killed at random moments: the final outcomes are those of an undisturbed run, no finished step is redone."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from tiny_grid import config, run, write

from tiny_classifier import environment


def metrics(folder):
    return {path.name: json.loads(path.read_text())["metrics"] for path in (folder / "results").rglob("tiny-*.json")}


def begun(folder):
    """How many steps were begun, finished or not."""
    return sum(len(path.read_text().splitlines()) for path in (folder / "store").rglob("times"))


def killed(folder, path, moments):
    """Runs the grid in processes of their own, each killed so many seconds after it has begun a step; then to its end.

    Returns how many were killed while they ran.
    """
    command = [sys.executable, "-m", "dubio.cli.main", "bench", "run", str(path), "--data", "/",
               "--store", str(folder / "store"), "--results", str(folder / "results")]  # fmt: skip
    count = 0
    for moment in moments:
        before = begun(folder)
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
        while begun(folder) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(moment)
        count += process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True, timeout=600)
    return count


@pytest.mark.slow
def test_ten_kills_change_nothing(small, tmp_path):
    values = config(small, posteriors={"ensemble": {"plan": {"members": 2}}, "mc_dropout": {"plan": {"rate": 0.2}}})
    values["training"]["epochs"] = 6
    run(tmp_path / "undisturbed", values)
    moments = [random.Random(i).uniform(0, 2) for i in range(10)]
    count = killed(tmp_path / "killed", write(tmp_path / "killed", values), moments)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "undisturbed")
    tries = [len(path.read_text().splitlines()) for path in (tmp_path / "killed" / "store").rglob("times")]
    print(f"{len(tries)} steps, {sum(tries)} tries, {count} kills")
    # Each kill interrupts one step at most; a finished one is never begun again.
    assert sum(tries) <= len(tries) + count
