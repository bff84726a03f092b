"""Seconds to group near repeats among 1,000, 10,000 and 100,000 rows, and their ratios: tenfold where cost is linear.

    python benchmarks/grouping.py [--rows 1000 10000 100000]

Tables: sentences of a vocabulary of 5,000 words, every tenth of them a copy with one word changed; such sentences after
an instruction of 60 words; after one of five instructions; log lines that differ in numbers. Last line: JSON.
"""

import argparse
import json
import time
from itertools import pairwise

import numpy as np

from dubio.data.near import near_duplicate_groups


def words_of(generator, count):
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return ["".join(generator.choice(letters, generator.integers(3, 9))) for _ in range(count)]


def sentences(generator, rows, vocabulary):
    made = [list(own) for own in generator.choice(vocabulary, (rows, 12))]
    for row in range(10, rows, 10):
        made[row] = [*made[row - 3]]
        made[row][int(generator.integers(12))] = str(generator.choice(vocabulary))
    return [" ".join(own) for own in made]


def tables(rows, seed=0):
    """Texts by the name of their kind."""
    g = np.random.default_rng(seed)
    vocabulary = words_of(g, 5000)
    plain = sentences(g, rows, vocabulary)
    instructions = [" ".join(g.choice(vocabulary, 60)) + ": " for _ in range(5)]
    logs = [f"Connection from 10.{i % 256}.{i // 256 % 256}.{g.integers(256)} port {g.integers(65535)} closed"
            for i in range(rows)]  # fmt: skip
    return {
        "sentences": plain,
        "one instruction": [instructions[0] + text for text in plain],
        "five instructions": [instructions[i // 13 % 5] + text for i, text in enumerate(plain)],
        "log lines": logs,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000])
    options = parser.parse_args()
    near_duplicate_groups(tables(100)["sentences"])
    spent, groups = {}, {}
    for rows in options.rows:
        for name, texts in tables(rows).items():
            start = time.process_time()
            found = near_duplicate_groups(texts)
            spent.setdefault(name, []).append(time.process_time() - start)
            groups.setdefault(name, []).append(int(found.max()) + 1)
            print(f"{rows} rows, {name}: {spent[name][-1]:.2f} s", flush=True)
    for name, seconds in spent.items():
        ratios = [after / before for before, after in pairwise(seconds)]
        told = ", ".join(f"{s:.2f} s" for s in seconds)
        print(f"{name}: {told}; ratios {', '.join(f'{r:.1f}' for r in ratios)}; groups {groups[name]}")
    print(json.dumps({"rows": options.rows, "seconds": spent, "groups": groups}))


if __name__ == "__main__":
    main()
