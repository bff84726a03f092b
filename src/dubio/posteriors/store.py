"""A posterior on disk, beside its adapter: `posteriors/NAME/`, one safetensors and one JSON that hashes it.

The JSON is renamed into place last: a folder with one is a whole posterior. No pickle, no code.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from dubio.data.splits import as_hashes
from dubio.errors import ArtifactError, DubioError
from dubio.files import atomic_path, sha256_json, write_json
from dubio.posteriors.base import Posterior
from dubio.posteriors.registry import get_posterior
from dubio.safe_reading import FACTS as MOST
from dubio.safe_reading import MEMORY, read_bytes, read_object, short
from dubio.writers import stamp, tidy, turn

FOLDER, FACTS, SCHEMA = "posteriors", "posterior.json", 1
_ROWS, _MOST = "rows", 10_000  # samples


@dataclass(frozen=True)
class Stored:
    """A posterior with its name, its form, the base that it belongs to (hashes), and how many samples are drawn.

    rows: `[N, 16]` hashes of the labelled rows that it was trained on or made from, which must not certify or test it;
    None where there are none.
    """

    name: str
    posterior: Posterior
    form: Mapping[str, Any]
    base: Mapping[str, str]
    samples: int
    rows: NDArray[np.uint8] | None = None

    @property
    def sha256(self) -> str:
        """Hash of all that its samples depend on."""
        tensors = {n: v.detach().cpu().contiguous() for n, v in sorted(self.posterior.tensors.items())}
        facts = {k: v for k, v in self.posterior.facts.items() if k != "seconds"}
        digest = hashlib.sha256(save(tensors)).hexdigest()
        return sha256_json([self.name, digest, facts, dict(self.form), dict(self.base), self.samples])


def save_posterior(adapter: Path, stored: Stored) -> Path:
    """Writes `adapter/posteriors/NAME/`; returns the JSON's path. Raises DubioError where it cannot be written."""
    folder = adapter / FOLDER / stored.name
    tensors = {name: value.detach().cpu().contiguous() for name, value in stored.posterior.tensors.items()}
    if stored.rows is not None:
        tensors[_ROWS] = torch.from_numpy(np.array(stored.rows))
    data = save(tensors)
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"tensors-{digest[:12]}.safetensors"
    body = {
        "schema_version": SCHEMA, "name": stored.name, "facts": dict(stored.posterior.facts), "form": dict(stored.form),
        "base": dict(stored.base), "samples": stored.samples, "file": path.name, "sha256": digest,
    }  # fmt: skip
    with turn(folder) as certain:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
        write_json(folder / FACTS, {**body, "digest": sha256_json(body)})
        tidy(folder, (path.name,), folder / FACTS, certain=certain)
    return folder / FACTS


def find_posteriors(adapter: Path) -> list[str]:
    """Names of the whole posteriors beside an adapter, sorted."""
    return sorted(path.parent.name for path in (adapter / FOLDER).glob(f"*/{FACTS}"))


def load_posterior(adapter: Path, name: str) -> Stored:
    """Reads and checks; raises ArtifactError where a file is absent, changed, or of another schema."""
    folder = adapter / FOLDER / name
    while True:
        seen = stamp(folder / FACTS)
        try:
            return _read(folder, name)
        except ArtifactError:
            if stamp(folder / FACTS) == seen:
                raise
            # It was made again in the meantime: read the new one.


def _read(folder: Path, name: str) -> Stored:
    try:
        facts = read_object(folder / FACTS, limit=MOST)
        body = {key: value for key, value in facts.items() if key != "digest"}
        if facts["schema_version"] != SCHEMA or facts["digest"] != sha256_json(body):
            raise ValueError("changed after it was written, or of another schema")
        data = read_bytes(folder / Path(facts["file"]).name, limit=MEMORY)
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise ValueError(f"{facts['file']} was changed after it was written")
        tensors = load(data)
        spoilt = [n for n, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
        if spoilt:
            raise ValueError(f"{spoilt[0]} holds NaN or infinity")
        odd = [n for n in ("facts", "form", "base") if not isinstance(facts[n], dict)]
        if odd or type(facts["samples"]) is not int or not 0 < facts["samples"] < _MOST:
            raise ValueError(f"{odd[0] if odd else 'samples'} is {short(facts[odd[0] if odd else 'samples'])}")
        rows = tensors.pop(_ROWS, None)
        posterior = get_posterior(facts["name"]).load()(tensors, facts["facts"])
        hashes = None if rows is None else as_hashes(rows.numpy())
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SafetensorError,
        DubioError,
    ) as error:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        raise ArtifactError(f"{folder}: the posterior cannot be read ({reason}); make it again") from error
    return Stored(name, posterior, facts["form"], facts["base"], int(facts["samples"]), hashes)


def seconds_and_bytes(stored: Stored) -> tuple[float, int]:
    """(seconds that it took to make, bytes of its tensors)."""
    size = sum(value.numel() * torch.finfo(value.dtype).bits // 8 for value in stored.posterior.tensors.values())
    return float(stored.posterior.facts.get("seconds", 0.0)), size
