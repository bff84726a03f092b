"""The verbs of a notebook: extract, fit, score, evaluate, save. The command line does the same, file to file.

Arrays are enough for all but `extract` and `save`: wrap them by `Representations.of(features, logits, labels)`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dubio.containers import Representations, Scores, check_representations
from dubio.data.groups import REPEATS, groups_of
from dubio.data.tables import as_table
from dubio.errors import DubioError
from dubio.fitted import Fitted
from dubio.measures import log_mean
from dubio.models.adapted import AdaptedModel
from dubio.models.extraction import Extraction, extract_to
from dubio.models.extraction import extract as extract_rows
from dubio.models.tokens.lengths import TruncatedWarning, told
from dubio.posteriors.base_model import host_under
from dubio.posteriors.sampling import sample_both, sampler_of
from dubio.workflow.evaluation import Evaluation, check_fitted, check_predictions, evaluate, promise
from dubio.workflow.fitting import Fit, FitPlan, fit_methods
from dubio.workflow.opening import open_artifact, read_posteriors
from dubio.workflow.saving import save
from dubio.workflow.tables import cut_rows

__all__ = ["Evaluation", "evaluate", "extract", "fit", "open_artifact", "promise", "save", "score"]


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


def fit(
    train: Representations | None, calibration: Representations, head: Any = None, *,
    methods: Sequence[str] | None = None, share: float = 0.5, seed: int = 0, show: bool = False,
) -> Fit:  # fmt: skip
    """Fits every method that its inputs allow (or the named ones), recalibrates each, and chooses one.

    head: the classification head, a torch module (features -> logits) such as `model.head`; AdUE needs it.
    share: of the calibration rows, kept aside for thresholds with a guarantee. What could not be fitted, and why, is
    in `left_out` of the result. Raises DubioError on too few errors in calibration, missing labels, an unknown method,
    or methods without softmax_response, which the others have to beat.
    """
    given = [("train", train)] if train is not None else []
    for name, table in [*given, ("calibration", calibration)]:
        check_representations(table, name)
    return fit_methods(train, calibration, head, FitPlan(methods, share, seed, show))


def score(fitted: Fitted, rows: Representations, method: str | None = None) -> Scores:
    """Uncertainty and error probability `[N]` by the chosen method, or by the named one.

    Raises DubioError where that method was not fitted.
    """
    check_fitted(fitted)
    check_representations(rows, "rows")
    name = method or fitted.choice.method
    if name not in fitted.methods:
        raise DubioError(f"{name!r} was not fitted; there are: {', '.join(fitted.methods)}")
    check_predictions(fitted, rows)
    chosen = fitted.methods[name]
    uncertainty = chosen.score.score(rows)
    return Scores.of(name, uncertainty, chosen.recalibrator.predict(uncertainty))
