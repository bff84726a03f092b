"""A tiny but real classifier for tests of the commands: a random two-layer BERT, a LoRA trained on it, and its tables.

Every table speaks of three topics in words of their own and in common ones; some labels are noise, so that the trained
adapter is right on most rows and wrong on some.
"""

import csv
import io
import os
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from transformers import AutoTokenizer, BertConfig, BertModel

from dubio.adapters.plan import LabelledTexts, TrainingPlan
from dubio.adapters.trainer import train_adapter
from dubio.cli.main import main
from dubio.data.bundled.packages import minilm_path
from dubio.data.tables import read_table

LABELS = ("food", "sport", "weather")
_WORDS = {
    "food": ["bread", "soup", "cheese", "apple", "kitchen", "dinner", "salt", "butter", "cook", "taste"],
    "sport": ["team", "goal", "match", "player", "coach", "race", "win", "league", "ball", "train"],
    "weather": ["rain", "storm", "sun", "cloud", "wind", "snow", "cold", "heat", "fog", "sky"],
}
_COMMON = "the a was very today we saw it again with some new old and then little big of there here"


@dataclass(frozen=True)
class Tiny:
    """base, adapter: folders. The tables: CSV files with columns id, text, label. cache: of representations."""

    root: Path
    base: Path
    adapter: Path
    train: Path
    validation: Path
    calibration: Path
    test: Path
    ood: Path

    @property
    def cache(self):
        return self.root / "cache" / "representations"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The fitted tiny classifier; read-only: copy what a test changes."""
    return build_fitted(tmp_path_factory.getbasetemp() / "tiny")


@pytest.fixture
def cached(tiny, monkeypatch):
    """The same, with its cache of representations as the user's."""
    monkeypatch.setenv("DUBIO_CACHE", str(tiny.root / "cache"))
    return tiny


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def environment():
    """Of a process that a test starts: one thread, as in `one_thread`, or sums could be rounded in another order."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@contextmanager
def one_thread():
    """Two threads on tiny tensors mostly wait for each other, tenfold where other processes want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def dubio(*arguments):
    """Runs the command in this process; err holds warnings too, as a user would see them."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings(record=True) as seen:
        for category in (UserWarning, FutureWarning, RuntimeWarning):
            warnings.simplefilter("always", category)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["dubio", *map(str, arguments)])
            with pytest.raises(SystemExit) as stop:
                main()
    return Result(stop.value.code, out.getvalue(), err.getvalue() + "".join(f"{w.message}\n" for w in seen))


def sentences(*counts, seed=1, noise=0.12):
    """For each count, (texts, labels): 1 to 4 words of a topic among 2 to 6 common ones; no two texts alike."""
    g = np.random.default_rng(seed)
    labels: dict[str, str] = {}
    while len(labels) < sum(counts):
        label = LABELS[g.integers(3)]
        words = [*g.choice(_WORDS[label], g.integers(1, 5)), *g.choice(_COMMON.split(), g.integers(2, 7))]
        labels.setdefault(" ".join(g.permutation(words)), LABELS[g.integers(3)] if g.random() < noise else label)
    rows, ends = list(labels.items()), np.cumsum(counts)
    return [tuple(zip(*rows[end - count : end], strict=True)) for count, end in zip(counts, ends, strict=True)]


def write_table(path, texts, labels):
    with path.open("w", newline="", encoding="utf-8") as opened:
        rows = ([f"{i:04d}", *row] for i, row in enumerate(zip(texts, labels, strict=True)))
        csv.writer(opened).writerows([["id", "text", "label"], *rows])
    return path


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def snapshot(*folders):
    """Path -> hash of every file (None: a folder) below the folders."""
    found = [path for folder in folders for path in sorted(folder.rglob("*"))]
    return {path: sha256(path.read_bytes()).hexdigest() if path.is_file() else None for path in found}


def save_base(folder, seed=0, width=32):
    """A random BERT with MiniLM's tokenizer."""
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=2 * width,
        max_position_embeddings=64, initializer_range=0.1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm_path()).save_pretrained(folder)
    return folder


@one_thread()
def save_adapter(folder, base, train, validation, **settings):
    """A LoRA trained on two CSV files."""
    labelled = (
        LabelledTexts(table.texts, None, table.label_ids(LABELS), table.content_hash)
        for table in map(read_table, (train, validation))
    )
    plan = {"learning_rate": 3e-2, "epochs": 5, "batch_size": 32, "max_length": 32, "precision": "float32"}
    train_adapter(str(base), LABELS, *labelled, folder, TrainingPlan(**{**plan, "show": False, **settings}))
    return folder


@cache
@one_thread()
def build(root):
    """The classifier under `root`, made once a session, not fitted yet."""
    root.mkdir()
    counts = {"train": 400, "validation": 100, "calibration": 400, "test": 300}
    parts = zip(counts, sentences(*counts.values()), strict=True)
    tables = {name: write_table(root / f"{name}.csv", *rows) for name, rows in parts}
    g = np.random.default_rng(4)
    ood = [" ".join(g.choice(["xyzzy", "quux", "plugh", "frob"], 8)) + f" {row}" for row in range(100)]
    tables["ood"] = write_table(root / "ood.csv", ood, ["?"] * 100)
    base = save_base(root / "base")
    adapter = save_adapter(root / "adapter", base, tables["train"], tables["validation"])
    return Tiny(root, base, adapter, **tables)


@cache
def build_fitted(root):
    """The classifier with all methods fitted by the command, and its calibration rows scored to `scored.csv`."""
    tiny = build(root)
    for arguments in (
        ("fit", tiny.adapter, "--train", tiny.train, "--calibration", tiny.calibration),
        ("score", tiny.adapter, tiny.calibration, "--output", tiny.root / "scored.csv"),
    ):
        done = dubio(*arguments, "--cache", tiny.cache)
        assert done.code == 0, done
    return tiny
