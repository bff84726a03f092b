"""Counts by class and pair against slow loops, the flag against exact tests, and what is said of it."""

import numpy as np
from scipy.stats import binomtest

from dubio.report.by_class import class_rows, confused, in_words


def drawn(rows=4000, classes=20, seed=0, spoiled=0.0):
    """Predictions that are wrong 5 % of the time; where class 0 is predicted, more by `spoiled`."""
    g = np.random.default_rng(seed)
    said = g.integers(0, classes, rows)
    wrong = g.random(rows) < 0.05 + np.where(said == 0, spoiled, 0)
    true = np.where(wrong, (said + g.integers(1, classes, rows)) % classes, said)
    names = [f"c{i:02d}\x00" for i in range(classes)]  # a NUL at the end is a part of a name
    return [names[i] for i in said], [names[i] for i in true], g.random(rows) < 0.7


def test_counts_are_those_of_a_loop():
    said, true, answered = drawn()
    rows = class_rows(said, true, answered, 0.05)
    assert len(rows) == 20
    for row in rows:
        mine = [i for i, name in enumerate(said) if name == row.name]
        labelled = [i for i, name in enumerate(true) if name == row.name]
        assert row.labelled == len(labelled)
        assert row.missed == sum(said[i] != row.name for i in labelled)
        assert row.predicted == len(mine)
        assert row.wrong == sum(true[i] != row.name for i in mine)
        assert row.answered == sum(answered[i] for i in mine)
        assert row.answered_wrong == sum(answered[i] and true[i] != row.name for i in mine)
        assert row.over == (row.answered_wrong > 0.05 * row.answered)


def test_p_is_holm_s_of_exact_tests():
    said, true, answered = drawn(spoiled=0.08)
    rows = class_rows(said, true, answered, 0.05)
    single = sorted((binomtest(r.answered_wrong, r.answered, 0.05, alternative="greater").pvalue, r.name) for r in rows)
    expected, running = {}, 0.0
    for rank, (p, name) in enumerate(single):
        running = max(running, min(1.0, p * (len(single) - rank)))
        expected[name] = running
    for row in rows:
        assert abs(row.p - expected[row.name]) < 1e-12


def test_a_class_is_surely_over_only_where_it_is():
    """At an error rate that is the budget, some class is flagged in at most 5 % of draws; a bad one is found."""
    flagged = [any(r.surely for r in class_rows(*drawn(seed=s), 0.05)) for s in range(200)]
    assert sum(flagged) <= 18  # of 200 draws: above, with probability 0.01 at a true rate of 5 %
    found = [class_rows(*drawn(seed=s, spoiled=0.25), 0.05) for s in range(20)]
    assert all(rows[0].surely and rows[0].name == "c00\x00" for rows in found)
    assert "surely so, beyond chance: c00" in in_words(found[0], 0.05)


def test_words_when_nothing_is_answered_or_nothing_is_over():
    said, true = ["a", "b", "a"], ["a", "b", "b"]
    nobody = np.zeros(3, dtype=bool)
    assert "No row is answered" in in_words(class_rows(said, true, nobody, 0.05), 0.05)
    some = np.array([True, True, False])
    assert "Of 2 classes, none has more than 5 %" in in_words(class_rows(said, true, some, 0.05), 0.05)
    assert class_rows(said, true, nobody, 0.05)[0].risk is None
    assert class_rows([], [], np.zeros(0, dtype=bool), 0.05) == []


def test_confused_pairs_are_those_of_a_loop():
    said, true, answered = drawn()
    pairs = confused(said, true, answered, most=5)
    counts = {}
    for a, b in zip(said, true, strict=True):
        if a != b:
            counts[b, a] = counts.get((b, a), 0) + 1
    assert [p.rows for p in pairs] == sorted(counts.values(), reverse=True)[:5]
    for pair in pairs:
        assert counts[pair.label, pair.predicted] == pair.rows
        assert pair.answered == sum(
            bool(k) for a, b, k in zip(said, true, answered, strict=True) if (b, a) == (pair.label, pair.predicted)
        )
