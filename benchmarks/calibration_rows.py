"""How many labelled rows learned scores take: error ROC-AUC on test, fitted on ever more calibration rows. Last: JSON.

    python benchmarks/calibration_rows.py CONFIG --data FOLDER --store runs/bench [--only data=sst2] [--sizes 100 250]

Reads what `dubio bench run CONFIG` has left in the store (a config with `pooled: five`), so no model runs. Of each size
DRAWS subset(s) of the calibration rows, which are all that the method sees; what is distilled reads no labels of them.
Points over softmax response, mean over subsets and seeds.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from dubio.errors import DubioError
from dubio.files import write_json
from dubio.scores.registry import get_method
from dubio_bench.commands import chooser
from dubio_bench.grid.config import read_config
from dubio_bench.grid.steps import OWN, cells_of, steps_of
from dubio_bench.run.score_step import _head, rows_of
from dubio_bench.run.store import StepStore

METHODS = ("probe", "refitted_calibration", "five.distilled")
DRAWS = 1


def tables_of(step, store):
    """Tables and head of a finished cell; None where a step of it is not in the store."""
    if any(store.record(s.kind, s.key) is None for s in step.needs.values()):
        return None
    here = store.folder("represent", step.needs["represent"].key)
    drawn = {name: store.folder(s.kind, s.key) for name, s in step.needs.items() if name != "represent"}
    return {name: rows_of(here, drawn, name, OWN) for name in ("calibration", "test")}, _head(here)


def unguarded(name, head):
    """The method, without the guard that would hide what few rows do to it."""
    method = get_method(name)
    return method.build(head=head, **({"guard": False} if "guard" in method.options else {}))


def gains(tables, head, size, seed):
    """Method -> points over softmax response on test, fitted on `size` calibration rows."""
    calibration, test = tables["calibration"], tables["test"]
    part = calibration.take(np.sort(np.random.default_rng([seed, size]).permutation(len(calibration))[:size]))
    base = roc_auc_score(test.errors, get_method("softmax_response").build().fit(None, None).score(test))
    found = {}
    for name in METHODS:
        try:
            score = unguarded(name, head).fit(None, part)
        except DubioError:  # too few errors among these rows
            continue
        found[name] = 100 * (roc_auc_score(test.errors, score.score(test)) - base)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=Path("runs/bench"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--sizes", type=int, nargs="+", default=[125, 250, 500, 1000])
    parser.add_argument("--out", type=Path, default=Path("results/calibration_rows_minilm.json"))
    options = parser.parse_args()
    grid, store = read_config(options.config), StepStore(options.store)
    chosen = chooser(grid, options.only) or (lambda _: True)
    points = {}
    for cell in filter(chosen, cells_of(grid)):
        made = tables_of(steps_of(grid, cell, options.data)[0], store)
        if made is None:
            print(f"{cell}: not in the store", flush=True)
            continue
        for size in options.sizes:
            if size <= len(made[0]["calibration"]):
                for draw in range(DRAWS):
                    for name, gain in gains(*made, size, draw).items():
                        points.setdefault((cell.data, size, name), []).append(gain)
        print(cell, {f"{k[1]} {k[2]}": round(float(np.mean(v)), 2) for k, v in points.items() if k[0] == cell.data},
              flush=True)  # fmt: skip
    table = [{"set": data, "rows": size, "method": name, "fits": len(found),
              "gain": round(float(np.mean(found)), 3), "sd": round(float(np.std(found)), 3)}
             for (data, size, name), found in points.items()]  # fmt: skip
    write_json(options.out, {"draws": DRAWS, "table": table})
    print(json.dumps({"cells": len({(r["set"]) for r in table}), "rows": len(table)}))


if __name__ == "__main__":
    main()
