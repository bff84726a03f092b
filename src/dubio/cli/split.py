"""`dubio split`: one labelled table -> train, calibration and test, written together or not at all."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dubio.data.columns import Columns
from dubio.data.formats import WRITABLE
from dubio.data.groups import REPEATS
from dubio.data.preparing.splitting import Parts, split_table
from dubio.data.readers import HUB
from dubio.data.tables import TextTable, read_table
from dubio.data.writing import check_fits, check_writable, write_frames
from dubio.errors import DubioError
from dubio.showing import tell


@dataclass(frozen=True)
class Cut:
    """How a table is cut. sizes: as given, by part. groups, seed: see `split_table`. without: tables to keep apart.

    drop_empty: rows without text are left out, where they are refused otherwise.
    """

    sizes: Mapping[str, str]
    groups: str = REPEATS
    seed: int = 0
    without: Sequence[str] = ()
    drop_empty: bool = False


def run(
    source: str, cut: Cut, columns: tuple[str | None, str | None, str | None], out: Path | None, *,
    overwrite: bool = False,
) -> Parts:  # fmt: skip
    """Writes a file for each part beside the table (data_train.csv), or into `out` (train.csv).

    Raises DubioError where a file is there already and `overwrite` is not asked for, before anything is read.
    """
    sizes = {name: size_of(name, text) for name, text in cut.sizes.items()}
    targets = targets_of(source, [name for name, size in sizes.items() if size != 0], out)
    _check_free(source, targets, overwrite)
    own = Columns(*columns)
    table = read_table(source, columns=own, need_labels=True, drop_empty=cut.drop_empty)
    others = [
        read_table(where, columns=Columns(own.text, own.text_pair), drop_empty=cut.drop_empty) for where in cut.without
    ]
    parts = split_table(table, sizes, groups=cut.groups, without=others, seed=cut.seed)
    frames = {targets[name]: part.frame for name, part in parts.tables.items()}
    for target, frame in frames.items():
        check_fits(frame, target)
    write_frames(frames)
    for name, part in parts.tables.items():
        tell(f"{name}: {len(part):,} rows; wrote {targets[name]}")
    tell(_summary(table, parts))
    for note in parts.notes:
        tell(f"note: {note}", file=sys.stderr)
    return parts


def size_of(name: str, text: str) -> float | int | None:
    """`rest` -> None, `20%` and `0.2` -> 0.2, `2000` -> 2000; raises DubioError on what is neither."""
    text = text.strip().lower()
    try:
        if text == "rest":
            return None
        if text.endswith("%"):
            return float(text[:-1]) / 100
        value = float(text) if "." in text else int(text)
    except ValueError as error:
        raise DubioError(f"--{name} {text!r}: give a share (0.2 or 20%), a number of rows (2000), or rest") from error
    if value == 1 and isinstance(value, int):
        raise DubioError(f"--{name} 1 may be one row or the whole table; write 100% for the whole")
    return value


def targets_of(source: str, names: Sequence[str], out: Path | None) -> dict[str, Path]:
    """Where each part is written; raises DubioError for a hub data set without a folder."""
    hub = source.startswith(HUB)
    if hub and out is None:
        raise DubioError(f"{source} lies in no folder of yours; name one by --out")
    path = Path(source)
    if path.suffix.lower() == ".gz":
        path = path.with_suffix("")
    kind = path.suffix if path.suffix.lower() in WRITABLE else ".parquet"
    kind = ".parquet" if hub else kind
    if out is not None:
        return {name: out / f"{name}{kind}" for name in names}
    return {name: path.with_name(f"{path.stem}_{name}{kind}") for name in names}


def _check_free(source: str, targets: Mapping[str, Path], overwrite: bool) -> None:
    for target in targets.values():
        check_writable(target)
        if not target.exists():
            continue
        if Path(source).exists() and target.samefile(source):
            raise DubioError(f"{target} is the table that is to be split; name another folder by --out")
        if not overwrite:
            raise DubioError(f"{target} is there already; name another folder by --out, or give --overwrite")


def _summary(table: TextTable, parts: Parts) -> str:
    """How far the labels' shares lie apart, and what is in no part."""
    assert table.raw_labels is not None
    names = sorted({str(value).strip() for value in table.raw_labels.to_pylist()})
    shares = [_shares(part, names) for part in parts.tables.values()]
    apart = 100 * float(np.max(np.max(shares, axis=0) - np.min(shares, axis=0))) if len(shares) > 1 else 0.0
    said = [f"{len(names)} labels, each with the same share in all parts to {apart:.2g} percentage points"]
    if parts.removed:
        said.append(f"left out {parts.removed:,} rows that are in the other tables, or belong to such rows")
    if parts.left:
        said.append(f"{parts.left:,} rows are in no part")
    return "; ".join(said)


def _shares(part: TextTable, names: Sequence[str]) -> list[float]:
    assert part.raw_labels is not None
    found = Counter(str(value).strip() for value in part.raw_labels.to_pylist())
    return [found[name] / len(part) for name in names]
