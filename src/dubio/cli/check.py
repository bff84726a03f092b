"""`dubio check`: a look at tables before anything is trained on them, one line a finding."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dubio.arrays import Int64
from dubio.data.columns import Columns
from dubio.data.preparing.checking import Check, Finding, Look, Tokens, check_tables
from dubio.errors import DubioError
from dubio.showing import tell

_LABELS = 8  # named on a line


def run(
    tables: Sequence[str], columns: tuple[str | None, str | None, str | None], model: str | None, *,
    as_json: bool = False,
) -> Check:  # fmt: skip
    """Prints what was found, for people or as JSON. model: whose tokens are counted.

    Raises DubioError where a table is named twice, or the model has no tokenizer.
    """
    if len(set(tables)) < len(tables):
        raise DubioError("a table is named twice; name each once")
    found = check_tables(tables, columns=Columns(*columns), tokens=None if model is None else tokens_of(model))
    if as_json:
        tell(json.dumps({**asdict(found), "problems": found.problems}, indent=2, ensure_ascii=False))
        return found
    for look in found.tables:
        for line in (*_lines(look), *(_line(f) for f in found.findings if f.table == look.name)):
            tell(line)
    names = {look.name for look in found.tables}
    for finding in found.findings:
        if finding.table not in names:
            tell(_line(finding))
    notes = len(found.findings) - found.problems
    tell(f"{_counted(found.problems, 'problem')}, {_counted(notes, 'note')}")
    return found


def tokens_of(model: str) -> Tokens:
    """The tokenizer of an adapter or a base, and how many tokens it reads a row: as trained, or 512 at most."""
    from dubio.models.adapter.files import find_adapter
    from dubio.models.bases.locating import locate_base
    from dubio.models.tokens.tokenizers import find_tokenizer

    adapter = None if Path(model).is_file() else find_adapter(model)
    base = model if adapter is None else adapter.base
    if base is None:
        raise DubioError(f"{model} names no base model; name the base itself")
    tokenizer = find_tokenizer(base, locate_base(base), None if adapter is None else adapter.folder)
    trained = None if adapter is None else adapter.record.get("max_length")
    limit = trained if isinstance(trained, int) else min(int(tokenizer.model_max_length), 512)

    def count(texts: Sequence[str], pairs: Sequence[str] | None) -> Int64:
        options: Any = {"verbose": False, "return_attention_mask": False, "return_length": True}
        encoded = tokenizer(list(texts), None if pairs is None else list(pairs), **options)
        return np.array([len(row) for row in encoded["input_ids"]], dtype=np.int64)

    return Tokens(count, limit)


def _lines(look: Look) -> list[str]:
    if not look.rows:
        return []
    read = [f"{kind.replace('_', ' ')} {name!r}" for kind, name in look.columns.items() if name is not None]
    lines = [f"{look.name}: {look.rows:,} rows" + (f"; columns read: {', '.join(read)}" if read else "")]
    if look.labels:
        shown = ", ".join(f"{label} ({count:,})" for label, count in [*look.labels.items()][:_LABELS])
        more = "" if len(look.labels) <= _LABELS else f", ... and {len(look.labels) - _LABELS} more"
        lines.append(f"{look.name}: {_counted(len(look.labels), 'label')}: {shown}{more}")
    for unit, lengths in (("words", look.words), ("tokens", look.tokens)):
        if lengths:
            least, median, most_of_them, most = lengths
            lines.append(f"{look.name}: {unit} in a row: {least} to {most}, median {median}, 95 % up to {most_of_them}")
    return lines


def _line(finding: Finding) -> str:
    return f"{finding.table}: {'problem' if finding.problem else 'note'}: {finding.said}"


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
