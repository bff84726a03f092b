"""What all post-hoc scores but kNN and RDE add to the forward pass. Last line: JSON with `ratio` (added / forward).

    python benchmarks/overhead.py [--demo runs/demo] [--rows 3000] [--repeats 5]

Uses the adapter, artefact and test tweets that `make demo` leaves: short rows, so the forward pass is at its cheapest
and the share at its worst. In each repeat the same rows go through the forward pass and through every method's score
and recalibration; `ratio` is the median over repeats. `milliseconds` per 1,000 rows are given method by method, as if
each were alone: one that borrows another's score counts it too, so that their sum is more than what was added.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from dubio.artifacts.store import load_artifact
from dubio.data.tables import read_table
from dubio.fitted import Fitted
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.workflow.evaluation import score_all

LEFT_OUT = ("knn", "rde")  # by prefix: both compare each row with thousands of stored ones


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if not (options.demo / "adapter" / "dubio" / "manifest.json").exists():
        raise SystemExit(f"{options.demo} holds no fitted demo; run `make demo` first")
    model = load(options.demo / "adapter")
    artifact, _ = load_artifact(options.demo / "adapter", model.head)
    kept = {name: m for name, m in artifact.methods.items() if not name.startswith(LEFT_OUT)}
    fitted = Fitted(kept, artifact.choice, artifact.errors)
    texts = list(read_table(options.demo / "data" / "test.csv").texts)[: options.rows]
    forward, added, each = [], [], []
    for _ in range(options.repeats):
        start = time.perf_counter()
        rows = extract(model, texts, how=Extraction(show=False))
        middle = time.perf_counter()
        _, milliseconds = score_all(fitted, rows)
        forward.append(middle - start)
        added.append(time.perf_counter() - middle)
        each.append(milliseconds)
    by_method = {name: round(float(np.median([e[name] for e in each])), 3) for name in kept}
    for name, value in sorted(by_method.items(), key=lambda item: -item[1]):
        print(f"{name:22s} {value:8.3f} ms per 1,000 rows")
    ratios = np.array(added) / np.array(forward)
    print(json.dumps({
        "ratio": round(float(np.median(ratios)), 4), "ratios": [round(float(r), 4) for r in ratios],
        "methods": len(kept), "rows": len(texts), "forward_seconds": round(float(np.median(forward)), 2),
        "added_seconds": round(float(np.median(added)), 3), "milliseconds": by_method,
        "threads": torch.get_num_threads(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
