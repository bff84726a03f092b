"""The new process of the round trip: restores every method that another process has fitted, and scores with it.

Usage: round_trip_child.py FOLDER, with rows.safetensors and, by precision, an artefact and the bare states.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from dubio.artifacts.store import load_artifact
from dubio.containers import Representations
from dubio.scores.base import State
from dubio.scores.registry import METHODS


def main(folder: Path) -> None:
    """Writes scores.safetensors: `precision.route.method` -> uncertainty or error probability."""
    tables, out = load_file(folder / "rows.safetensors"), {}
    for precision in ("float32", "bfloat16"):
        rows = Representations.of(tables[f"{precision}.features"], tables[f"{precision}.logits"])
        artifact, _ = load_artifact(folder / precision)
        for name, method in artifact.methods.items():
            u = method.score.score(rows)
            out[f"{precision}.artifact.{name}"] = u
            out[f"{precision}.probability.{name}"] = method.recalibrator.predict(u)
            out[f"{precision}.certified.{name}"] = np.array(method.certified)
        for path in sorted((folder / precision / "states").glob("*.json")):
            stored = json.loads(path.read_text(encoding="utf-8"))
            method = METHODS[path.stem].build(**stored["options"])
            arrays = load_file(path.with_suffix(".safetensors"))
            out[f"{precision}.state.{path.stem}"] = method.restore(State(arrays, stored["facts"])).score(rows)
    save_file(out, folder / "scores.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main(Path(sys.argv[1]))
