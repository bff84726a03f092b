"""`dubio posterior`: a trained adapter, and labelled rows where the method needs them -> a posterior beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dubio.adapters.plan import LabelledTexts
from dubio.cli.common import Session
from dubio.cli.fit import check_classes
from dubio.data.splits import check_disjoint
from dubio.data.tables import TextTable
from dubio.errors import DubioError
from dubio.files import check_folder
from dubio.models.bases.locating import no_folder
from dubio.posteriors.from_adapter import (
    Source,
    make_heads,
    make_laplace,
    make_laplace_lora,
    make_mc_dropout,
    make_tfb,
    read_adapter,
)
from dubio.posteriors.registry import get_posterior
from dubio.posteriors.store import FOLDER, Stored, save_posterior
from dubio.showing import tell


@dataclass(frozen=True)
class Curvature:
    """Options of laplace and laplace_lora. validation: held-out table that picks the prior precision; evidence: it is
    picked by the marginal likelihood instead (the default, but of draws). structure: kron or diag; full for a last
    layer. draws, of laplace_lora: the weights that are drawn predict, not the linearised network.
    """

    validation: str | None = None
    structure: str = "kron"
    evidence: bool = False
    draws: bool = False


def run(
    session: Session, name: str, rows: str | None, rate: float | None, samples: int | None, masks: str = "sample",
    curvature: Curvature = Curvature(),
) -> None:  # fmt: skip
    """Checks options and rows before the model is loaded; the posterior appears whole."""
    check_options(name, rows, rate, samples, masks, curvature)
    folder = Path(session.adapter)
    if not folder.is_dir():
        raise no_folder(
            session.adapter, "adapter", "a posterior is written beside its adapter: name one on this machine"
        )
    check_folder(folder / FOLDER)
    given = {"rows": rows, "validation": curvature.validation}
    tables = {which: session.read(table) for which, table in given.items() if table is not None}
    check_disjoint(tables)
    for which, table in tables.items():
        check_classes(table, session.model.labels, which)
        if name in ("tfb", "laplace_lora"):  # whose rows are read as texts; of the others `prepare` says it
            session.say_cut(which, table)
    source = read_adapter(session.model, folder)
    if name == "mc_dropout":
        stored = make_mc_dropout(source, rate=rate, masks=masks)
    elif name == "tfb":
        stored = make_tfb(source, _labelled(tables["rows"], session))
    elif name == "laplace_lora":
        held = tables.get("validation")
        own = None if held is None else _labelled(held, session)
        how: Any = {"structure": curvature.structure, "linear": not curvature.draws, "samples": samples}
        stored = make_laplace_lora(source, _labelled(tables["rows"], session), own, **how)
    else:
        stored = _on_features(session, source, name, tables, samples, curvature.structure)
    # Rows that a posterior was made from can neither certify nor test it.
    hashes = np.concatenate([table.rows_hash for table in tables.values()]) if tables else None
    stored = replace(stored, samples=samples or stored.samples, rows=hashes)
    path = save_posterior(folder, stored)
    facts = {key: value for key, value in stored.posterior.facts.items() if isinstance(value, int | float)}
    tell(f"{name}: {stored.samples} samples, {stored.posterior.stored} numbers kept, {facts}; wrote {path}")


def _on_features(
    session: Session, source: Source, name: str, tables: Mapping[str, TextTable], samples: int | None, structure: Any
) -> Stored:
    """A posterior of the head, from cached features."""
    seen = {which: table.load() for which, table in session.prepare(tables).items()}
    if name == "heads":
        return make_heads(source, session.model, seen["rows"], **({"members": samples} if samples else {}))
    return make_laplace(source, session.model, seen["rows"], seen.get("validation"), structure=structure)


def check_options(
    name: str, rows: str | None, rate: float | None, samples: int | None, masks: str, curvature: Curvature
) -> None:
    """Raises DubioError on an option that is wrong, missing, or of another method."""
    if get_posterior(name).trained:
        raise DubioError(f"{name} takes a training run of its own; use `dubio train --posterior {name}`")
    if rate is not None and (name != "mc_dropout" or not 0 < rate < 1):
        raise DubioError(f"--rate is for mc_dropout and lies between 0 and 1, not {rate} for {name}")
    if masks not in ("sample", "token") or (masks != "sample" and name != "mc_dropout"):
        raise DubioError(f"--masks is for mc_dropout, sample or token, not {masks!r} for {name}")
    if name == "mc_dropout" and rows is not None:
        raise DubioError("mc_dropout is made from the adapter alone; leave --rows out")
    if samples is not None and samples < 1:
        raise DubioError(f"--samples must be at least 1, not {samples}")
    if name not in ("laplace", "laplace_lora") and curvature != Curvature():
        raise DubioError(
            f"--validation, --evidence, --structure and --draws are for laplace and laplace_lora, not {name}"
        )
    known = ("kron", "diag", "full") if name == "laplace" else ("kron", "diag")
    if curvature.structure not in known:
        raise DubioError(f"--structure of {name} is {' or '.join(known)}, not {curvature.structure!r}")
    if name == "laplace" and curvature.draws:
        raise DubioError("--draws is for laplace_lora: the logits of a last layer are linear in it")
    if name != "mc_dropout" and rows is None:
        raise DubioError(f"{name} needs labelled rows; give --rows")
    if curvature.evidence and curvature.validation is not None:
        raise DubioError(
            f"the prior precision of {name} is picked by held-out rows or by the marginal likelihood; give "
            "--validation or --evidence, not both"
        )
    if curvature.draws and not curvature.evidence and curvature.validation is None:
        raise DubioError("draws underfit at the precision of the marginal likelihood; give --validation or --evidence")


def _labelled(table: TextTable, session: Session) -> LabelledTexts:
    return LabelledTexts(table.texts, table.pairs, table.label_ids(session.model.labels), table.content_hash)
