"""The model card beside the adapter: Markdown, deterministic (no time, no machine), so that its bytes can be hashed."""

from collections.abc import Mapping

from dubio.artifacts.manifest import CalibrationFigure, SplitFacts
from dubio.artifacts.store import BOUND, Artifact
from dubio.report.words import title_of
from dubio.scores.registry import get_method, is_method
from dubio.showing import as_code, for_markdown

_LOAD = """\
## How to use it

    dubio score ADAPTER new.jsonl --output scored.parquet --risk 0.05 --delta 0.1

adds the label, its probability, every method's uncertainty, the error probability and `answer` or `abstain`. In Python:

    import dubio

    model = dubio.load("ADAPTER")
    fitted = dubio.open_artifact("ADAPTER", model)
    scores = dubio.score(fitted, dubio.extract(model, texts, posteriors="ADAPTER"MEAN))
    scores.error_probability, dubio.promise(fitted, risk=0.05).answers(scores.uncertainty)

Files are safetensors and JSON; the SHA-256 of each is checked at load, and an artefact of another adapter is refused.
"""

_LIMITS = """\
## Limits

- Higher uncertainty = more likely wrong. Uncertainty has the method's own units: compare it within one method only.
- The promise of a threshold holds for rows that are exchangeable with the calibration rows: drawn from the same
  population. Drift in time, a new customer or another language void it; out-of-domain rows are not covered.
- It is computed from the certification half of the calibration rows, which no method, choice or recalibration saw.
- It bounds the error rate among answered rows as a whole, with confidence 1 - delta over the draw of those rows. It
  says nothing about a single row, nor about a class, a subgroup or a topic.
- Rows count as independent. Where calibration rows repeat one another (retweets, templates), the promise is of less
  than its confidence; keep one of each.
- Labels are taken to be true: where annotators err, "wrong" means "unlike the label".
- Recalibrate (`dubio fit`) after the adapter, the tokenizer or the population changes.
"""


def render_card(artifact: Artifact) -> str:
    """The card's Markdown: what it is, the choice, figures on calibration rows, splits, use, limits."""
    model = artifact.model
    return "\n".join([
        f"# dubio: which predictions of {for_markdown(str(model.get('adapter') or 'this adapter'))} can be trusted",
        "",
        f"Fitted uncertainty for a text classifier with {len(artifact.labels)} classes "
        f"({', '.join(as_code(label) for label in artifact.labels)}).",
        "For each row: an uncertainty, a calibrated probability that the prediction is wrong, and a decision to answer "
        "or abstain.",
        "",
        *(f"- {key}: {as_code(str(value))}" for key, value in model.items() if value is not None and key != BOUND),
        "",
        "## The method that decides",
        "",
        _choice(artifact),
        "",
        "## Figures on calibration rows",
        "",
        "Out of fold, on the fitting half; brackets: 95 % intervals. Points are over all pairs of rows, while the "
        "choice compares rows of one fold only. ECE: of the error probability, debiased, 15 bins of equal "
        "mass; it is judged on the rows that the recalibration was fitted on, so expect more on new rows.",
        "",
        *_figures(artifact),
        "",
        *_left_out(artifact),
        "## Splits",
        "",
        "| split | rows | duplicates | longer than is read | SHA-256 of its content |",
        "|---|---:|---:|---:|---|",
        *(_split(name, facts) for name, facts in artifact.splits.items()),
        "",
        f"{len(artifact.errors)} calibration rows ({int(artifact.errors.sum())} wrong) are kept for certification.",
        "",
        _LOAD.replace("MEAN", f', mean_of="{artifact.mean_of}"' if artifact.mean_of else ""),
        _LIMITS,
    ])  # fmt: skip


def _split(name: str, facts: SplitFacts) -> str:
    """A row of the splits' table. An artifact of an older dubio does not know how many rows were cut."""
    cut = "" if facts.truncated is None else facts.truncated
    return f"| {for_markdown(name)} | {facts.rows} | {facts.duplicates} | {cut} | `{facts.sha256}` |"


def _choice(artifact: Artifact) -> str:
    name = artifact.choice.method
    source = f" ({get_method(name).paper})" if is_method(name) else ""
    return f"**{title_of(name)}**, `{name}`{source}. {artifact.choice.why}"


def _figures(artifact: Artifact) -> list[str]:
    found = {(f.method, f.metric): f for f in artifact.calibration}
    order = sorted(artifact.methods, key=lambda name: _rank(found, name))
    lines = [
        "| method | error ROC-AUC % | points over softmax response | AURC | ECE |",
        "|---|---|---|---|---|",
    ]
    for name in order:
        mark = "**" if name == artifact.choice.method else ""
        cells = (
            _figure(found.get((name, "error_roc_auc")), "{:.1f}", 100),
            _figure(found.get((name, "error_roc_auc_gain")), "{:+.1f}", 100),
            _figure(found.get((name, "aurc")), "{:.4f}", 1),
            _figure(found.get((name, "error_probability_ece_debiased")), "{:.3f}", 1),
        )
        lines.append(f"| {mark}`{name}`{mark} | {' | '.join(cells)} |")
    adapter = [
        f"{key} {_figure(found[('adapter', metric)], '{:.3f}', 1)}"
        for metric, key in (("accuracy", "accuracy"), ("nll", "NLL (nats)"),
                            ("ece_equal_mass_15_debiased", "debiased ECE (15, mass)"))
        if ("adapter", metric) in found
    ]  # fmt: skip
    if adapter:
        lines += ["", f"The adapter itself: {'; '.join(adapter)}."]
    tested = found.get(("adapter", "calibration_p"))
    if tested is not None and tested.why:
        lines += ["", f"Its probabilities, by a test of calibration: {tested.why}."]
    return lines + _why(artifact)


def _why(artifact: Artifact) -> list[str]:
    """Why figures of the table have no value or no interval."""
    shown = ("error_roc_auc", "error_roc_auc_gain", "aurc", "error_probability_ece_debiased", "accuracy", "nll")
    missing = [f for f in artifact.calibration if f.why and f.metric in shown]
    return [
        line for why in dict.fromkeys(f.why for f in missing) for line in ("", f"Where figures are missing: {why}.")
    ]


def _left_out(artifact: Artifact) -> list[str]:
    if not artifact.left_out:
        return []
    return ["Left out:", "", *(f"- `{name}`: {for_markdown(why)}" for name, why in artifact.left_out.items()), ""]


def _rank(found: Mapping[tuple[str, str], CalibrationFigure], name: str) -> float:
    figure = found.get((name, "error_roc_auc"))
    return float("inf") if figure is None or figure.value is None else -figure.value


def _figure(figure: CalibrationFigure | None, pattern: str, scale: float) -> str:
    if figure is None or figure.value is None:
        return "–"
    value = pattern.format(scale * figure.value)
    if figure.low is None or figure.high is None:
        return f"{value} (no interval)" if figure.why else value
    return f"{value} ({pattern.format(scale * figure.low)} to {pattern.format(scale * figure.high)})"
