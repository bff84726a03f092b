"""`dubio fit`: representations of train and calibration rows -> every method, a choice, an artefact by the adapter."""

from dataclasses import replace

import numpy as np

from dubio.artifacts.store import FOLDER, Artifact, save_artifact
from dubio.cli.common import Session
from dubio.data.groups import groups_of
from dubio.data.splits import DROP, check_disjoint
from dubio.data.tables import TextTable
from dubio.errors import DubioError
from dubio.files import check_folder
from dubio.report.card import render_card
from dubio.report.summary import fit_lines
from dubio.scores.registry import get_method
from dubio.showing import tell
from dubio.workflow.fitting import INCUMBENT, FitPlan, fit_methods
from dubio.workflow.saving import artifact_of


def run(session: Session, train: str | None, calibration: str, methods: str | None, *, drop: bool = False) -> Artifact:
    """Reads and checks everything before the first forward pass; writes nothing until all methods are fitted.

    drop: calibration rows that are known already are dropped, where they are refused otherwise.
    """
    names = method_names(methods, train is not None)
    if session.mean_of is not None:
        session.samplers([])  # a damaged posterior is refused before any work
        if session.mean_of not in session.posteriors:
            have = ", ".join(session.posteriors) or "none"
            raise DubioError(f"there is no posterior {session.mean_of!r} beside {session.adapter}; there are: {have}")
    check_folder(session.folder / FOLDER)
    check_folder(session.cache_folder)
    tables: dict[str, TextTable] = {}
    if train is not None:
        tables["train"] = session.read(train)
    tables["calibration"] = session.read(calibration)
    drawn = needed_posteriors(names, session)
    made_on = session.made_on({*drawn, session.mean_of or ""})
    if drop:
        learned = {name: table.rows_hash for name, table in tables.items() if name != "calibration"}
        others = {**learned, **made_on}
        tables["calibration"] = session.without_overlap("calibration", tables["calibration"], others)
    report = check_disjoint(tables, remedy=DROP)
    check_disjoint({"calibration": tables["calibration"]}, stored=made_on, remedy=DROP)
    known = session.check_unseen(calibration=tables["calibration"])
    check_classes(tables["calibration"], session.model.labels)
    groups = groups_of(tables["calibration"], session.groups)  # a missing column is refused before any pass
    prepared = session.prepare({"calibration": tables["calibration"]}, posteriors=drawn)
    prepared |= session.prepare({name: table for name, table in tables.items() if name != "calibration"})
    fit = fit_methods(
        prepared["train"].load() if "train" in prepared else None,
        replace(prepared["calibration"].load(), groups=groups),
        session.model.head,
        FitPlan(names, show=not session.quiet),
    )
    used = [*drawn, *([session.mean_of] if session.mean_of and session.mean_of not in drawn else [])]
    digests = {name: session.posteriors[name].sha256 for name in used}
    artifact = artifact_of(fit, session.model, tables, session.name, posteriors=digests)
    path = save_artifact(session.folder, artifact, render_card(artifact))
    for name, why in fit.left_out.items():
        if train is not None or "train" not in get_method(name).needs:  # who gives no train rows knows
            tell(f"left out {name}: {why}")
    if train is None and not known:
        tell(
            f"note: {session.name} does not tell which rows it was trained on, so dubio could not check that no "
            "calibration row is one of them; give --train"
        )
    tell(report, *fit_lines(artifact), fit.choice.why, f"wrote {path}")
    return artifact


def method_names(asked: str | None, train: bool) -> tuple[str, ...] | None:
    """The methods to fit, None (all) where none are asked for; `train`: whether its rows are at hand.

    Raises DubioError on an unknown name, one that needs train rows where there are none, or a list without the
    incumbent, which the others have to beat.
    """
    if asked is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in names:
        if "train" in get_method(name).needs and not train:
            raise DubioError(f"method {name} needs the training rows; give --train, or leave it out")
    if INCUMBENT not in names:
        raise DubioError(f"{INCUMBENT} must be among --methods: it is what the others have to beat")
    return names


def needed_posteriors(names: tuple[str, ...] | None, session: Session) -> list[str]:
    """The posteriors beside the adapter whose measures are asked for: all of them where no methods are named.

    Raises DubioError where a named method is of a posterior that is not there.
    """
    if names is None:
        return [*session.posteriors]
    found = {name.rpartition(".")[0] for name in names if "samples" in get_method(name).needs}
    for name in sorted(found):
        if name not in session.posteriors:
            raise DubioError(f"there is no posterior {name} beside {session.adapter}; make it first")
    return sorted(found)


def check_classes(calibration: TextTable, labels: tuple[str, ...], what: str = "calibration rows") -> None:
    """Raises DubioError where all rows are of one class: a sample that cannot speak for the others."""
    found = np.unique(calibration.label_ids(labels))
    if len(found) < 2:
        raise DubioError(
            f"{calibration.source}: all {len(calibration)} {what} are of class {labels[found[0]]!r}; give "
            "held-out rows of all classes"
        )
