"""A plot as data for the page: lines, bars and points in percent of the frame, ticks and labels as text.

The page draws it with its own text, so that letters keep their size on a phone, follow dark mode, and can be read by a
screen reader; no drawing library is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dubio.arrays import Float64


@dataclass(frozen=True)
class Line:
    """x, y `[M]`. look: class of the page's style, which says colour and dashes. name: in the legend, if any."""

    x: Float64
    y: Float64
    look: str
    name: str = ""


@dataclass(frozen=True)
class Dot:
    """A point."""

    x: float
    y: float
    look: str


@dataclass(frozen=True)
class Bars:
    """A histogram: edges `[K + 1]` and heights `[K]`; an outline unless filled."""

    edges: Float64
    heights: Float64
    look: str
    name: str = ""


@dataclass(frozen=True)
class Plot:
    """Axes with ends, labels, what is drawn in them, and a sentence for those who cannot see it."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str
    spoken: str
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    bars: Sequence[Bars] = ()
    unit: str = " %"
    shape: str = ""

    @property
    def paths(self) -> list[tuple[str, str]]:
        """(look, path data) of every histogram and line, in a frame of 1,000 by 1,000 with its origin at the top."""
        drawn = [(bars.look, self._steps(bars)) for bars in self.bars]
        return drawn + [(line.look, self._path(line.x, line.y)) for line in self.lines]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(look, name) of what has a name."""
        return [(drawn.look, drawn.name) for drawn in (*self.bars, *self.lines) if drawn.name]

    @property
    def x_marks(self) -> list[tuple[float, str]]:
        """(place in percent, text) of the ticks below."""
        return [(self.left(value), number(value)) for value in ticks(*self.x)]

    @property
    def y_marks(self) -> list[tuple[float, str]]:
        """(height in percent, text) of the ticks at the left."""
        return [(self.height(value), number(value) + self.unit) for value in ticks(*self.y)]

    @property
    def points(self) -> list[tuple[float, float, str]]:
        """(from the left, from below, look), in percent, of each dot."""
        return [(self.left(dot.x), self.height(dot.y), dot.look) for dot in self.dots]

    def left(self, value: float) -> float:
        """Percent of the frame's width, to 0.01; what lies outside is put on the edge."""
        return round(100 * float(_share(np.array([value], dtype=np.float64), self.x)[0]), 2)

    def height(self, value: float) -> float:
        """Percent of the frame's height, from below, to 0.01; what lies outside is put on the edge."""
        return round(100 * float(_share(np.array([value], dtype=np.float64), self.y)[0]), 2)

    def _steps(self, bars: Bars) -> str:
        x, y = np.repeat(bars.edges, 2), np.concatenate([[0.0], np.repeat(bars.heights, 2), [0.0]])
        return self._path(x, y)

    def _path(self, x: Float64, y: Float64) -> str:
        right, down = 1000 * _share(x, self.x), 1000 - 1000 * _share(y, self.y)
        return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(right.tolist(), down.tolist(), strict=True))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, at most so many."""
    raw = (high - low) / most
    unit = 10.0 ** np.floor(np.log10(raw))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= raw * (1 - 1e-9))
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    return [float(step * k) for k in np.arange(first, last + 1)]


def number(value: float) -> str:
    """A tick's text, with a proper minus."""
    return f"{value + 0.0:,.6g}".replace("-", "−")


def _share(values: Float64, ends: tuple[float, float]) -> Float64:
    """Of the way from one end to the other, kept in [0, 1]."""
    return np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)
