from itertools import combinations

import numpy as np
import pytest

from dubio.data import near
from dubio.errors import DubioError

WORDS = [
    "flight",
    "delay",
    "thanks",
    "crew",
    "seat",
    "luggage",
    "home",
    "wait",
    "hour",
    "phone",
    "hold",
    "cancel",
    "gate",
    "plane",
    "great",
    "worst",
]


def grams(text):
    padded = near.near_key(text).ljust(4)
    return {padded[i : i + 4] for i in range(len(padded) - 3)}


def slow_groups(texts):
    group = list(range(len(texts)))
    sets = [grams(text) for text in texts]
    for i, j in combinations(range(len(texts)), 2):
        if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.7:
            group = [group[i] if g == group[j] else g for g in group]
    order = {g: n for n, g in enumerate(dict.fromkeys(group))}
    return [order[g] for g in group]


@pytest.mark.parametrize("seed", range(4))
def test_against_all_pairs(seed):
    generator = np.random.default_rng(seed)
    texts = []
    for _ in range(60):
        words = list(generator.choice(WORDS, size=generator.integers(1, 14)))
        texts.append(" ".join(words))
        for _ in range(generator.integers(0, 3)):
            words[generator.integers(len(words))] = str(generator.choice(WORDS))
            texts.append(" ".join(words))
    assert near.near_duplicate_groups(texts).tolist() == slow_groups(texts)


def test_what_counts_as_the_same():
    texts = ["RT @a: Great flight! http://t.co/x1", "great   FLIGHT 22", "@united", "@JetBlue", "", "no", "@united",
             "Gr\u00f6\u00dfe \U0001f600"]  # fmt: skip
    assert near.near_duplicate_groups(texts).tolist() == [0, 0, 1, 2, 3, 4, 1, 5]
    assert near.near_duplicate_groups([]).tolist() == []


def test_one_text_a_thousand_times_with_small_changes():
    base = " ".join(WORDS)
    texts = [f"{base} {''.join(chr(97 + int(c)) for c in str(i))}" for i in range(1000)]
    assert len(set(near.near_duplicate_groups(texts).tolist())) == 1


def test_grouped_split_keeps_groups_whole_and_sizes_exact():
    groups = np.concatenate([np.repeat(np.arange(40), 5), np.arange(40, 400)])
    split = near.grouped_split(groups, [100, 200, 50], seed=3)
    assert [int((split == s).sum()) for s in (0, 1, 2)] == [100, 200, 50]
    for group in range(40):
        assert len(set(split[groups == group])) == 1
    assert (split == near.grouped_split(groups, [100, 200, 50], seed=3)).all()
    assert (split != near.grouped_split(groups, [100, 200, 50], seed=4)).any()
    with pytest.raises(DubioError, match="cannot fill"):
        near.grouped_split(groups, [500, 100])
