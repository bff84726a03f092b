"""`dubio posterior`: a trained adapter, and labelled rows where the method needs them -> a posterior beside it."""

from dataclasses import replace
from pathlib import Path

from dubio.adapters.training import LabelledTexts
from dubio.cli.common import Session
from dubio.cli.fit import check_classes
from dubio.errors import DubioError
from dubio.files import check_folder
from dubio.posteriors.onto import make_laplace, make_mc_dropout, make_tfb, read_adapter
from dubio.posteriors.registry import get_posterior
from dubio.posteriors.store import FOLDER, save_posterior


def run(
    session: Session, name: str, rows: str | None, rate: float | None, samples: int | None, masks: str = "sample"
) -> None:
    """Checks options and rows before the model is loaded; the posterior appears whole."""
    if get_posterior(name).trained:
        raise DubioError(f"{name} takes a training run of its own; use `dubio train --posterior {name}`")
    if name != "mc_dropout" and rows is None:
        raise DubioError(f"{name} needs labelled rows; give --rows")
    if rate is not None and (name != "mc_dropout" or not 0 < rate < 1):
        raise DubioError(f"--rate is for mc_dropout and lies between 0 and 1, not {rate} for {name}")
    if masks not in ("sample", "token"):
        raise DubioError(f"--masks is sample or token, not {masks!r}")
    if samples is not None and samples < 1:
        raise DubioError(f"--samples must be at least 1, not {samples}")
    folder = Path(session.adapter)
    if not folder.is_dir():
        raise DubioError(f"{session.adapter} is not a local folder; a posterior is written beside its adapter")
    check_folder(folder / FOLDER)
    table = session.read(rows) if rows is not None else None
    if table is not None:
        check_classes(table, session.model.labels, "rows")
    source = read_adapter(session.model, folder)
    if name == "mc_dropout":
        stored = make_mc_dropout(source, rate=rate, masks=masks)
    elif name == "tfb":
        assert table is not None
        labels = table.label_ids(session.model.labels)
        stored = make_tfb(source, LabelledTexts(table.texts, table.pairs, labels, table.content_hash))
    else:
        assert table is not None
        stored = make_laplace(source, session.model, session.prepare({"train": table})["train"].load())
    # Rows that a posterior was made from can neither certify nor test it.
    stored = replace(stored, samples=samples or stored.samples, rows=None if table is None else table.rows_hash)
    path = save_posterior(folder, stored)
    facts = {key: value for key, value in stored.posterior.facts.items() if isinstance(value, int | float)}
    print(f"{name}: {stored.samples} samples, {stored.posterior.stored} numbers kept, {facts}; wrote {path}")
