"""Do 95 % intervals hold the truth with few errors, and are equal methods called equal? Last: JSON.

    python benchmarks/simulations_intervals.py [--draws 500] [--workers 2] [--only intervals gains]

Each draw is a test table of which each row is wrong with probability errors / rows, so that the number of errors is
random too, and scores that are normal, higher on wrong rows by the shift of the true error ROC-AUC. `evaluate_scores`
judges it. The truth is that of 2,000,000 rows, or exact.

    intervals    held: share of given intervals that hold the truth; given: share of draws that have one
    gains        two methods of the same true ROC-AUC: held of the gain's interval, `called`: share of p <= .05.
                 independent, alike (correlation .8), shapes (one of twice the spread on wrong rows)
    repeats      as intervals with every row 3 times, told and not told which rows repeat one another
"""

import argparse
import json
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from dubio.containers import Scores
from dubio.files import write_json
from dubio.metrics import Bootstrap, evaluate_scores
from dubio.metrics.table import DETECTION
from dubio.metrics.ties import TieGroups

ROWS, ERRORS, AUC = (200, 2000), (10, 30, 150), (0.75, 0.9)
METRICS = ("accuracy", "error_roc_auc", "error_pr_auc", "aurc", "e_aurc", "augrc", "prr", "risk_at_coverage_80",
           "risk_at_coverage_90", "fpr_at_95_tpr", "coverage_at_risk_5", "coverage_at_risk_10")  # fmt: skip
GAIN, ONE = "error_roc_auc_gain", "one"  # kind of scores: a single method
MANY, DRAWS = 2_000_000, 200  # rows of the truth; resamples of what is resampled


def scores_of(wrong, auc, generator, kind=ONE):
    """`[2, N]` uncertainties with that ROC-AUC."""
    first, second = generator.normal(size=(2, len(wrong)))
    shift = np.sqrt(2) * ndtri(auc)
    if kind == "alike":
        shared = np.sqrt(0.8) * generator.normal(size=len(wrong))
        return np.stack([first, second]) * np.sqrt(0.2) + shared + shift * wrong
    if kind == "shapes":
        second = second * np.where(wrong, 2, 1) + np.sqrt(5) * ndtri(auc) * wrong
        return np.stack([first + shift * wrong, second])
    return np.stack([first, second]) + shift * wrong


@cache
def truth(rate, auc):
    """Metric -> its value on very many rows."""
    generator = np.random.default_rng(99)
    wrong = generator.random(MANY) < rate
    counts = TieGroups.of(scores_of(wrong, auc, generator)[0], wrong).cumulate()
    found = {name: float(metric(counts)[0]) for name, metric in DETECTION.items()}
    return {**found, "accuracy": 1 - rate, "error_roc_auc": auc}


def draw(rows, errors, auc, kind, seed, repeats=0):
    """The table of one draw: (method, metric) -> row; repeats: each row so often, told (> 0) or not told (< 0)."""
    generator = np.random.default_rng([seed, rows, errors, int(100 * auc)])
    wrong = generator.random(rows) < errors / rows
    scores, groups = scores_of(wrong, auc, generator, kind), None
    if repeats:
        of = np.repeat(np.arange(rows), abs(repeats))
        wrong, scores, groups = wrong[of], scores[:, of], of if repeats > 0 else None
    logits, named = np.tile([0.0, 3.0], (len(wrong), 1)), [Scores.of("softmax_response", scores[0])]
    few = kind != ONE  # gains are not resampled: no draws are needed
    named += [Scores.of("other", scores[1])] if few else []
    resampling = Bootstrap(1 if few else DRAWS, seed)
    found = evaluate_scores("test", named, logits, np.where(wrong, 0, 1), bootstrap=resampling, groups=groups)
    return {(m.method, m.metric): m for m in found}


def outcome(rows, errors, auc, kind, seed, repeats=0):
    """Metric -> held the truth (None: no interval), and p of the gain."""
    found = draw(rows, errors, auc, kind, seed, repeats)
    true = truth(errors / rows, auc) if kind == ONE else {GAIN: 0.0}
    out = {}
    for metric in METRICS if kind == ONE else (GAIN,):
        method = {"accuracy": "adapter", GAIN: "other"}.get(metric, "softmax_response")
        row = found[method, metric]
        given = row.low is not None and row.high is not None
        out[metric] = bool(row.low <= true[metric] <= row.high) if given else None
    p = found[("other", f"{GAIN}_p")].value if ("other", f"{GAIN}_p") in found else None
    return {**out, "called": bool(p is not None and p <= 0.05)}


def simulate(cell, draws, pool):
    """One row of the table."""
    what, rows, errors, auc, kind, repeats = cell
    jobs = [(rows, errors, auc, kind, seed, repeats) for seed in range(draws)]
    found = pool.starmap(outcome, jobs, chunksize=max(1, draws // 64))
    held = {}
    for metric in (GAIN,) if what == "gains" else METRICS:
        given = [one[metric] for one in found if one[metric] is not None]
        held[metric] = {"given": len(given) / draws, "held": round(float(np.mean(given)), 4) if given else None}
    return {
        "scenario": what, "rows": rows, "errors": errors, "auc": auc, "kind": kind, "repeats": repeats, "draws": draws,
        "intervals": held, "called": round(float(np.mean([one["called"] for one in found])), 4),
    }  # fmt: skip


def cells():
    """(scenario, rows, errors, ROC-AUC, kind, repeats) of every row."""
    grid = [(rows, errors, auc) for rows in ROWS for errors in ERRORS for auc in AUC]
    few = [(200, errors, auc) for errors in (1, 2, 3, 5) for auc in AUC]
    return [
        *(("intervals", *cell, ONE, 0) for cell in [*grid, (200, 5, 0.75), (200, 5, 0.9)]),
        *(("gains", *cell, kind, 0) for cell in [*few, *grid] for kind in ("independent", "alike", "shapes")),
        *(("repeats", 200, 30, 0.75, ONE, repeats) for repeats in (3, -3)),
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="scenarios")
    parser.add_argument("--out", type=Path, default=Path("results/simulations/intervals.json"))
    options = parser.parse_args()
    rows = []
    with get_context("spawn").Pool(options.workers) as pool:
        for cell in cells():
            if not options.only or cell[0] in options.only:
                rows.append(simulate(cell, options.draws, pool))
                print(json.dumps(rows[-1]), flush=True)
                write_json(options.out, rows)  # what is done survives a kill


if __name__ == "__main__":
    main()
