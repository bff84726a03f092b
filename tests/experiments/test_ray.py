"""The same grid as tasks of a Ray cluster: the same outcomes, failures recorded, a lost worker made good."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tiny_grid import config, run

from tiny_classifier import save_base

ray = pytest.importorskip("ray")

from dubio_bench.run.ray_executor import RayExecutor  # noqa: E402


@pytest.fixture(scope="module")
def cluster():
    executor = RayExecutor(cpus=2)
    yield executor
    executor.close()


def metrics(folder):
    return {path.name: json.loads(path.read_text())["metrics"] for path in (folder / "results").rglob("tiny-*.json")}


def test_the_outcomes_are_those_of_this_process(cluster, small, tmp_path):
    values = config(small)
    run(tmp_path / "here", values)
    _, status, lines = run(tmp_path / "there", values, cluster)
    assert status.complete
    assert len(lines) == 1 + 6
    assert metrics(tmp_path / "here") == metrics(tmp_path / "there")
    assert len(metrics(tmp_path / "there")) == 2


def test_a_failure_is_recorded_and_the_grid_goes_on(cluster, small, tmp_path):
    broken = save_base(tmp_path / "base", seed=1)
    (broken / "model.safetensors").write_bytes(b"no weights")
    models = {"broken": {"base": str(broken), "family": "bert"}, "tiny": {"base": str(small.base), "family": "bert"}}
    _, status, lines = run(tmp_path, config(small, seeds=[0], models=models), cluster)
    assert status.counts["score"] == (1, 0, 2)
    assert len(status.failed) == 1
    assert sum("failed" in line for line in lines) == 3


def test_a_lost_worker_is_made_good(cluster, small, tmp_path):
    values, killed = config(small, seeds=[0, 1, 2]), []

    def kill():
        """The worker that holds the lock of a step, as soon as there is one, three times."""
        while len(killed) < 3:
            for times in (tmp_path / "store").rglob("times"):
                if (times.parent / "step.json").exists() or times in killed:
                    continue
                for process in Path("/proc").glob("[0-9]*"):
                    try:
                        command = (process / "cmdline").read_bytes()
                        held = b"ray::run_step" in command
                    except OSError:
                        continue
                    if held and len(killed) < 3:
                        killed.append(times)
                        os.kill(int(process.name), signal.SIGKILL)
                        break
                break
            time.sleep(0.05)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    _, status, _ = run(tmp_path, values, cluster)
    thread.join(timeout=1)
    assert len(killed) == 3
    assert status.complete
    run(tmp_path / "undisturbed", values)
    assert metrics(tmp_path) == metrics(tmp_path / "undisturbed")
    for record in (tmp_path / "store").rglob("step.json"):
        assert len((record.parent / "times").read_text().splitlines()) <= 1 + len(killed)
