"""Does the interval of a debiased ECE hold the truth, and does the test of calibration find what is there? Last: JSON.

    python benchmarks/simulations_ece.py [--draws 500] [--workers 2] [--only calibrated]

Each draw makes stated probabilities, outcomes from the true ones, and asks `miscalibration`. The truth is the ECE of
very many rows in the same 15 bins. Stated: `errors` Beta(1, 9), error probabilities of a good classifier; `even`
Beta(2, 2); `sure` 1 - .6 Beta(1, 6), confidences of a good classifier; `steps` five levels, as isotonic maps give.
True:

    calibrated   the stated ones: ECE 0, and p <= .05 should be rare
    shifted      log-odds .5 higher
    flattened    log-odds halved
    one_bin      the highest 15th has .3 of what is stated, all else is right
"""

import argparse
import json
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.special import expit, logit

from dubio.files import write_json
from dubio.metrics import Bootstrap
from dubio.metrics.calibration import BINS, CalibrationGroups
from dubio.metrics.miscalibration import miscalibration

ROWS, SCHEMES = (200, 1000, 5000), ("equal_mass", "equal_width")
MANY, DRAWS = 300_000, 300  # rows of the truth; drawn outcomes


def stated_of(kind, rows, generator):
    """`[N]` probabilities."""
    if kind == "errors":
        return generator.beta(1, 9, size=rows)
    if kind == "even":
        return generator.beta(2, 2, size=rows)
    if kind == "sure":
        return 1 - 0.6 * generator.beta(1, 6, size=rows)
    return generator.choice([0.01, 0.03, 0.08, 0.2, 0.5], p=[0.3, 0.3, 0.2, 0.1, 0.1], size=rows)


def true_of(scenario, kind, stated):
    """`[N]` probabilities that outcomes are drawn from."""
    odds = logit(np.clip(stated, 1e-9, 1 - 1e-9))
    if scenario == "calibrated":
        return stated
    if scenario == "one_bin":
        return np.where(stated > edge(kind), 0.3 * stated, stated)
    return expit(odds + 0.5) if scenario == "shifted" else expit(0.5 * odds)


@cache
def edge(kind):
    """Where the highest 15th begins."""
    return float(np.quantile(stated_of(kind, MANY, np.random.default_rng(98)), 1 - 1 / BINS))


@cache
def truth(scenario, kind):
    """Scheme -> ECE of very many rows."""
    stated = stated_of(kind, MANY, np.random.default_rng(99))
    table = CalibrationGroups.of(stated, np.zeros(MANY))
    gap = stated - true_of(scenario, kind, stated)
    return {scheme: float(np.abs(table.members(scheme) @ gap).sum()) for scheme in SCHEMES}


def outcome(scenario, kind, rows, seed):
    """Scheme -> (plain, debiased, low, high, p)."""
    generator = np.random.default_rng([seed, rows])
    stated = stated_of(kind, rows, generator)
    happened = generator.random(rows) < true_of(scenario, kind, stated)
    found = miscalibration(CalibrationGroups.of(stated, happened), SCHEMES, Bootstrap(DRAWS, seed))
    return {s: (m.plain, m.debiased, m.low, m.high, m.p_value) for s, m in found.items()}


def simulate(cell, draws, pool):
    """A row a scheme."""
    scenario, kind, rows = cell
    jobs = [(scenario, kind, rows, seed) for seed in range(draws)]
    found = pool.starmap(outcome, jobs, chunksize=max(1, draws // 64))
    true = truth(scenario, kind)
    for scheme in SCHEMES:
        plain, debiased, low, high, p = np.array([one[scheme] for one in found]).T
        yield {
            "scenario": scenario, "kind": kind, "rows": rows, "scheme": scheme, "draws": draws,
            "true": round(true[scheme], 5), "plain": round(float(plain.mean()), 5),
            "debiased": round(float(debiased.mean()), 5), "low": round(float(low.mean()), 5),
            "high": round(float(high.mean()), 5), "called": round(float((p <= 0.05).mean()), 4),
            "held": round(float(((low <= true[scheme] + 1e-12) & (true[scheme] <= high)).mean()), 4),
        }  # fmt: skip


def cells():
    """(scenario, stated, rows) of every two rows of the table."""
    kinds = [("calibrated", kind) for kind in ("errors", "even", "sure", "steps")]
    kinds += [("shifted", "errors"), ("shifted", "sure"), ("flattened", "even"), ("one_bin", "errors")]
    return [(scenario, kind, rows) for scenario, kind in kinds for rows in ROWS]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="scenarios")
    parser.add_argument("--out", type=Path, default=Path("results/simulations/ece.json"))
    options = parser.parse_args()
    rows = []
    with get_context("spawn").Pool(options.workers) as pool:
        for cell in cells():
            if not options.only or cell[0] in options.only:
                rows += simulate(cell, options.draws, pool)
                print(json.dumps(rows[-2:]), flush=True)
                write_json(options.out, rows)  # what is done survives a kill


if __name__ == "__main__":
    main()
