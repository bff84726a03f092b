"""What fit, evaluate and score share: one loaded, proven model and the tables it reads."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dubio.data.columns import Columns
from dubio.data.tables import TextTable, read_table
from dubio.errors import DubioError
from dubio.models.extraction import Extraction
from dubio.models.loading import AdaptedModel, load
from dubio.workflow.tables import Prepared, prepare


@dataclass(frozen=True)
class Session:
    """The options of a command that runs the model. columns: (text, pair, label), None for the defaults."""

    adapter: str
    base: str | None
    device: str
    precision: str
    columns: tuple[str | None, str | None, str | None]
    max_length: int | None
    cache: Path | None
    quiet: bool

    @cached_property
    def model(self) -> AdaptedModel:
        """The adapted model, loaded and proven on first use."""
        return load(
            self.adapter, base=self.base, device=self.device, precision=self.precision, max_length=self.max_length
        )

    @property
    def folder(self) -> Path:
        """Where the artefact lives: the adapter's folder; a hub id needs a local copy to write beside."""
        path = Path(self.adapter)
        if not path.is_dir():
            raise DubioError(f"{self.adapter} is not a local folder; download the adapter first, then name its folder")
        return path

    @property
    def cache_folder(self) -> Path:
        """Where shards of representations are kept."""
        if self.cache is not None:
            return self.cache
        root = os.environ.get("DUBIO_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dubio"
        return Path(root) / "representations"

    def read(self, source: str, labels: bool = True) -> TextTable:
        """A checked table; `labels`: whether they are needed."""
        text, pair, label = self.columns
        return read_table(source, columns=Columns(text, pair, label if labels else None), need_labels=labels)

    def prepare(self, table: TextTable, labels: bool = True) -> Prepared:
        """The table's representations, from the cache or a forward pass."""
        return prepare(self.model, table, self.cache_folder, need_labels=labels, how=Extraction(show=not self.quiet))
