"""What the rows of a fit were read from, kept in the manifest: single texts or pairs, and the names of the columns.

An adapter answers a pair and its first text alone differently, so a promise for one is none for the other.
"""

from collections.abc import Mapping
from typing import Any

from dubio.data.columns import Columns
from dubio.data.tables import TextTable
from dubio.errors import DubioError

_SAID = ", which was fitted on (name another by --text, --pair or --label)"


def input_facts(table: TextTable | None, pairs: bool | None) -> dict[str, Any]:
    """For the manifest: whether the rows were pairs, and the columns (null: none was named, or there were none).

    table: the calibration rows, where they are at hand. Nothing where nobody knows whether the rows were pairs.
    """
    pairs = pairs if table is None else table.pairs is not None
    if pairs is None:
        return {}
    read = Columns() if table is None or table.columns is None else table.columns
    return {"input": {"pairs": pairs, "text": read.text, "text_pair": read.text_pair, "label": read.label}}


def columns_of(asked: tuple[str | None, str | None, str | None], facts: Mapping[str, Any]) -> Columns:
    """The columns that are asked for (text, pair, label), else those of the fit by its manifest's entry."""
    text, pair, label = (
        own or (facts[name] if isinstance(facts.get(name), str) else None)
        for own, name in zip(asked, ("text", "text_pair", "label"), strict=True)
    )
    return Columns(text, pair, label, _SAID if (text, pair, label) != asked else "")


def check_pairs(known: Any, found: bool | None, what: str = "dubio was fitted on") -> None:
    """Raises DubioError where rows are pairs and `what` names single texts, or the other way round.

    known, found: whether those and these are pairs; anything but a bool: nobody knows.
    """
    if not isinstance(known, bool) or found is None or known == found:
        return
    if known:
        raise DubioError(
            f"these rows are single texts, and {what} pairs of texts; give the second texts too (--pair, or pairs= in "
            "Python)"
        )
    raise DubioError(
        f"these rows are pairs of texts, and {what} single texts; leave the second texts out (name the column of the "
        "text alone)"
    )
