"""Rows to read: the most suspicious, those answered and wrong, those left to a person although they are right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dubio.arrays import Bool
from dubio.report.content import ReportContent
from dubio.report.words import percent, printable

SUSPICIOUS, FEW, CUT = 20, 10, 200


@dataclass(frozen=True)
class TestRow:
    """One row; `row` counts from 1, probability is ready to print. full: all of a text that `text` cuts, or empty."""

    row: int
    text: str
    full: str
    predicted: str
    label: str
    uncertainty: str
    probability: str
    wrong: bool
    answered: bool


@dataclass(frozen=True)
class Rows:
    """Some of `total` rows of one kind."""

    total: int
    shown: Sequence[TestRow]


def suspicious(content: ReportContent) -> Rows:
    """The rows with the highest uncertainty of the chosen method, the highest first."""
    worst = np.argsort(-content.scores[content.chosen].uncertainty, kind="stable")[:SUSPICIOUS]
    return Rows(len(content.errors), [_row(content, int(at)) for at in worst])


def answered_wrong(content: ReportContent) -> Rows:
    """Rows that fall under the threshold and are wrong, the surest first."""
    return _some(content, content.answered & content.errors)


def kept_right(content: ReportContent) -> Rows:
    """Rows that are left to a person although they are right, the surest first."""
    return _some(content, ~content.answered & ~content.errors)


def foreign(content: ReportContent) -> Rows:
    """Out-of-domain rows that would be answered, the surest first; none where their texts are not at hand."""
    if content.chosen not in content.ood:
        return Rows(0, [])
    scores = content.ood[content.chosen]
    under = content.threshold.answers(scores.uncertainty)
    order = [int(at) for at in np.argsort(scores.uncertainty, kind="stable") if under[at]]
    shown = order[:FEW] if len(content.ood_texts) == len(scores) else []
    p = scores.error_probability
    return Rows(len(order), [
        TestRow(at + 1, *_cut(content.ood_texts[at]), "", "", f"{scores.uncertainty[at]:.4g}",
                "–" if p is None else percent(float(p[at])), wrong=False, answered=True)
        for at in shown
    ])  # fmt: skip


def _some(content: ReportContent, kind: Bool) -> Rows:
    order = [int(at) for at in _surest(content) if kind[at]]
    return Rows(len(order), [_row(content, at) for at in order[:FEW]])


def _surest(content: ReportContent) -> NDArray[np.intp]:
    return np.argsort(content.scores[content.chosen].uncertainty, kind="stable")


def _row(content: ReportContent, at: int) -> TestRow:
    scores = content.scores[content.chosen]
    p = scores.error_probability
    return TestRow(
        at + 1, *_cut(content.texts[at]), printable(str(content.predicted[at])), printable(str(content.labels[at])),
        f"{scores.uncertainty[at]:.4g}", "–" if p is None else percent(float(p[at])), bool(content.errors[at]),
        bool(content.answered[at]),
    )  # fmt: skip


def _cut(text: str) -> tuple[str, str]:
    """What is shown of a text, and all of it where that is more."""
    full = printable(text)
    return (full, "") if len(full) <= CUT else (full[:CUT].rstrip() + " …", full)
