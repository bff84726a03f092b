"""Checksums of what a grid leaves: a JSON that tells its own and those of the files beside it.

    name.json      `sha256`: of all that it says, `rows_sha256`: of name.parquet, whose schema says that it is sealed
    cells.json     `sha256`: of all that it says, `config_sha256`: of config.yaml

Results of before have neither, in the JSON nor in the Parquet, and are read as they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dubio.files import sha256_file, sha256_json

SEALED = {"sealed": "1"}  # what the schema of sealed rows says
_OWN, _ROWS, _CONFIG = "sha256", "rows_sha256", "config_sha256"


def sealed(facts: Mapping[str, Any], *, rows: Path | None = None, config: Path | None = None) -> dict[str, Any]:
    """The facts as JSON has them, with a checksum, and that of the Parquet rows or of the config they belong to."""
    body = json.loads(json.dumps({key: value for key, value in facts.items() if key not in (_OWN, _ROWS, _CONFIG)}))
    body |= {} if rows is None else {_ROWS: sha256_file(rows)}
    body |= {} if config is None else {_CONFIG: sha256_file(config)}
    return {**body, _OWN: sha256_json(body)}


def unsealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts without their checksums; raises ValueError where they are not what was sealed."""
    body = {key: value for key, value in facts.items() if key != _OWN}
    if _OWN in facts and facts[_OWN] != sha256_json(body):
        raise ValueError("it was changed after it was written")
    return {key: value for key, value in body.items() if key not in (_ROWS, _CONFIG)}


def check_rows(facts: Mapping[str, Any], rows: Path, metadata: Mapping[bytes, bytes]) -> None:
    """Raises ValueError where facts or rows are not what was sealed; metadata: of the rows' schema."""
    unsealed(facts)
    if b"sealed" not in metadata and _ROWS not in facts:
        return
    if facts.get(_ROWS) != sha256_file(rows):
        raise ValueError(f"{rows.name} was changed after it was written")


def is_config_of(facts: Mapping[str, Any], config: Path) -> bool:
    """Whether the config is the one that was sealed with these cells, if one was."""
    return _CONFIG not in facts or facts[_CONFIG] == sha256_file(config)
