"""`dubio score --executor ray`: a Parquet table, or a folder of its shards, scored by workers of a Ray cluster.

    read_parquet ─► map_batches(one model a worker) ─► this process writes the rows as they come, in their own order

Batches flow: neither a worker nor this process holds more than a few of them, whatever the table's length. A worker
that is lost is replaced, and its batches are scored again. The output appears whole, by atomic rename.
"""

import contextlib
import logging
import re
import tempfile
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from dubio.arrays import Bool
from dubio.artifacts.store import Artifact
from dubio.cli.common import Session
from dubio.data.arrow import ArrowTable
from dubio.data.tables import TextTable
from dubio.data.writing import check_writable
from dubio.decisions.threshold import check_budget
from dubio.errors import DubioError
from dubio.files import atomic_path
from dubio.ray_cluster import connect
from dubio.showing import tell
from dubio.workflow.evaluation import promise
from dubio.workflow.opening import posteriors_of
from dubio.workflow.scoring import Decision, narrowed, score_rows, with_columns
from dubio.workflow.tables import cut_rows

BATCH = 2048  # rows


class Scorer:
    """What a worker does: rows of the table -> the same with the new columns. The model is loaded with the first."""

    def __init__(self, session: Session, methods: str | None, budget: tuple[float, float]) -> None:
        self.session, self.methods, self.budget = session, methods, budget

    @cached_property
    def artifact(self) -> Artifact:
        """With the methods that are asked for."""
        return narrowed(self.session.open(), self.methods)

    @cached_property
    def decision(self) -> Decision:
        """Under the budget."""
        return Decision.of(self.artifact, promise(self.artifact, *self.budget))

    def __call__(self, batch: ArrowTable) -> ArrowTable:
        """Raises DubioError as `dubio score` does, with rows counted within the batch."""
        first = str(batch.column(0)[0])[:60]
        table = _read(self.session, batch, f"the batch whose first value is {first!r}")
        with tempfile.TemporaryDirectory() as room:
            session = replace(self.session, cache=Path(room), quiet=True)
            session.__dict__["model"] = self.session.model  # loaded once
            prepared = session.prepare({"new": table}, ("new",), posteriors_of(self.artifact), say=False)
            scored = score_rows(self.artifact, prepared["new"].stored, self.decision, cut_rows(session.model, table))
        return with_columns(batch, scored)


def run(
    session: Session, source: str, output: Path, budget: tuple[float, float], methods: str | None,
    cluster: tuple[str | None, int],
) -> None:  # fmt: skip
    """cluster: (address or None for one of this machine's own, workers). source, output: Parquet.

    Raises DubioError where Ray, the table or the artefact is not there, and for what a batch is refused.
    """
    check_budget(*budget)
    check_writable(output)
    place = Path(source)
    if output.suffix.lower() != ".parquet" or not (place.is_dir() or place.suffix.lower() == ".parquet"):
        raise DubioError("--executor ray reads a Parquet file, or a folder of them, and writes .parquet")
    if not place.exists():
        raise DubioError(f"cannot read {place}: there is no such file or folder")
    if output.exists() and place.is_file() and output.samefile(place):
        raise DubioError(f"{output} is the table to score; choose another output")
    if place.is_dir() and output.resolve().parent == place.resolve():
        raise DubioError(f"{output} lies among the shards, and would be scored with them the next time")
    address, workers = cluster
    if Path(session.adapter).exists():  # workers have folders of their own to be in
        session = replace(session, adapter=str(Path(session.adapter).resolve()))
    place, session = place.resolve(), session.as_fitted()
    _check_columns(session, place)
    promised = promise(narrowed(session.open(), methods), *budget)  # refused here, and not by a worker
    teller, session = session, replace(session)  # without the model that was loaded: a worker loads its own
    ray = connect(address, workers + 1)  # one reads
    try:
        answered, cut = _write((session, methods, budget), place, output, workers)
    except Exception as error:
        cause = _refusal(error)
        if cause is None:
            raise
        raise DubioError(cause) from error
    finally:
        ray.shutdown()
    teller.tell_cut("new", cut)
    tell(promised.promise, f"answered {answered} of {len(cut)} rows; wrote {output}")


def _write(options: tuple[Any, ...], place: Path, output: Path, workers: int) -> tuple[int, Bool]:
    """(how many rows are answered, `[N]` which rows are longer than the model reads)."""
    import ray.data as data

    context = data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what is refused is said once, by us
    found = data.read_parquet(str(place)).map_batches(
        Scorer, batch_size=BATCH, batch_format="pyarrow", compute=data.ActorPoolStrategy(size=workers),
        fn_constructor_args=options, num_gpus=1 if options[0].device.startswith("cuda") else 0,
    )  # fmt: skip
    answered, cut = 0, list[bool]()
    writer: Any = None
    with atomic_path(output) as temporary:
        with contextlib.ExitStack() as stack:
            batches: Any = found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
            for batch in batches:
                if writer is None:
                    writer = stack.enter_context(parquet.ParquetWriter(temporary, batch.schema, compression="zstd"))
                writer.write_table(batch)
                cut += batch.column("truncated").to_pylist()
                answered += sum(value == "answer" for value in batch.column("decision").to_pylist())
        if writer is None:
            raise DubioError(f"{place} holds no rows; give at least one")
    return answered, np.array(cut, dtype=np.bool_)


def _check_columns(session: Session, place: Path) -> None:
    """Reads one row, so that a table without the columns is refused before a worker starts."""
    first = min(place.glob("*.parquet"), default=None) if place.is_dir() else place
    if first is None:
        raise DubioError(f"{place} holds no Parquet file")
    try:
        row = next(parquet.ParquetFile(first).iter_batches(batch_size=1), None)
    except pa.ArrowException as error:
        raise DubioError(f"cannot read {first}: {' '.join(str(error).split())}") from error
    if row is not None:
        _read(session, pa.Table.from_batches([row]), str(first))


def _read(session: Session, batch: ArrowTable, name: str) -> TextTable:
    """A checked table of the rows; raises DubioError, which calls it by that name."""
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "batch.parquet"
        parquet.write_table(batch, path)
        try:
            return session.read(str(path), labels=False)
        except DubioError as error:
            raise DubioError(str(error).replace(str(path), name)) from error


def _refusal(error: Exception) -> str | None:
    """What a worker's DubioError says, which Ray gives as text; None where there is none."""
    found = re.findall(r"DubioError: (.+)", str(error))
    return found[-1].strip() if found else None
