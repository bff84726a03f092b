"""Saving and loading what was fitted, beside the adapter: one safetensors a method, a card, and the manifest last.

File names carry a piece of their hash, so a new fit never writes over a file that the standing manifest names; the
rename of the manifest is the one moment at which the artefact changes. No pickle, no code: arrays and JSON.
"""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from dubio.arrays import as_labels
from dubio.artifacts.manifest import (
    SCHEMA_VERSION,
    CalibrationFigure,
    FittedMethod,
    Manifest,
    SplitFacts,
    read_manifest,
    write_manifest,
)
from dubio.containers import Shape
from dubio.data.splits import as_hashes
from dubio.decisions.recalibration import Recalibrator
from dubio.errors import ArtifactError, DubioError
from dubio.files import atomic_path, sha256_file, write_text
from dubio.fitted import Fitted, FittedScore
from dubio.models.cache import map_arrays
from dubio.safe_reading import UnreadableError, read_bytes
from dubio.scores.base import State
from dubio.scores.registry import get_method
from dubio.scores.stored import check_arrays
from dubio.writers import stamp, tidy, turn

FOLDER = "dubio"
BOUND = "bound"  # of an artifact's model: what it was fitted with, apart from the files that it came in
_SEAL = "<!-- sha256 of the text above: "


@dataclass(frozen=True)
class Artifact(Fitted):
    """All that `fit` leaves behind for one adapter. fingerprint `[8, C]`: logits of fixed texts.

    hashes: split name -> `[N, 16]` row hashes, so that a later test set can be refused where it overlaps.
    bound: "weights", "head" -> `[P, 3]` sketches of what it was fitted with (see `models.sketch`); empty: unknown.
    """

    model: Mapping[str, Any]
    labels: tuple[str, ...]
    splits: Mapping[str, SplitFacts]
    hashes: Mapping[str, NDArray[np.uint8]]
    fingerprint: NDArray[np.float32]
    calibration: tuple[CalibrationFigure, ...] = ()
    bound: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])

    @property
    def mean_of(self) -> str | None:
        """As the manifest says."""
        return self.model.get("mean_of")

    @property
    def shape(self) -> Shape | None:
        """As the manifest says; the width is not known of an artifact of an older version."""
        return Shape(self.model.get("width"), len(self.labels), self.model.get("samples") or {})

    @property
    def pairs(self) -> bool | None:
        """As the manifest says."""
        facts = self.model.get("input")
        found = facts.get("pairs") if isinstance(facts, dict) else None  # pyright: ignore[reportUnknownMemberType]
        return found if isinstance(found, bool) else None


def save_artifact(adapter: Path, artifact: Artifact, card: str) -> Path:
    """Writes `adapter/dubio/`; returns the manifest's path. Raises DubioError where the folder cannot be written.

    Others that save into the same folder take turns: the last one whole wins.
    """
    folder = adapter / FOLDER
    with turn(folder) as certain:
        return _save(folder, artifact, card, certain)


def _save(folder: Path, artifact: Artifact, card: str, certain: bool) -> Path:
    entries = [_save_method(folder, fitted) for fitted in artifact.methods.values()]
    files = {entry.file: entry.sha256 for entry in entries}
    shared: dict[str, NDArray[Any]] = {
        "errors": artifact.errors.astype(np.uint8),
        "fingerprint": artifact.fingerprint,
    }
    if artifact.groups is not None:
        shared["groups"] = artifact.groups.astype(np.int64)
    shared |= {f"bound.{name}": np.ascontiguousarray(numbers) for name, numbers in artifact.bound.items()}
    for name, rows in artifact.hashes.items():
        shared[f"hashes.{name}"] = np.ascontiguousarray(rows)
    name, digest = _save_arrays(folder, "rows", shared)
    files[name] = digest
    write_text(folder / "README.md", _seal(card))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        versions={
            "python": platform.python_version(),
            **{p: version(p) for p in ("dubio", "torch", "transformers", "peft", "numpy", "scikit-learn")},
        },
        model=dict(artifact.model),
        labels=list(artifact.labels),
        splits=dict(artifact.splits),
        choice=artifact.choice,
        methods=entries,
        left_out=dict(artifact.left_out),
        calibration=list(artifact.calibration),
        costs={name: {"fit_seconds": round(f.fit_seconds, 3)} for name, f in artifact.methods.items()},
        files=files,
    )
    write_manifest(folder / "manifest.json", manifest)
    tidy(folder, files, folder / "manifest.json", certain=certain)
    return folder / "manifest.json"


def load_artifact(adapter: str | Path, head: Any = None) -> tuple[Artifact, Manifest]:
    """Reads `adapter/dubio/`, every file checked against its SHA-256; `head` is only needed for custom head modules.

    Whether it belongs to a given model is for `open_artifact` to say.
    Raises ArtifactError naming the file that is missing, changed or of another schema.
    """
    folder = Path(adapter) / FOLDER
    path = folder / "manifest.json"
    while True:
        seen = stamp(path)
        manifest = read_manifest(path)
        try:
            return _restore(folder, manifest, head), manifest
        except ArtifactError:
            if stamp(path) == seen:
                raise
            # A new fit has replaced the files that the old manifest names: read the new one.


