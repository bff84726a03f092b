"""What is to be known of tables before a training of an hour: a look at each, and at what they share.

A problem is what `fit`, `evaluate` or `train` would refuse, or what makes their numbers wrong; a note is worth knowing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from dubio.arrays import Bool, Int64
from dubio.data.arrow import compute, is_bytes, is_text, one_array
from dubio.data.choices import is_question_table
from dubio.data.columns import Columns, choose
from dubio.data.groups import compared
from dubio.data.labels import same_name
from dubio.data.near import near_duplicate_groups
from dubio.data.readers import Source, read_source
from dubio.data.splits import overlap
from dubio.data.tables import TextTable, read_table
from dubio.errors import DubioError

RARE = 5  # rows of a label below which little is learned or measured of it
_SHOWN = 5


@dataclass(frozen=True)
class Tokens:
    """How long rows are for a model. count: (texts, pairs) -> `[N]` tokens. limit: how many of them are read."""

    count: Callable[[Sequence[str], Sequence[str] | None], Int64]
    limit: int


@dataclass(frozen=True)
class Finding:
    """One line. table: whose, or both names of two. kind: a word for programs. rows: how many rows it is about."""

    table: str
    kind: str
    problem: bool
    rows: int
    said: str


@dataclass(frozen=True)
class Look:
    """What a table holds. columns: text, text_pair and label by name, None where there is none. labels: rows of each.

    words, tokens: least, median, the 95th percentile and most in a row; tokens only where a model was named.
    """

    name: str
    rows: int
    columns: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    labels: Mapping[str, int] = field(default_factory=dict[str, int])
    words: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Check:
    """tables: in the order given; findings: those of each table, then those of pairs of tables."""

    tables: tuple[Look, ...]
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> int:
        """How many findings are problems."""
        return sum(finding.problem for finding in self.findings)


def check_tables(
    tables: Mapping[str, Any] | Sequence[str], *, columns: Columns | None = None, tokens: Tokens | None = None
) -> Check:  # fmt: skip
    """Looks at tables, and at what they share.

    tables: by name whatever `read_table` reads, or paths; the first one is taken for the training table, so that labels
    of the others which it lacks are problems. Nothing is raised for a bad table: that is a problem among the findings.
    """
    given = tables if isinstance(tables, Mapping) else {str(path): path for path in tables}
    looks, findings, read = list[Look](), list[Finding](), dict[str, TextTable]()
    for name, where in given.items():
        try:
            table = _read(name, where, columns or Columns(), findings)
        except DubioError as error:
            findings.append(Finding(name, "unreadable", True, 0, str(error).removeprefix(f"{name}: ")))
            looks.append(Look(name, 0))
            continue
        read[name] = table
        looks.append(_look(name, table, tokens))
        findings += _of_labels(name, table, looks[-1].labels)
        findings += _of_texts(name, table)
        if tokens is not None and (cut := int((tokens.count(table.texts, table.pairs) > tokens.limit).sum())):
            said = f"{_rows(cut)} longer than the {tokens.limit:,} tokens that are read; the end is cut off"
            findings.append(Finding(name, "long", False, cut, said))
    findings += _near(read)
    for first, second in combinations(read, 2):
        findings += _between(first, read[first], second, read[second])
    findings += _strange_labels({look.name: look.labels for look in looks if look.labels})
    return Check(tuple(looks), tuple(findings))


def _read(name: str, where: Any, asked: Columns, findings: list[Finding]) -> TextTable:
    """The rows that can be looked at: with text, and a label where most have one."""
    source = read_source(where)
    if asked.text is None and asked.text_pair is None and is_question_table(source, asked):
        return read_table(source, columns=asked)
    chosen = choose(asked, source)
    keep = np.ones(source.frame.num_rows, dtype=np.bool_)
    for column in (chosen.text, chosen.text_pair):
        if column is not None and (blank := _blank(source, column)) is not None and blank.any():
            keep &= ~blank
            findings.append(_missing(name, source, column, blank, "text"))
    if chosen.label is None:
        findings.append(Finding(name, "no labels", False, 0, "no label column was found; name one by --label"))
    elif (blank := _blank(source, chosen.label)) is not None and blank.any():
        keep &= ~blank
        findings.append(_missing(name, source, chosen.label, blank, "label"))
    if not keep.any():
        raise DubioError("no row has what is needed; name the columns by --text and --label")
    index = np.flatnonzero(keep)
    kept = Source(source.name, source.frame.filter(pa.array(keep)), lambda row: source.place(int(index[row])))
    return read_table(kept, columns=chosen, template=False)


def _blank(source: Source, name: str) -> Bool | None:
    """`[N]` where a column is null, NaN, or whitespace alone; None where that is not to be told of its type."""
    column = one_array(source.frame.column(name))
    missing = compute.is_null(column, nan_is_null=True)
    if is_bytes(column.type) or pa.types.is_nested(column.type):
        return None
    if is_text(column.type):
        blank = compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(column)), 0)
        missing = compute.or_(missing, compute.fill_null(blank, True))
    return np.asarray(missing)


def _missing(name: str, source: Source, column: str, blank: Bool, kind: str) -> Finding:
    count, first = int(blank.sum()), source.place(int(np.argmax(blank)))
    said = f"{_rows(count)} with nothing in column {column!r}, the first on {first}; fill or remove them"
    return Finding(name, f"no {kind}", True, count, said)


def _look(name: str, table: TextTable, tokens: Tokens | None) -> Look:
    raw = [] if table.raw_labels is None else [str(value).strip() for value in table.raw_labels.to_pylist()]
    own = table.columns or Columns()
    pairs = table.pairs or [""] * len(table)
    words = np.array([len(a.split()) + len(b.split()) for a, b in zip(table.texts, pairs, strict=True)])
    long = () if tokens is None else _lengths(tokens.count(table.texts, table.pairs))
    columns = {"text": own.text, "text_pair": own.text_pair, "label": own.label}
    return Look(name, len(table), columns, dict(Counter(raw).most_common()), _lengths(words), long)


def _lengths(values: Int64) -> tuple[int, ...]:
    return tuple(int(value) for value in np.percentile(values, [0, 50, 95, 100], method="higher"))


def _of_labels(name: str, table: TextTable, labels: Mapping[str, int]) -> list[Finding]:
    found: list[Finding] = []
    if len(labels) == 1:
        only = f"all rows have the label {next(iter(labels))!r}; nothing can be learned or measured from one label"
        found.append(Finding(name, "one label", True, len(table), only))
    rare = [label for label, count in labels.items() if count < RARE]
    if rare and len(labels) > 1:
        said = f"{len(rare)} of {len(labels)} labels with fewer than {RARE} rows: {_named(rare)}"
        found.append(Finding(name, "rare labels", False, sum(labels[label] for label in rare), said))
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(same_name(label), []).append(label)
    for group in alike.values():
        if len(group) > 1:
            said = f"labels {_named(group)} differ in case or accents alone, and are taken for {len(group)} labels"
            found.append(Finding(name, "alike labels", False, sum(labels[label] for label in group), said))
    return found


def _of_texts(name: str, table: TextTable) -> list[Finding]:
    """Repeated rows, and those of them that have several labels."""
    found: list[Finding] = []
    _, first, code = np.unique(table.rows_hash, axis=0, return_index=True, return_inverse=True)
    if again := len(table) - len(first):
        row = int(np.argmax(np.bincount(code)[code] > 1))
        said = f"{_rows(again)} with the text of an earlier one, such as that on {table.place(row)}"
        found.append(Finding(name, "repeats", False, again, said))
    if table.raw_labels is not None and again:
        label = np.unique([str(v).strip() for v in table.raw_labels.to_pylist()], return_inverse=True)[1]
        pairs = np.unique(np.stack([code, label]), axis=1)
        several = np.flatnonzero(np.bincount(pairs[0]) > 1)
        if len(several):
            rows = np.flatnonzero(code == several[np.argmin(first[several])])
            other = rows[int(np.argmax(label[rows] != label[rows[0]]))]
            names = [str(table.raw_labels[int(row)].as_py()).strip() for row in (rows[0], other)]
            where = f"{table.place(int(rows[0]))} ({names[0]!r}) and {table.place(int(other))} ({names[1]!r})"
            said = f"{_counted(len(several), 'text')} with more than one label, such as {where}; mend the wrong ones"
            found.append(Finding(name, "conflicting labels", False, int(np.isin(code, several).sum()), said))
    return found


def _near(tables: Mapping[str, TextTable]) -> list[Finding]:
    """Near repeats within each table and between any two; the same texts are told by themselves."""
    if not tables:
        return []
    group = near_duplicate_groups([text for table in tables.values() for text in compared(table)])
    ends = np.cumsum([len(table) for table in tables.values()])
    own = dict(zip(tables, np.split(group, ends[:-1]), strict=True))
    found: list[Finding] = []
    for name, table in tables.items():
        same = np.unique(table.rows_hash, axis=0, return_index=True)[1]
        near = len(same) - len(np.unique(own[name][same]))
        if near > 0:
            said = f"{_rows(near)} nearly the same as another; splits and folds keep them together"
            found.append(Finding(name, "near repeats", False, near, said))
    for first, second in combinations(tables, 2):
        near = np.isin(own[second], own[first]) & ~overlap(tables[second].rows_hash, tables[first].rows_hash)
        if near.any():
            place = tables[second].place(int(np.argmax(near)))
            said = (
                f"{_rows(int(near.sum()))} of {second} nearly the same as one of {first}, such as that on {place}; "
                "a model errs less on them than on new texts"
            )
            found.append(Finding(f"{first} and {second}", "near overlap", False, int(near.sum()), said))
    return found


def _between(first: str, one: TextTable, second: str, other: TextTable) -> list[Finding]:
    both, found = f"{first} and {second}", list[Finding]()
    if (one.pairs is None) != (other.pairs is None):
        said = "one holds pairs of texts, the other single texts; a model answers these differently"
        return [Finding(both, "pairs", True, len(other), said)]
    shared = overlap(other.rows_hash, one.rows_hash)
    if shared.any():
        place = other.place(int(np.argmax(shared)))
        said = (
            f"{int(shared.sum()):,} of {_rows(len(other))} of {second} also in {first}, such as that on {place}; "
            "leave them out by --drop-overlap, or split again"
        )
        found.append(Finding(both, "overlap", True, int(shared.sum()), said))
    return found


def _strange_labels(labels: Mapping[str, Mapping[str, int]]) -> list[Finding]:
    """Labels that the first labelled table lacks."""
    names = [*labels]
    found: list[Finding] = []
    for name in names[1:]:
        known = {same_name(label) for label in labels[names[0]]}
        strange = [label for label in labels[name] if same_name(label) not in known]
        if strange:
            rows = sum(labels[name][label] for label in strange)
            many = f"{_counted(len(strange), 'label')} ({_rows(rows)}) of {name} and not of {names[0]}"
            said = f"{many}: {_named(strange)}; no model learns them there"
            found.append(Finding(f"{names[0]} and {name}", "unknown labels", True, rows, said))
    return found


def _named(labels: Sequence[str]) -> str:
    shown = ", ".join(repr(label[:60]) for label in labels[:_SHOWN])
    return shown + (f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")


def _rows(count: int) -> str:
    return _counted(count, "row")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
