"""What fit, evaluate and score share: one loaded, proven model, the tables it reads, and the artefact fitted on it."""

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dubio.adapters.seen import check_unseen, rows_seen
from dubio.arrays import Bool
from dubio.artifacts.manifest import read_manifest
from dubio.artifacts.store import FOLDER, Artifact
from dubio.data.columns import Columns
from dubio.data.groups import REPEATS
from dubio.data.splits import DROP, drop_overlap
from dubio.data.tables import TextTable, read_table
from dubio.errors import DubioError
from dubio.files import check_folder
from dubio.models.adapted import AdaptedModel
from dubio.models.adapter.files import AdapterFiles, find_adapter, head_rows
from dubio.models.bases.base import check_device, has_bfloat16
from dubio.models.bases.locating import may_be_hub_id, no_folder
from dubio.models.extraction import Extraction
from dubio.models.labels import are_given, read_labels
from dubio.models.loading import load
from dubio.models.tokens.answer_letters import Choices, asked_choices, choices_of
from dubio.models.tokens.lengths import most, told
from dubio.posteriors.base_model import host_under
from dubio.posteriors.sampling import Sampler, sampler_of
from dubio.posteriors.store import Stored
from dubio.showing import tell
from dubio.workflow.inputs import check_pairs, columns_of
from dubio.workflow.opening import UnboundWarning, open_artifact, read_posteriors, unbound
from dubio.workflow.tables import Prepared, cut_rows, prepare