def _restore(folder: Path, manifest: Manifest, head: Any) -> Artifact:
    for name, digest in manifest.files.items():
        path = folder / name
        if Path(name).name != name:
            raise ArtifactError(f"{folder} names the file {name!r}, outside its own folder; fit again")
        try:
            found = sha256_file(path)
        except (OSError, UnreadableError) as error:
            raise ArtifactError(f"{path} is missing or cannot be read; fit again or restore the file") from error
        if found != digest:
            raise ArtifactError(f"{path} was changed after it was written; fit again or restore the file")
    _check_card(folder / "README.md")
    methods = {entry.name: _load_method(folder, entry, manifest, head) for entry in manifest.methods}
    shared = _arrays(folder, next((name for name in manifest.files if name.startswith("rows-")), ""), manifest)
    try:
        check_arrays(shared, {"errors": "M", "fingerprint": "P C"}, "the rows of the fit")
        artifact = Artifact(
            methods=methods,
            choice=manifest.choice,
            errors=shared["errors"].astype(np.bool_),
            model=manifest.model,
            labels=tuple(manifest.labels),
            splits=manifest.splits,
            hashes={key[7:]: as_hashes(value) for key, value in shared.items() if key.startswith("hashes.")},
            fingerprint=shared["fingerprint"],
            left_out=manifest.left_out,
            groups=as_labels(shared["groups"], "groups", len(shared["errors"])) if "groups" in shared else None,
            calibration=tuple(manifest.calibration),
            bound={key[6:]: value for key, value in shared.items() if key.startswith("bound.")},
        )
    except (KeyError, DubioError) as error:
        raise ArtifactError(f"{folder} lacks the rows of its fit ({error}); fit again") from error
    _check_whole(folder, artifact)
    return artifact


def _check_whole(folder: Path, artifact: Artifact) -> None:
    """Every file may be as it was written and still not belong together: then no number may come out."""
    rows, shape = len(artifact.errors), artifact.fingerprint.shape
    whole = (
        artifact.choice.method in artifact.methods
        and all(method.certified.shape == (rows,) for method in artifact.methods.values())
        and all(method.certified.dtype.kind == "f" for method in artifact.methods.values())
        and len(shape) == 2
        and shape[1] == len(artifact.labels)
    )
    if not whole:
        raise ArtifactError(f"{folder} does not fit together: methods, rows and labels disagree; fit again")


def _arrays(folder: Path, name: str, manifest: Manifest) -> dict[str, NDArray[Any]]:
    """Copies of a file's arrays; only of a file whose hash was checked."""
    if name not in manifest.files:
        raise ArtifactError(f"{folder} names no hash of the file {name!r}; fit again")
    try:
        return {key: np.array(value) for key, value in map_arrays(folder / name).items()}
    except DubioError as error:  # replaced since it was hashed
        raise ArtifactError(f"{error}") from error


def _save_arrays(folder: Path, stem: str, arrays: Mapping[str, NDArray[Any]]) -> tuple[str, str]:
    """Writes `stem-<hash>.safetensors`; returns its name and SHA-256."""
    data = save(dict(arrays))
    digest = hashlib.sha256(data).hexdigest()
    name = f"{stem}-{digest[:12]}.safetensors"
    with atomic_path(folder / name) as temporary:
        temporary.write_bytes(data)
    return name, digest


def _seal(card: str) -> str:
    """The card with a last line that holds its digest: it is checked by itself, so it may be renamed into place at
    another moment than the manifest.
    """
    return f"{card.rstrip()}\n\n{_SEAL}{hashlib.sha256(card.rstrip().encode()).hexdigest()} -->\n"


def _check_card(path: Path) -> None:
    text = read_bytes(path).decode("utf-8", errors="replace") if path.is_file() else ""
    if _seal(text.partition(_SEAL)[0]) != text:
        raise ArtifactError(f"{path} is missing or was changed after it was written; fit again or restore the file")


def _save_method(folder: Path, fitted: FittedScore) -> FittedMethod:
    state, recalibration = fitted.score.state(), fitted.recalibrator.state()
    arrays = {f"score.{key}": np.ascontiguousarray(value) for key, value in state.arrays.items()}
    arrays |= {f"recalibration.{key}": np.ascontiguousarray(value) for key, value in recalibration.arrays.items()}
    name, digest = _save_arrays(folder, fitted.name, {**arrays, "certified": fitted.certified})
    return FittedMethod(
        name=fitted.name,
        target=get_method(fitted.name).target,
        options=fitted.score.config.model_dump(mode="json"),
        facts=dict(state.facts),
        recalibration=dict(recalibration.facts),
        file=name,
        sha256=digest,
    )


def _load_method(folder: Path, entry: FittedMethod, manifest: Manifest, head: Any) -> FittedScore:
    arrays = _arrays(folder, entry.file, manifest)

    def part(prefix: str) -> dict[str, NDArray[Any]]:
        return {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}

    try:
        method = get_method(entry.name).build(head=head, **entry.options)
        method.restore(State(part("score."), entry.facts))
        recalibrator = Recalibrator.from_state(State(part("recalibration."), entry.recalibration))
        certified = check_arrays(arrays, {"certified": "M"}, entry.name)["certified"]
    except (ValueError, LookupError, TypeError, RuntimeError, AttributeError) as error:
        raise ArtifactError(f"{entry.file} cannot be restored as {entry.name} ({error}); fit again") from error
    seconds = manifest.costs.get(entry.name, {}).get("fit_seconds", 0.0)
    return FittedScore(entry.name, method, recalibrator, certified, seconds)
