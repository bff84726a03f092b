"""Grids on Ray: speed-up of two local workers, overhead a cell, memory of the driver. Last line: JSON.

    python benchmarks/scaling.py [--cells 2000] [--rows 300] [--seeds 6]

overhead: trivial steps, each finished in the store as a real one, so that what is left is scheduling; the driver's
memory after a tenth of them and after all. speed-up: the same small real grid (MiniLM with LoRA on its last block,
made-up rows, one seed a cell) by one worker and by two, each into an empty store; the cluster starts before the clock.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from pyarrow import parquet

from dubio_bench.grid.config import Grid
from dubio_bench.grid.steps import Cell, Step
from dubio_bench.run.ray_executor import RayExecutor
from dubio_bench.run.runner import LocalExecutor, Run
from dubio_bench.run.store import StepStore

COMMON = ["the", "a", "was", "very", "today", "it"]


def trivial(step, root):
    """As `run_step`, with nothing to do."""
    store = StepStore(root)
    with store.claim(step.kind, step.key):
        record = {"step": str(step), "key": step.key, "seconds": 0.0, "told": {}}
        store.finish(step.kind, step.key, record)
    return record


def overhead(cells, folder):
    """(milliseconds a cell, MiB of the driver after a tenth, MiB after all)."""
    executor = RayExecutor(cpus=2, work=trivial)
    steps = [Step("score", f"{i:064d}", Cell("none", "none", i), {"predictions": "own"}, {}) for i in range(cells)]
    warm = [Step("score", f"warm-{i:060d}", Cell("none", "none", i), {}, {}) for i in range(8)]
    list(executor.run(warm, folder, {}))  # the workers' start is not scheduling
    start, seen = time.perf_counter(), []
    for i, (_, record, error) in enumerate(executor.run(steps, folder, {})):
        assert record is not None, error
        if i in (cells // 10, cells - 1):
            seen.append(psutil.Process().memory_info().rss / 2**20)
    spent = time.perf_counter() - start
    executor.close()
    return 1000 * spent / cells, *seen


def grid_of(folder, rows, seeds):
    """A real grid of one cell a seed on made-up sentences."""
    g, words = np.random.default_rng(0), {0: ["good", "fine", "great", "happy"], 1: ["bad", "poor", "sad", "awful"]}
    for name, count in (("train", rows), ("validation", 60), ("calibration", rows), ("test", rows)):
        labels = g.integers(0, 2, count)
        noisy = np.where(g.random(count) < 0.2, 1 - labels, labels)
        texts = [" ".join([*g.choice(words[int(c)], 2), *g.choice(COMMON, 5), name, str(i)])
                 for i, c in enumerate(noisy)]  # fmt: skip
        parquet.write_table(pa.table({"text": texts, "label": labels}), folder / f"{name}.parquet")
    tables = {name: f"{name}.parquet" for name in ("train", "validation", "calibration", "test")}
    return Grid.model_validate({
        "name": "scaling", "about": "", "models": {"minilm": {"base": "package:minilm", "family": "bert"}},
        "data": {"made-up": tables}, "seeds": list(range(seeds)), "trainer": "stack",
        "training": {"epochs": 2, "max_length": 32, "top_layers": 1, "learning_rate": 2e-3},
    })  # fmt: skip


def timed(grid, folder, name, executor):
    """Seconds of the whole grid."""
    config = folder / "grid.json"
    config.write_text("{}")
    where = {"root": folder, "store": folder / name / "store", "results": folder / name / "results"}
    start = time.perf_counter()
    status = Run(grid, config, **where, say=lambda _: None).run(executor)
    assert status.complete, status.failed
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        each, early, late = overhead(options.cells, folder / "trivial")
        grid = grid_of(folder, options.rows, options.seeds)
        found = {"local": timed(grid, folder, "local", LocalExecutor())}
        for workers in (1, 2):
            executor = RayExecutor(cpus=workers)
            timed(
                grid.model_copy(update={"seeds": tuple(range(90, 90 + workers))}), folder, f"warm-{workers}", executor
            )
            found[f"workers_{workers}"] = timed(grid, folder, f"ray-{workers}", executor)
            executor.close()
    ratio = found["workers_1"] / found["workers_2"]
    print(json.dumps({
        "cells": options.cells, "overhead_ms": round(each, 2), "driver_mib_early": round(early, 1),
        "driver_mib_late": round(late, 1), "seconds": {k: round(v, 1) for k, v in found.items()},
        "speed_up_2_over_1": round(ratio, 2), "efficiency": round(ratio / 2, 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
