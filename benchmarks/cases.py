"""Data for the benchmark of posteriors: a name -> rows of its own train split, held-out rows and its test rows.

Texts with classes are for the encoder, questions with lettered choices for the decoder. A set of questions is one of
the published ones, or is made here of texts with classes: the class of a review (two fixed choices), the intent of an
utterance (the right one and three others, drawn and shuffled by row). Answers are letters, or words of one token.
"""

import os
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute, parquet

from dubio.adapters.plan import LabelledTexts
from dubio.data.bundled.packages import minilm_path, smollm2_gguf_path
from dubio.data.tables import read_table
from dubio.models.tokens.answer_letters import as_choices

# Five of CLINC150's ten domains, some of them near to one another, as they stand beside their words.
DOMAINS = {
    "banking": "banking", "credit_cards": "credit cards", "auto_and_commute": "auto and commute", "travel": "travel",
    "home": "home",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One set: its files under DUBIO_DATA, how many rows train, and how adapters are trained on them.

    top: blocks that are adapted (None: all). letters: ABCD or words, of questions. make: questions from a table of
    texts. more_epochs: of LoRA-XS. test_rows: so many of the test split, drawn by the seed (None: all, as they lie).
    held: rows that pick epochs, temperature and TFB's noise. batch: rows a step. data: the folder (None: by its name).
    domains: rows of these alone.
    """

    files: tuple[str, str]
    rows: int
    epochs: int
    length: int
    top: int | None
    lora: dict = field(default_factory=dict)
    xs: dict = field(default_factory=dict)
    letters: str = ""
    make: Callable | None = None
    more_epochs: int = 2
    test_rows: int | None = None
    held: int = 500
    batch: int = 32
    data: str | None = None
    domains: tuple[str, ...] = ()

    @property
    def choices(self):
        """The prompt of questions, or None."""
        return as_choices(self.letters) if self.letters else None

    @property
    def labels(self):
        """The classes' names."""
        return [*self.choices.labels] if self.letters else ["0", "1"]

    @property
    def base(self):
        """The base model: the decoder for questions, else the encoder."""
        return str(smollm2_gguf_path() if self.letters else minilm_path())

    def tables(self, name, seed):
        """(train, held-out, test); the seed picks rows of train alone, but where `test_rows` are drawn."""
        root = Path(os.environ["DUBIO_DATA"]) / (self.data or name)
        whole, test = (parquet.read_table(root / f"{split}.parquet") for split in self.files)
        if self.domains:
            known = pyarrow.array(list(self.domains))
            whole, test = (t.filter(compute.is_in(t["domain"], value_set=known)) for t in (whole, test))
        order = np.random.default_rng(seed).permutation(len(whole))
        held, train = order[: self.held], order[self.held : self.held + self.rows]
        asked = np.arange(len(test))
        if self.test_rows is not None:
            asked = np.random.default_rng(1000 + seed).permutation(len(test))[: self.test_rows]
        part = self._questions if self.letters else _texts
        return tuple(
            part(table.take(at), f"{name}-{split}-{seed}-{len(at)}")
            for table, at, split in ((whole, train, "train"), (whole, held, "held"), (test, asked, "test"))
        )

    def _questions(self, table, name):
        return questions(table if self.make is None else self.make(table), self.choices, name)


def questions(table, choices, name):
    """Prompts and answers of a table of questions, as dubio reads its file."""
    with tempfile.TemporaryDirectory() as folder:
        parquet.write_table(table, Path(folder) / "questions.parquet")
        read = read_table(Path(folder) / "questions.parquet", need_labels=True, template=choices.template)
    return LabelledTexts([*read.texts], None, read.label_ids(choices.labels), name)


def _texts(table, name):
    columns = table.to_pydict()
    first, second = ("text_a", "text_b") if "text_a" in columns else ("text", None)
    pairs = None if second is None else columns[second]
    return LabelledTexts(columns[first], pairs, np.array(columns["label"], dtype=np.int64), name)


def _review(question):
    def make(table):
        rows = table.to_pydict()
        asked = [f"{question} {text}" for text in rows["text"]]
        fixed = [["negative", "positive"]] * len(asked)
        return pyarrow.table({"question": asked, "choices": fixed, "answer": rows["label"]})

    return make


def _domain(table):
    rows = table.to_pydict()
    asked = [f"What is this request about? {text}" for text in rows["text"]]
    answers = [[*DOMAINS].index(name) for name in rows["domain"]]
    return pyarrow.table({"question": asked, "choices": [[*DOMAINS.values()]] * len(asked), "answer": answers})


def _intent(table):
    rows = table.to_pydict()
    names = sorted(set(rows["label_name"]))
    asked, choices, answers = [], [], []
    for text, own in zip(rows["text"], rows["label_name"], strict=True):
        g = np.random.default_rng(zlib.crc32(text.encode()))
        four = [own, *g.choice([name for name in names if name != own], 3, replace=False)]
        order = g.permutation(4)
        asked.append(f"What is this request about? {text}")
        choices.append([four[i].replace("_", " ") for i in order])
        answers.append(int(np.argmin(order)))
    return pyarrow.table({"question": asked, "choices": choices, "answer": answers})


_LORA = {"learning_rate": 2e-3, "dropout": 0.1}
_XS = {"learning_rate": 4e-3, "dropout": 0.0, "rank": 16, "alpha": 16}
_TEXT = {"files": ("train", "validation"), "top": 3, "lora": _LORA, "xs": _XS}
_ASKED = {"lora": {"learning_rate": 1e-3, "dropout": 0.1}, "xs": {**_XS, "learning_rate": 2e-3}}
_MADE = {**_ASKED, "more_epochs": 1}
MINILM = {
    "rte": Case(rows=1200, epochs=5, length=128, **_TEXT), "cola": Case(rows=4000, epochs=4, length=64, **_TEXT),
    "sst2": Case(rows=8000, epochs=4, length=64, **_TEXT),
}  # fmt: skip
_WORDS = {
    "rows": 800, "epochs": 3, "length": 64, "top": 6, "held": 200, "batch": 16, "test_rows": 400, "more_epochs": 1,
    "lora": _ASKED["lora"], "xs": _ASKED["xs"],
}  # fmt: skip
SMOLLM2 = {
    "reviews": Case(
        ("train", "validation"), letters="bad,good", make=_review("How is this review?"), data="sst2", **_WORDS
    ),
    "domains": Case(
        ("train", "test"),
        letters="bank,credit,car,travel,home",
        make=_domain,
        data="clinc150",
        domains=(*DOMAINS,),
        **_WORDS,
    ),
    "sst2": Case(
        ("train", "validation"),
        2500,
        3,
        96,
        None,
        letters="AB",
        make=_review("Is this review negative or positive?"),
        **_MADE,
    ),
    "clinc150": Case(("train", "test"), 2500, 3, 96, None, letters="ABCD", make=_intent, test_rows=800, **_MADE),
    "commonsense_qa": Case(("train", "validation"), 9000, 3, 96, None, letters="ABCDE", **_ASKED),
    "openbookqa": Case(("train", "test"), 4400, 3, 96, None, letters="ABCD", **_ASKED),
    "winogrande": Case(("train_l", "validation"), 9000, 3, 96, None, letters="AB", **_ASKED),
}
