"""`index.html`: the whole evaluation as one page that needs nothing else, on screen and on paper."""

from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from dubio.files import write_text
from dubio.report import figures, tables
from dubio.report.content import ReportContent, title_of
from dubio.report.verdict import headline, verdict

GLOSSARY = (
    ("uncertainty", "One number a row; higher = more likely wrong. Its units are the method’s own."),
    ("error", "A row whose predicted class differs from its label."),
    ("error probability", "The calibrated probability that the prediction is wrong, from the uncertainty."),
    ("error ROC-AUC", "The chance that a wrong row gets a higher uncertainty than a right one; 50 % is chance level."),
    ("error PR-AUC", "Average precision of finding wrong rows; chance level is the share of wrong rows."),
    ("FPR at 95 % TPR", "Share of right rows flagged when 95 % of the wrong rows are flagged."),
    ("coverage, risk", "Share of rows answered; error rate among them."),
    ("AURC", "Mean risk over all coverages (0–1; lower is better). AUGRC: the same for errors per all rows (0–0.5)."),
    ("oracle", "The best possible order of the same predictions: every right row before every wrong one."),
    ("ECE", "Expected calibration error: mean distance of probability and frequency over bins (equal width or mass)."),
    (
        "plain, debiased ECE",
        "Noise makes the plain one too large, even of perfect probabilities; papers report it. The "
        "debiased one has that noise taken out, and an interval.",
    ),
    (
        "p (calibrated)",
        "How often probabilities that are exactly right would show an ECE as large. Above 0.05 nothing "
        "speaks against them.",
    ),
    ("Brier", "Mean squared distance of probability and outcome."),
    ("control", "The head refitted by logistic regression: a better classifier without a notion of uncertainty."),
    ("tied rows", "Rows whose uncertainty another row has too. Metrics are averages over all orders of tied rows."),
    (
        "interval, p",
        "95 % intervals that hold with few errors too; p is two-sided, not corrected for many. Where no "
        "interval holds, none is shown, and the line under the table says why.",
    ),
    ("OOD", "Out of domain: rows of another source than the test rows."),
    ("calibration rows", "Held-out rows: half to fit, choose and recalibrate, half (certification) for the promise."),
)


def write_report(folder: Path, content: ReportContent) -> Path:
    """Writes `folder/index.html` by atomic rename and returns its path; the same content gives the same bytes.

    Raises DubioError where the folder cannot be written.
    """
    target = folder / "index.html"
    write_text(target, render(content))
    return target


def render(content: ReportContent) -> str:
    """The page's HTML; everything from outside (texts, labels, file names) is escaped."""
    environment = Environment(
        loader=PackageLoader("dubio.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    detection, detected = tables.comparison(content, tables.DETECTION)
    further, extended = tables.comparison(content, tables.FURTHER)
    columns, systems = tables.systems(content)
    return environment.get_template("report.html.j2").render(
        content=content,
        chosen=title_of(content.chosen),
        headline=headline(content),
        verdict=verdict(content),
        comparisons=(
            (detection, detected, tables.reasons(content, tables.DETECTION)),
            (further, extended, tables.reasons(content, tables.FURTHER)),
        ),
        system=(columns, systems),
        figures=_figures(content),
        suspects=tables.suspects(content),
        costs=tables.costs(content),
        glossary=GLOSSARY,
        version=version("dubio"),
    )


def _figures(content: ReportContent) -> list[tuple[str, str, str]]:
    """(data URI, title, caption) of each figure that can be drawn."""
    chosen = title_of(content.chosen)
    drawn = (
        (figures.forest(content), "Difference to softmax response",
         "Paired difference in error ROC-AUC on test with its 95 % interval, where one holds. Diamond: chosen. "
         "Squares: controls."),
        (figures.risk_coverage(content), "Risk and coverage",
         "Error rate when only the most certain rows are answered; lower is better. The first 2 % of coverage, where "
         "a single row decides, are left out. Dotted lines: the risk budget, and the coverage realised on test."),
        (figures.reliability(content), "Reliability before and after recalibration",
         "15 bins of equal width with 95 % Wilson intervals; below, the rows in each bin. On the dotted line rows said "
         "to be wrong with probability p are wrong that often."),
        (figures.roc(content), "ROC of finding wrong rows",
         "Wrong rows flagged against right rows flagged, for every threshold on uncertainty."),
        (figures.histograms(content), f"Uncertainty of {chosen}",
         "Higher = more likely wrong. Each group sums to 100 %; the outer 0.5 % at each end count in the end bins."),
    )  # fmt: skip
    return [(uri, title, caption) for uri, title, caption in drawn if uri is not None]
