"""Memory of extracting and scoring a long table above the loaded model. Last line: JSON with `gib_above_model`.

    python benchmarks/memory.py [--demo runs/demo] [--rows 200000]

Runs `dubio score` of the demo's artefact on so many short rows (words of the demo's test tweets, all distinct) in this
process, a fresh cache and a Parquet output, and reads the kernel's peak of resident memory (VmHWM), reset after the
model and the artefact are loaded. Memory-mapped shards count while they are mapped, so the figure is an upper bound.
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from dubio.artifacts.store import load_artifact
from dubio.cli.common import Session
from dubio.cli.score import run
from dubio.data.tables import read_table


def resident(kind):
    return int(re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--rows", type=int, default=200_000)
    options = parser.parse_args()
    tweets = " ".join(read_table(options.demo / "data" / "test.csv").texts)
    words = sorted({word for word in tweets.lower().split() if word.isalpha() and len(word) < 8})
    with tempfile.TemporaryDirectory() as folder:
        table, out = Path(folder) / "rows.parquet", Path(folder) / "scored.parquet"
        texts = [f"{words[i % len(words)]} {words[-i % 1009]} {i}" for i in range(options.rows)]
        parquet.write_table(pa.table({"text": texts}), table)
        del texts, words, tweets
        session = Session(str(options.demo / "adapter"), cache=Path(folder) / "cache", quiet=True)
        load_artifact(session.folder, session.model.head)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before, start = resident("VmRSS"), time.perf_counter()
        run(session, str(table), out, (0.15, 0.1))
        seconds = time.perf_counter() - start
        rows = parquet.read_metadata(out).num_rows
        print(json.dumps({
            "gib_above_model": round(resident("VmHWM") - before, 3), "gib_model": round(before, 3), "rows": rows,
            "rows_per_second": round(rows / seconds, 1),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
