"""Pictures of the pages, drawn from `results/`: each SVG says by a hash of what numbers it was drawn.

In: results files. Out: SVG files beside the pages, with fixed bytes for fixed input and one matplotlib.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dubio.files import atomic_path, sha256_json
from dubio.report.figures import STYLE, WIDTH

RESULTS = Path(__file__).resolve().parent.parent / "results"
STAGES = "stages.svg"
_KINDS = {"right": "Blues", "wrong": "Oranges"}
_DRAWING = 2  # raised by hand when the same numbers are drawn in another way


def drawn_from(name: str) -> str:
    """Hex hash of the numbers of a picture."""
    return sha256_json([_DRAWING, {STAGES: _histograms}[name]()])


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
        with atomic_path(path) as temporary:
            FigureCanvasSVG(figure).print_svg(
                str(temporary), metadata={"Date": None, "Creator": None, "Identifier": drawn_from(STAGES)}
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
