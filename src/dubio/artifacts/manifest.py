"""The manifest of a fitted artefact: one validated JSON file that names, hashes and explains every other file.

Its bytes are canonical and carry their own digest, so that any changed byte anywhere is found before a number is used.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from dubio.errors import ArtifactError
from dubio.files import sha256_json, write_text
from dubio.fitted import Choice
from dubio.safe_reading import FACTS, MissingFileError, UnreadableError, parse_json, read_text, short

SCHEMA_VERSION = 1
_REMEDY = "fit again or restore the file"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FittedMethod(_Strict):
    """One fitted method: its registry name, options, what it learned in words, and its file with its SHA-256."""

    name: str
    target: str
    options: dict[str, Any]
    facts: dict[str, Any]
    recalibration: dict[str, Any]
    file: str
    sha256: str


class SplitFacts(_Strict):
    """What a split was: number of rows, duplicates inside it, the hash of its content, and how many rows are longer
    than the model reads (None: nobody has counted).
    """

    rows: int
    duplicates: int
    sha256: str
    truncated: int | None = None


class CalibrationFigure(_Strict):
    """One measured figure on calibration rows with its 95 % interval; why: in words, where either is None."""

    method: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    why: str | None = None


class Manifest(_Strict):
    """Everything about an artefact but its arrays.

    model: identifies the adapted model; left_out: method -> why it could not be fitted; files: name -> SHA-256.
    """

    schema_version: int
    versions: dict[str, str]
    model: dict[str, Any]
    labels: list[str]
    splits: dict[str, SplitFacts]
    choice: Choice
    methods: list[FittedMethod]
    left_out: dict[str, str]
    calibration: list[CalibrationFigure]
    costs: dict[str, dict[str, float]]
    files: dict[str, str]


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes the manifest with its digest, by atomic rename."""
    write_text(path, _canonical(manifest.model_dump(mode="json")))


def read_manifest(path: Path) -> Manifest:
    """Reads and checks; raises ArtifactError if it is absent, damaged, changed by hand, or of another schema."""
    try:
        text = read_text(path, limit=FACTS, remedy=_REMEDY)
        value = parse_json(text, path, remedy=_REMEDY)
    except MissingFileError as error:
        if not path.parent.parent.is_dir():
            raise ArtifactError(
                f"there is no folder {path.parent.parent}; name one in which `dubio fit` wrote"
            ) from error
        raise ArtifactError(f"no fitted artifact at {path.parent}; run `dubio fit` first") from error
    except UnreadableError as error:
        raise ArtifactError(f"{path} is damaged: it {error.reason}; {_REMEDY}") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} is damaged: it is not a JSON object; fit again or restore the file")
    found: Mapping[str, Any] = value
    if found.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {short(found.get('schema_version'))} and this dubio reads {SCHEMA_VERSION}; "
            "fit again, or install the dubio that wrote it"
        )
    body = {key: entry for key, entry in found.items() if key != "digest"}
    if text != _canonical(body):
        raise ArtifactError(f"{path} was changed after it was written; fit again or restore the file")
    try:
        return Manifest.model_validate(body)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ArtifactError(f"{path} does not follow the schema at {place}; fit again") from error


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps({**body, "digest": sha256_json(body)}, indent=2, sort_keys=True, allow_nan=False) + "\n"
