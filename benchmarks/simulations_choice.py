"""Is the choice among methods left to luck? By simulation, as docs/gotchas.md shows it. Last: JSON.

    python benchmarks/simulations_choice.py [--draws 500] [--workers 2] [--only equal better]

Rows of the table that have as many draws already are kept.

Each draw makes calibration rows with a given number of errors, an incumbent and RIVALS other scores, and asks
`choose`. Scores are normal, higher by a shift on wrong rows (the shift sets the error ROC-AUC), and share a part of
their noise, `correlation`. A win is a draw in which any other score than the incumbent is chosen.

    chance    all errors are pure chance: every score has ROC-AUC .5, and all are independent
    equal     every score has ROC-AUC .8 and noise of its own
    blurred   the same, and noise is shared: correlation .8
    repeats   as blurred, and texts repeat 1 to 5 times: as many groups with an error as the column says
    better    one of the rivals has ROC-AUC .83, the others .80, like the incumbent: it should win
"""

import argparse
import json
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.special import betaincinv, ndtri

from dubio.containers import Representations
from dubio.files import write_json
from dubio.workflow.fitting import INCUMBENT, choose

RIVALS = 24
ERRORS, RATES = (5, 7, 10, 20, 50, 200), (0.01, 0.1)
AUC, CORRELATION = {"chance": 0.5}, {"blurred": 0.8, "repeats": 0.8, "better": 0.8}
BETTER, MANY = 0.03, 500  # gain in ROC-AUC; errors


def shift_of(auc):
    """Of wrong rows, in standard deviations."""
    return float(np.sqrt(2) * ndtri(auc))


def scores_of(scenario, wrong, correlation, generator):
    """`[K + 1, N]`: the incumbent, and its rivals."""
    shared = generator.normal(size=wrong.shape)
    own = generator.normal(size=(RIVALS + 1, *wrong.shape))
    auc = np.full(RIVALS + 1, AUC.get(scenario, 0.8))
    auc[1] += BETTER * (scenario == "better")
    shift = np.array([shift_of(value) for value in auc])[:, None]
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own + shift * wrong


def judged_rows(wrong, groups):
    """Rows of two classes of which those are wrong."""
    logits = np.tile([0.0, 3.0], (len(wrong), 1))
    return Representations.of(np.zeros((len(wrong), 1)), logits, np.where(wrong, 0, 1), groups)


def wins(scenario, errors, rate, correlation, seed):
    """Which score is chosen: 0 the incumbent, 1 the first rival, ...; -1 where there are too few errors to choose."""
    generator = np.random.default_rng([seed, errors, int(1000 * rate)])
    wrong, groups = np.arange(round(errors / rate)) < errors, None
    if scenario == "repeats":
        groups = np.repeat(np.arange(len(wrong)), generator.integers(1, 6, size=len(wrong)))
    scores = scores_of(scenario, wrong, correlation, generator)
    if groups is not None:
        wrong, scores = wrong[groups], scores[:, groups]
    names = [INCUMBENT, *(f"rival {k}" for k in range(1, RIVALS + 1))]
    found = choose(dict(zip(names, scores, strict=True)), judged_rows(wrong, groups))
    return -1 if found.why.startswith("Softmax response decides") else names.index(found.method)


def simulate(scenario, errors, rate, correlation, draws, pool):
    """One row of the table. `most`: the exact upper 97.5 % bound of the share of wins."""
    jobs = [(scenario, errors, rate, correlation, seed) for seed in range(draws)]
    chosen = np.array(pool.starmap(wins, jobs, chunksize=max(1, draws // 50)))
    won, right = int((chosen > 0).sum()), int((chosen == 1).sum())
    most = 1.0 if won == draws else float(betaincinv(won + 1, draws - won, 0.975))
    return {
        "scenario": scenario, "errors": errors, "rate": rate, "correlation": correlation, "rivals": RIVALS,
        "draws": draws, "won": won, "most": round(most, 4), "too_few": bool((chosen == -1).all()),
        **({"the_better": right} if scenario == "better" else {}),
    }  # fmt: skip


def cells():
    """(scenario, errors, rate, correlation) of every row."""
    nothing = [
        (scenario, errors, rate, CORRELATION.get(scenario, 0.0))
        for scenario in ("chance", "equal", "blurred", "repeats") for rate in RATES for errors in ERRORS
    ]  # fmt: skip
    return nothing + [("better", MANY, rate, correlation) for rate in RATES for correlation in (0.7, 0.8, 0.9)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="scenarios")
    parser.add_argument("--out", type=Path, default=Path("results/simulations/choice.json"))
    options = parser.parse_args()
    rows = {key_of(row): row for row in (json.loads(options.out.read_text()) if options.out.exists() else [])}
    with get_context("spawn").Pool(options.workers) as pool:
        for cell in cells():
            known = rows.get(cell, {"draws": 0})
            if known["draws"] < options.draws and (not options.only or cell[0] in options.only):
                rows[cell] = simulate(*cell, options.draws, pool)
                print(json.dumps(rows[cell]), flush=True)
                write_json(options.out, [rows[cell] for cell in cells() if cell in rows])  # survives a kill


def key_of(row):
    """The cell of a row."""
    return row["scenario"], row["errors"], row["rate"], row["correlation"]


if __name__ == "__main__":
    main()
