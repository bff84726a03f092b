"""Does a promise hold where calibration rows repeat? By simulation, as docs/gotchas.md shows it. Last: JSON.

    python benchmarks/simulations_promise.py [--draws 1000] [--workers 2]

Each draw makes TEXTS texts, each as many times as the pattern says, and asks for a threshold at a budget of 15 %,
confidence 90 %: with the groups of rows that repeat, and by rows as if none did. Broken: the risk of rows at the
threshold, in the population, exceeds the budget. Two worlds:

    flat    every threshold has a risk of 15.1 %, so that any promise is a broken one: the worst case
    demo    accuracy 77 %, error ROC-AUC .79, over-confident; how often a text repeats depends on nothing

In the flat world how often a text repeats may depend on whether it is wrong; the risk is that of rows all the same.
"""

import argparse
import json
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.special import expit

from dubio.decisions import risk_threshold
from dubio.files import write_json

RISK, DELTA, TEXTS, ABOVE = 0.15, 0.1, 500, 0.151
POPULATION = 400_000
# Name -> (sizes, probability of each, for right and for wrong texts).
PATTERNS = {
    "each once": ((1,), (1.0,), (1.0,)),
    "each 2 times": ((2,), (1.0,), (1.0,)),
    "each 3 times": ((3,), (1.0,), (1.0,)),
    "each 5 times": ((5,), (1.0,), (1.0,)),
    "1 to 5 times": ((1, 2, 3, 4, 5), (0.2,) * 5, (0.2,) * 5),
    "one in ten 2 times": ((1, 2), (0.9, 0.1), (0.9, 0.1)),
    "one in ten 10 times": ((1, 10), (0.9, 0.1), (0.9, 0.1)),
    "one in 500 100 times": ((1, 100), (0.998, 0.002), (0.998, 0.002)),
    "wrong ones 3 times": ((1, 3), (1.0, 0.0), (0.0, 1.0)),
    "right ones 3 times": ((1, 3), (0.0, 1.0), (1.0, 0.0)),
}
DEPENDENT = ("wrong ones 3 times", "right ones 3 times")


def worlds_of(pattern):
    """Worlds in which the pattern is simulated."""
    return ("flat",) if pattern in DEPENDENT else ("flat", "demo")


def flat_rate(pattern):
    """Error rate of texts at which that of rows is ABOVE."""
    sizes, right, wrong = (np.array(part) for part in PATTERNS[pattern])
    r, w = sizes @ right, sizes @ wrong
    return ABOVE * r / (w * (1 - ABOVE) + ABOVE * r)


def texts_of(world, pattern, count, generator):
    """Uncertainty `[T]`, probability of error `[T]`."""
    if world == "flat":
        return generator.random(count), np.full(count, flat_rate(pattern))
    odds = generator.normal(-1.6, 1.3, count)
    return expit(1.5 * odds), expit(odds)


def demo_risk(threshold):
    """Of a large population at or below the threshold, where sizes depend on nothing."""
    if not hasattr(demo_risk, "table"):
        uncertainty, probability = texts_of("demo", "", POPULATION, np.random.default_rng(99))
        order = np.argsort(uncertainty)
        demo_risk.table = uncertainty[order], np.cumsum(probability[order]) / np.arange(1, POPULATION + 1)
    ranked, risk = demo_risk.table
    rows = int(np.searchsorted(ranked, threshold, side="right"))
    return (risk[rows - 1] if rows else 0.0), rows / POPULATION


def broken(world, pattern, seed):
    """(broken, coverage) with groups, and by rows."""
    generator = np.random.default_rng([seed, list(PATTERNS).index(pattern)])
    uncertainty, probability = texts_of(world, pattern, TEXTS, generator)
    wrong = generator.random(TEXTS) < probability
    sizes, right_share, wrong_share = PATTERNS[pattern]
    times = np.where(
        wrong, generator.choice(sizes, TEXTS, p=wrong_share), generator.choice(sizes, TEXTS, p=right_share)
    )
    at = np.repeat(np.arange(TEXTS), times)
    out = []
    for groups in (at, None):
        found = risk_threshold(uncertainty[at], wrong[at], RISK, DELTA, groups=groups).threshold
        if found is None:
            out += [False, 0.0]
        elif world == "flat":
            out += [True, float((uncertainty <= found).mean())]
        else:
            risk, coverage = demo_risk(found)
            out += [bool(risk > RISK), coverage]
    return out


def simulate(world, pattern, draws, pool):
    """One row of the table."""
    found = np.array(pool.starmap(broken, [(world, pattern, seed) for seed in range(draws)], chunksize=20), dtype=float)
    names = ("broken", "coverage", "broken_by_rows", "coverage_by_rows")
    shares = {name: round(float(value), 4) for name, value in zip(names, found.mean(axis=0), strict=True)}
    return {"world": world, "pattern": pattern, "texts": TEXTS, "draws": draws, **shares}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/simulations/promise_repeats.json"))
    options = parser.parse_args()
    rows = []
    with get_context("spawn").Pool(options.workers) as pool:
        for pattern in PATTERNS:
            for world in worlds_of(pattern):
                rows.append(simulate(world, pattern, options.draws, pool))
                print(json.dumps(rows[-1]), flush=True)
                write_json(options.out, rows)  # what is done survives a kill


if __name__ == "__main__":
    main()
