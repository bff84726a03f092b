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


@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_numbers_are_ranks_among_the_distinct(count):
    values = np.random.default_rng(count).integers(0, count + 1, count).astype(np.uint64) * np.uint64(3**40)
    distinct, expected = np.unique(values, return_inverse=True)
    numbers, width = near._numbers(values)
    assert (numbers.tolist(), width) == (expected.tolist(), len(distinct))


def test_a_text_holds_the_windows_of_its_own_letters():
    keys = ["", "a", "abcd", "abcde", "deabcdeabc", "\ud800bcdef", "\U0001f600 f"]
    sets = near._shingles(keys).toarray()
    own = [{key.ljust(4)[i : i + 4] for i in range(max(1, len(key) - 3))} for key in keys]
    assert sets.sum(axis=1).tolist() == [len(held) for held in own]
    assert (sets @ sets.T).tolist() == [[len(a & b) for b in own] for a in own]
    assert sets.max() == 1


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
    linked = near._linked(near._shingles([near.near_key(text) for text in texts]), np.random.default_rng(0))
    assert set(linked.tolist()) == {0}


def test_copies_in_a_table_of_other_texts_are_one_group():
    copies = [f"RT @user{i}: what a day to be here with all of you https://t.co/{i}abc" for i in range(40)]
    texts = [*MESSAGES[:360], *copies]
    groups = near.near_duplicate_groups(texts)
    assert len(set(groups[360:])) == 1
    assert np.bincount(groups).max() == 40


def messages(count, seed):
    g = np.random.default_rng(seed)
    words = ["".join(g.choice(list("abcdefghijklmnoprstuvw"), g.integers(3, 9))) for _ in range(800)]
    return [" ".join(g.choice(words, 8)) for _ in range(count)]


MESSAGES = messages(400, 0)
ASK = "You are a careful annotator. Read the message and say which of the given intents it has, in one word. Message: "
END = " Answer now, in one word of those given above, and explain nothing."
TEMPLATES = {
    "prefix": [ASK + m for m in MESSAGES],
    "suffix": [m + END for m in MESSAGES],
    "middle": [ASK + m + END for m in MESSAGES],
    "two slots": [f"Premise: {a} Given that premise, does this follow or not? Hypothesis: {b} Answer in one word."
                  for a, b in zip(MESSAGES, messages(400, 1), strict=True)],
    "few words": [ASK + " ".join(np.random.default_rng(i).permutation(WORDS)[:6]) for i in range(400)],
    "sums": [f"{ASK}{i} + {i * 7 % 113}" for i in range(400)],
    "numbers alone": [f"Order {i} shipped" for i in range(400)],
    "log": [f"Connection from 10.0.{i % 256}.{i * 7 % 256} port {9000 + i * 37} {('failed', 'closed')[i % 2]}"
            for i in range(400)],
    "addresses": [f"Is this address malicious? Answer yes or no: http://{m.replace(' ', '-')}.com" for m in MESSAGES],
    "json": [f'{{"user": "{m[:3]}", "lang": "en", "text": "{m}", "id": {i}}}' for i, m in enumerate(MESSAGES)],
    "four templates": [f"{t}: {m}" for m, t in zip(MESSAGES, messages(4, 9) * 100, strict=True)],
    "one row without": [*(ASK + m for m in MESSAGES[:-1]), "an odd row"],
    "a third without": [(ASK if i % 3 else "") + m for i, m in enumerate(MESSAGES)],
    "some cut": [(ASK + m)[: -1 - i % 20] if i % 10 == 0 else ASK + m for i, m in enumerate(MESSAGES)],
    "a word otherwise": [ASK.replace("careful", "diligent") + m if i % 3 else ASK + m for i, m in enumerate(MESSAGES)],
}  # fmt: skip


@pytest.mark.parametrize("kind", TEMPLATES)
def test_texts_of_one_template_are_no_repeats(kind):
    texts = TEMPLATES[kind]
    assert len(set(texts)) == 400
    counts = np.bincount(near.near_duplicate_groups(texts))
    assert counts.max() <= 3
    assert len(counts) >= 390


@pytest.mark.parametrize("wrap", [lambda m: ASK + m, lambda m: m + END, lambda m: ASK + m + END, lambda m: m])
def test_repeats_are_found_within_a_template(wrap):
    """Each message comes again with another mark, in other case, and with a word changed: one group of four."""
    texts = []
    for own in MESSAGES[:100]:
        words = own.split()
        words[3] = words[3] + "s"
        texts += [wrap(own), wrap(own + "!!"), wrap(own.upper()), wrap(" ".join(words))]
    assert near.near_duplicate_groups(texts).tolist() == np.repeat(np.arange(100), 4).tolist()


def test_a_group_too_small_to_be_a_template_stays_one():
    texts = [*MESSAGES, *(f"set a {i} minute timer" for i in range(19))]
    assert len(set(near.near_duplicate_groups(texts)[400:])) == 1
    few = [f"set a {i} minute timer" for i in range(19)]
    assert len(set(near.near_duplicate_groups(few))) == 1


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
