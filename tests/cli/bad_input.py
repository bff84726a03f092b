"""Bad input by name: what to type, what the one line must say, and whether only a forward pass finds it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tiny_classifier import Tiny, write_table


@dataclass(frozen=True)
class Case:
    build: Callable[["Desk"], list[object]]
    message: str
    late: bool


CASES: dict[str, Case] = {}


def case(message, late=False):
    def register(build):
        CASES[build.__name__] = Case(build, message, late)
        return build

    return register


@dataclass(frozen=True)
class Desk:
    """The fitted classifier, and a folder for what a case changes."""

    tiny: Tiny
    folder: Path

    def fit(self, *more, adapter=None, train=None, calibration=None):
        tables = ("--train", train or self.tiny.train, "--calibration", calibration or self.tiny.calibration)
        return ["fit", adapter or self.tiny.adapter, *tables, *more]

    def score(self, *more, adapter=None, source=None, output="out.csv"):
        where = ("--output", self.folder / output)
        return ["score", adapter or self.tiny.adapter, source or self.tiny.test, *where, *more]

    def evaluate(self, *more, adapter=None, test=None):
        report = ("--report", self.folder / "report")
        return ["evaluate", adapter or self.tiny.adapter, "--test", test or self.tiny.test, *report, *more]

    def train(self, *more, train=None, out="new"):
        where = ("--model", self.tiny.base, "--out", self.folder / out)
        return ["train", "--train", train or self.tiny.train, *where, *more]

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def table(self, texts, labels):
        return write_table(self.folder / "table.csv", texts, labels)

    def adapter(self, fitted=True):
        """A copy to be spoilt; without what was fitted if so asked."""
        copy = Path(shutil.copytree(self.tiny.adapter, self.folder / "adapter"))
        if not fitted:
            shutil.rmtree(copy / "dubio")
        return copy

    def part(self, stem):
        """(adapter, a file of its artefact): a copy to be spoilt."""
        adapter = self.adapter()
        return adapter, next(iter((adapter / "dubio").glob(f"{stem}*")))