@dataclass(frozen=True)
class Session:
    """The options of a command that runs the model. columns: (text, pair, label), None for the defaults.

    precision, max_length: None for those of the artefact, or of the adapter's training where nothing is fitted yet.
    artifact: the folder that holds `dubio/`, None for the adapter's own. mean_of: the posterior whose mean prediction
    is judged; None: the adapter's own predictions, or what the artefact was fitted on.
    letters: of a causal LM's adapter that answers multiple-choice questions; prompt: a JSON file of its prompt; asked:
    both as the artefact has them. None for those of the adapter's training record.
    fitted: what the rows of the artefact were read from (see `inputs`). groups: which calibration rows belong together:
    near repeats, none, or by a column.
    labels: names of the classes, a,b,c or a file of them; fitted_labels: those that the artefact has. They count where
    neither the adapter's folder nor its base gives any.
    """

    adapter: str
    base: str | None = None
    device: str = "cpu"
    precision: str | None = None
    columns: tuple[str | None, str | None, str | None] = (None, None, None)
    max_length: int | None = None
    cache: Path | None = None
    quiet: bool = False
    artifact: Path | None = None
    mean_of: str | None = None
    letters: str | None = None
    prompt: Path | None = None
    asked: Choices | None = None
    fitted: Mapping[str, Any] = field(default_factory=dict[str, Any])
    groups: str = REPEATS
    labels: str | None = None
    fitted_labels: tuple[str, ...] | None = None

    @cached_property
    def files(self) -> AdapterFiles | None:
        """What the adapter's folder holds; None for a whole model."""
        return find_adapter(self.adapter)

    @cached_property
    def choices(self) -> Choices | None:
        """How the model answers questions, None for a classifier; known before any model is loaded."""
        asked = asked_choices(self.letters, self.prompt) or self.asked
        return asked if self.files is None else choices_of(self.files.record, asked, self.adapter)

    @cached_property
    def model(self) -> AdaptedModel:
        """The adapted model, loaded and proven on first use."""
        precision = self.precision or "float32"
        check_device(self.device)
        if precision == "bfloat16" and not has_bfloat16(self.device):
            tell(f"note: {self.device} has no bfloat16 products here; float32 will be faster", file=sys.stderr)
        names = None if self.labels is None else read_labels(self.labels)
        found = load(
            self.adapter, base=self.base, device=self.device, precision=precision, max_length=self.max_length,
            letters=self.choices, labels=names,
        )  # fmt: skip
        fitted = self.fitted_labels
        nameless = names is None and not are_given(found.labels)
        return replace(found, labels=fitted) if fitted and nameless and len(fitted) == len(found.labels) else found

    @property
    def name(self) -> str:
        """The adapter's name: its folder's, or its hub id."""
        path = Path(self.adapter)
        return path.resolve().name if path.is_dir() else self.adapter

    @property
    def folder(self) -> Path:
        """Where the artefact lives; raises DubioError where the adapter is on the hub and no folder was named."""
        path = self.artifact or Path(self.adapter)
        if self.artifact is None and not path.is_dir():
            if not may_be_hub_id(self.adapter) or "/" not in self.adapter:
                raise no_folder(self.adapter, "adapter", "name an existing one")
            raise DubioError(f"{self.adapter} is not a local folder; name one for what is fitted by --artifact")
        return path

    @property
    def cache_folder(self) -> Path:
        """Where shards of representations are kept; raises DubioError where no place is named and there is no home."""
        if self.cache is not None:
            return self.cache
        root, caches = os.environ.get("DUBIO_CACHE"), os.environ.get("XDG_CACHE_HOME")
        if root:
            return Path(root) / "representations"
        try:
            return (Path(caches) if caches else Path.home() / ".cache") / "dubio" / "representations"
        except RuntimeError as error:  # in a container, for a user without a name
            raise DubioError(
                "there is no home folder to keep representations in; name a folder by --cache or DUBIO_CACHE"
            ) from error

    def as_fitted(self) -> "Session":
        """The same session at the precision and length of its artefact, and with its columns, before a model is loaded.

        Raises ArtifactError where nothing is fitted, or its manifest is damaged or of another schema.
        """
        manifest = read_manifest(self.folder / FOLDER / "manifest.json")
        facts, labels = manifest.model, tuple(manifest.labels)
        length = facts.get("max_length") if self.max_length is None else self.max_length
        precision = self.precision or facts.get("precision")
        asked = None if facts.get("choices") is None else Choices.of(facts["choices"])
        kept = facts.get("input")
        return replace(
            self, precision=precision, max_length=length, mean_of=facts.get("mean_of"), asked=asked,
            fitted=kept if isinstance(kept, dict) else {}, fitted_labels=labels,
        )  # fmt: skip

    def open(self) -> Artifact:
        """The artefact, checked against its hashes and against the model.

        Raises ArtifactError where a file was changed, or the artefact belongs to another adapter, precision or length.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnboundWarning)
            artifact = open_artifact(self.folder, self.model, self.posteriors)
        if said := unbound(artifact, self.model):
            tell(f"note: {said}", file=sys.stderr)
        return artifact

    def read(self, source: str, labels: bool = True, *, foreign: bool = False) -> TextTable:
        """A checked table; `labels`: whether they are needed. Of an artefact, from the columns of its fit.

        foreign: whether it is of another domain, where columns may have other names.
        Raises DubioError where the rows are single texts and the adapter was trained, or dubio fitted, on pairs, or the
        other way round.
        """
        template = False if self.choices is None else self.choices.template
        files = self.files
        if self.choices is None and files is not None and files.task == "CAUSAL_LM" and head_rows(files) is None:
            raise DubioError(
                f"{self.adapter} is an adapter of a causal LM; name the answer letters, as in --letters ABCD"
            )
        columns, own = columns_of(self.columns, self.fitted), Columns(*self.columns)
        try:
            table = read_table(source, columns=_asked(columns, labels), need_labels=labels, template=template)
        except DubioError:
            if not foreign or columns == own:
                raise
            table = read_table(source, columns=_asked(own, labels), need_labels=labels, template=template)
        pairs = table.pairs is not None
        check_pairs(self.fitted.get("pairs"), pairs)
        check_pairs(None if files is None else files.record.get("pairs"), pairs, "the adapter was trained on")
        return table

    @cached_property
    def posteriors(self) -> dict[str, Stored]:
        """The posteriors beside the adapter, by name; raises ArtifactError where one is damaged."""
        return read_posteriors(self.adapter) if Path(self.adapter).is_dir() else {}

    def samplers(self, names: Iterable[str]) -> list[Sampler]:
        """Samplers of these posteriors on one base; raises DubioError where one is not there."""
        asked = sorted(set(names))
        for name in asked:
            if name not in self.posteriors:
                raise DubioError(
                    f"there is no posterior {name} beside {self.adapter}; make it, or fit again without it"
                )
        if not asked:
            return []
        host = host_under(self.model)
        return [sampler_of(self.model, host, self.posteriors[name]) for name in asked]

    def made_on(self, names: Iterable[str]) -> dict[str, NDArray[np.uint8]]:
        """Hashes of the rows that these posteriors were made from, by "posterior NAME"."""
        found = {name: self.posteriors[name].rows for name in names if name in self.posteriors}
        return {f"posterior {name}": rows for name, rows in found.items() if rows is not None}

    def without_overlap(self, name: str, table: TextTable, others: Mapping[str, NDArray[np.uint8]]) -> TextTable:
        """The rows that are neither in `others` (row hashes by name) nor known to the adapter; tells of the others."""
        found, said = drop_overlap(name, table, {**others, **(rows_seen(self.files) or {})})
        if said is not None:
            tell(f"note: {said}", file=sys.stderr)
        return found

    def check_unseen(self, **tables: TextTable) -> bool:
        """Refuses rows that the adapter's own record says it was trained on; returns whether there is one to ask."""
        return check_unseen(self.files, tables, remedy=DROP)

    def say_cut(self, name: str, table: TextTable) -> Bool:
        """`[N]` which rows are longer than the model reads, said on standard error where there are some."""
        cut = cut_rows(self.model, table)
        self.tell_cut(name, cut)
        return cut

    def tell_cut(self, name: str, cut: Bool) -> None:
        """Says how many rows are cut, and, before anything is fitted, how many tokens the model could read."""
        model, more = self.model, ""
        said = told(name, cut, model.max_length, model.tokenizer.truncation_side)
        if said is None:
            return
        if self.fitted_labels is None and (limit := most(model.tokenizer, model.model)) > model.max_length:
            more = f" (the model takes up to {limit:,}, by --max-length)"
        tell(f"note: {said}{more}", file=sys.stderr)

    def prepare(
        self, tables: Mapping[str, TextTable], unlabelled: tuple[str, ...] = (), posteriors: Iterable[str] = (), *,
        say: bool = True,
    ) -> dict[str, Prepared]:  # fmt: skip
        """Each table's representations, from the cache or a forward pass; the labels of all are mapped before.

        posteriors: names of those whose samples are drawn as well. say: whether to tell of rows that are cut.
        """
        check_folder(self.cache_folder)
        for name, table in tables.items():
            if name not in unlabelled:
                table.label_ids(self.model.labels)
        for name, table in tables.items() if say else ():
            self.say_cut(name, table)
        wanted = {*posteriors, *([self.mean_of] if self.mean_of else [])}
        how, samplers = Extraction(show=not self.quiet), self.samplers(wanted)
        return {
            name: prepare(
                self.model,
                table,
                self.cache_folder,
                need_labels=name not in unlabelled,
                how=how,
                samplers=samplers,
                mean_of=self.mean_of,
            )
            for name, table in tables.items()
        }


def _asked(columns: Columns, labels: bool) -> Columns:
    """Without the label where none is needed."""
    return columns if labels else replace(columns, label=None)
