"""Pictures of the pages, drawn from `results/`: each SVG says by a hash of what numbers it was drawn.

In: results files. Out: SVG files beside the pages, with fixed bytes for fixed input and one matplotlib.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow.parquet as pq
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dubio.files import atomic_path, sha256_json
from dubio.metrics import risk_coverage_curve

WIDTH = 6.7  # inches: the text of a printed page, so that sizes in points are those on paper
BLUE, GREEN, GREY = "#0072B2", "#009E73", "#5f5f5f"  # Okabe & Ito 2008
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.labelsize": 8.5, "axes.titlesize": 9, "legend.fontsize": 8,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.7, "axes.edgecolor": "#333333", "axes.grid": True, "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.5, "legend.frameon": False,
    "svg.hashsalt": "dubio", "svg.fonttype": "path", "figure.constrained_layout.use": True, "figure.facecolor": "none",
    "axes.facecolor": "none", "text.parse_math": False,
}  # fmt: skip
RESULTS = Path(__file__).resolve().parent.parent / "results"
STAGES, ANSWERED = "stages.svg", "answered.svg"
_KINDS = {"right": "Blues", "wrong": "Oranges"}
RATES = (0.1, 0.05, 0.02)
FIRST = 5  # per cent: an error rate of fewer answers is noise
_BESIDE = (("right", (-5, 6)), ("left", (5, -13)))
_DRAWING = 3  # raised by hand when the same numbers are drawn in another way


def drawn_from(name: str) -> str:
    """Hex hash of the numbers of a picture."""
    return sha256_json([_DRAWING, {STAGES: _histograms, ANSWERED: shares_wrong}[name]()])


def draw(folder: Path) -> None:
    """Every picture into the folder, each by atomic rename."""
    stages(folder / STAGES)
    answered(folder / ANSWERED)


def stages(path: Path) -> None:
    """Entropy and mutual information of right and wrong answers at each kept epoch, of the first seed's ensemble.

    The first epoch, whose members have hardly parted (mutual information below .003), is left out.
    """
    epochs = _histograms()
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 3.2))
        grid: Any = figure.subplots(len(_KINDS), len(epochs), sharex="all", sharey="all")
        highest = max(e["mi_edges"][-1] for e in epochs)
        for row, (kind, colours) in zip(grid, _KINDS.items(), strict=True):
            for axes, epoch in zip(row, epochs, strict=True):
                axes.add_collection(_cells(epoch, kind, mpl.colormaps[colours]))
                axes.set(xlim=(0, np.log(2)), ylim=(0, highest))
                if kind == "right":
                    axes.set_title(f"epoch {epoch['epoch']}")
                axes.text(0.05, 0.9, f"{np.sum(epoch[kind])} {kind}", transform=axes.transAxes, va="top", fontsize=8)
        figure.supylabel("mutual information, nats", fontsize=8.5)
        figure.supxlabel("predictive entropy, nats", fontsize=8.5)
        _save(figure, path)


def answered(path: Path) -> None:
    """Which share of film reviews can be answered at which error rate: a picture that needs no prior knowledge."""
    curves, style = shares_wrong(), {**STYLE, "font.size": 10, "axes.labelsize": 10.5, "figure.facecolor": "white"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(5.4, 3.7))  # narrow, so that its words can be read on a phone
        axes: Any = figure.subplots()
        for (name, wrong), colour, (side, offset) in zip(curves.items(), (BLUE, GREEN), _BESIDE, strict=True):
            share = 100 * np.arange(1, len(wrong) + 1) / len(wrong)
            seen = share >= FIRST
            axes.plot(share[seen], 100 * np.array(wrong)[seen], color=colour, linewidth=2.2, label=name)
            for rate in RATES:
                at = (100 * answered_at(wrong, rate), 100 * rate)
                axes.plot(*at, "o", color=colour, markersize=6)
                axes.annotate(f"{at[0]:.0f} % answered", at, offset, textcoords="offset points", color=colour, ha=side)
        alone = 100 * next(iter(curves.values()))[-1]
        axes.axhline(alone, color=GREY, linestyle="--", linewidth=1.2)
        axes.text(1, alone + 0.3, f"answer everything: {alone:.0f} of 100 are wrong", color=GREY)
        axes.set(xlim=(0, 100), ylim=(0, alone + 2.5), xlabel="answered by the model, surest answers first, in %",
                 ylabel="wrong among the answered, in %")  # fmt: skip
        axes.legend(loc="lower right")
        _save(figure, path)


def shares_wrong() -> dict[str, list[float]]:
    """Curve's name -> error rate among the k surest answers, for k = 1..N, the mean over the five seeds of SST-2."""
    found = sorted((RESULTS / "one-pass-minilm").glob("minilm-sst2-*.parquet"))
    columns = {"one adapter": ("rank:softmax_response", "wrong"), "five adapters": ("rank:system:five", "wrong:five")}
    curves: dict[str, list[float]] = {}
    for name, asked in columns.items():
        tables = [pq.read_table(path, columns=list(asked)) for path in found]
        risks = [risk_coverage_curve(*(np.array(t[column]) for column in asked)).y for t in tables]
        curves[name] = [round(float(risk), 6) for risk in np.mean(risks, axis=0)]
    return curves


def answered_at(wrong: list[float], rate: float) -> float:
    """The largest share of answers whose error rate, on these rows, is at most `rate`."""
    return float(np.flatnonzero(np.array(wrong) <= rate)[-1] + 1) / len(wrong)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        FigureCanvasSVG(figure).print_svg(
            str(temporary), metadata={"Date": None, "Creator": None, "Identifier": drawn_from(path.name)}
        )  # fmt: skip


def _cells(epoch: dict[str, Any], kind: str, colours: Any) -> PatchCollection:
    """A rectangle for each cell that holds answers, darker for more."""
    x, y, counts = np.array(epoch["entropy_edges"]), np.array(epoch["mi_edges"]), np.array(epoch[kind])
    at = np.argwhere(counts)
    cells = [Rectangle((x[i], y[j]), x[i + 1] - x[i], y[j + 1] - y[j]) for i, j in at]
    shades = LogNorm(0.5, max(np.max(epoch[which]) for which in _KINDS))(counts[*at.T])
    return PatchCollection(cells, facecolors=colours(shades), edgecolors="none")


def _histograms() -> list[dict[str, Any]]:
    epochs = json.loads((RESULTS / "stages_minilm" / "0.json").read_text(encoding="utf-8"))["epochs"]
    return [{"epoch": e["epoch"], **e["in_domain"]["histogram"]} for e in epochs[1:]]
