"""A posterior of many samples scores a long table within the memory of a shard, in a process of its own."""

import shutil
import subprocess
import sys

import pytest

from tiny_classifier import dubio, environment, sentences, write_table

CHILD = """
import re, sys
from pathlib import Path
from dubio.cli.main import main
try:
    main()
except SystemExit as stop:
    assert stop.code == 0, stop.code
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
Path(sys.argv[sys.argv.index("--output") + 1] + ".peak").write_text(peak)
"""
SAMPLES, SHARD = 400, 2048


@pytest.mark.slow
def test_memory_is_bounded_by_the_shard(cached, tmp_path):
    """400 samples of 10,240 rows are 49 MB of log-probabilities; those of a shard are 10."""
    adapter = tmp_path / "adapter"
    shutil.copytree(cached.adapter, adapter, ignore=shutil.ignore_patterns("dubio", "posteriors"))
    assert dubio("posterior", adapter, "laplace", "--rows", cached.train, "--samples", SAMPLES).code == 0
    methods = "softmax_response,laplace.response,laplace.mutual_information"
    assert dubio("fit", adapter, "--calibration", cached.calibration, "--methods", methods).code == 0
    peaks = []
    for shards in (1, 5):
        (rows,) = sentences(shards * SHARD, seed=17)
        table, out = write_table(tmp_path / f"{shards}.csv", *rows), tmp_path / f"{shards}.parquet"
        arguments = ["score", adapter, table, "--output", out, "--cache", tmp_path / f"cache{shards}"]
        subprocess.run(
            [sys.executable, "-c", CHILD, *map(str, arguments)], check=True, timeout=600, env=environment(),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        peaks.append(int((tmp_path / f"{shards}.parquet.peak").read_text()) / 1024)
    whole = SAMPLES * 5 * SHARD * 3 * 4 / 2**20
    print(f"peak MiB: {peaks}, all samples: {whole:.0f}")
    assert peaks[1] - peaks[0] < whole / 2
