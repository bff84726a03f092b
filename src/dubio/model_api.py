"""The verbs that need a model: extract, save, open_artifact. The command line does the same, file to file."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from dubio.containers import Representations
from dubio.data.groups import REPEATS, groups_of
from dubio.data.tables import as_table
from dubio.errors import DubioError
from dubio.measures import log_mean
from dubio.models.adapted import AdaptedModel
from dubio.models.extraction import Extraction, extract_to
from dubio.models.extraction import extract as extract_rows
from dubio.models.tokens.lengths import TruncatedWarning, told
from dubio.posteriors.base_model import host_under
from dubio.posteriors.sampling import sample_both, sampler_of
from dubio.workflow.opening import open_artifact, read_posteriors
from dubio.workflow.saving import save
from dubio.workflow.tables import cut_rows

__all__ = ["extract", "open_artifact", "save"]


def extract(
    model: AdaptedModel, rows: Any, *, cache: str | Path | None = None,
    posteriors: str | Path | None = None, mean_of: str | None = None, groups: str = REPEATS, show: bool = False,
) -> Representations:  # fmt: skip
    """One forward pass: features `[N, d]`, logits `[N, C]`, and labels and groups `[N]` where the rows have labels.

    rows: a table, a file to read one from (of questions, for a model that answers by letters), a data frame, a
    datasets.Dataset or a list of mappings, read as a file of these columns is, or a list of texts.
    cache: folder of shards from which a killed run resumes.
    posteriors: adapter folder whose posteriors' samples are drawn as well. mean_of: the one of them whose mean
    prediction (and mean features) take the place of the adapter's own.
    groups: which labelled rows belong together, and so into one fold: "repeats" finds near repeats among the texts,
    "none" takes every row as its own, all else is the column that names each row's group.
    Raises DubioError on rows that cannot be read or scored, or labels that the model does not have. Warns by
    TruncatedWarning how many rows are longer than the model reads.
    """
    if mean_of is not None and posteriors is None:
        raise DubioError(f"mean_of={mean_of!r} needs the folder of the posterior; give posteriors=")
    if not isinstance(model, AdaptedModel):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DubioError(f"extract takes a loaded model and rows, not a {type(model).__name__}; load the model first")
    table = as_table(rows, False if model.choices is None else model.choices.template)
    labels = None if table.raw_labels is None else table.label_ids(model.labels)
    said = told("", cut_rows(model, table), model.max_length, model.tokenizer.truncation_side)
    if said is not None:
        warnings.warn(f"{said} (load with max_length=, where the model reads more)", TruncatedWarning, stacklevel=2)
    how = Extraction(show=show)
    if cache is None:
        found = extract_rows(model, table.texts, table.pairs, labels=labels, how=how)
    else:
        found = extract_to(model, table.texts, table.pairs, Path(cache), labels=labels, how=how).load()
    if posteriors is not None:
        host, drawn = host_under(model), read_posteriors(posteriors)
        both = {
            name: sample_both(sampler_of(model, host, s), table.texts, table.pairs, how) for name, s in drawn.items()
        }
        found = replace(found, samples={name: log_p for name, (_, log_p) in both.items()})
        if mean_of is not None:
            if mean_of not in both:
                raise DubioError(f"there is no posterior {mean_of!r} beside {posteriors}; there are: {', '.join(both)}")
            features, log_p = both[mean_of]
            found = Representations.of(features, log_mean(log_p), labels, samples=found.samples, mean_of=mean_of)
    found = replace(found, pairs=table.pairs is not None)
    return found if labels is None else replace(found, groups=groups_of(table, groups))
