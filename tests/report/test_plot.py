"""Plots as data: places in the frame, round ticks, curves that are the metrics' own."""

import re

import numpy as np
import pytest
from report_samples import artifact, content

from dubio.metrics import risk_coverage_curve
from dubio.report.html import figures
from dubio.report.html.plot import Bars, Dot, Line, Plot, number, ticks


def test_places_are_percent_of_the_frame_and_stay_inside():
    line = Line(np.array([10.0, 60.0]), np.array([0.0, 5.0]), "chosen", "a line")
    plot = Plot((10, 110), (0, 20), "x", "y", "spoken", [line], [Dot(60, 5, "here"), Dot(500, -3, "bin")])
    assert plot.paths == [("chosen", "M0.0 1000.0L500.0 750.0")]
    assert plot.points == [(50.0, 25.0, "here"), (100.0, 0.0, "bin")]
    assert plot.legend == [("chosen", "a line")]
    bars = Bars(np.array([10.0, 60.0, 110.0]), np.array([10.0, 20.0]), "filled")
    path = Plot((10, 110), (0, 20), "x", "y", "spoken", bars=[bars]).paths[0][1]
    assert path == "M0.0 1000.0L0.0 500.0L500.0 500.0L500.0 0.0L1000.0 0.0L1000.0 1000.0"


@pytest.mark.parametrize("ends", [(0, 100), (0, 1.08), (-3.7, 12.1), (0, 0.013), (-2e5, 1.3e6), (0, 28.08)])
def test_ticks_are_few_round_and_inside(ends):
    found = ticks(*ends)
    assert 2 <= len(found) <= 7
    assert ends[0] - 1e-9 <= found[0] <= found[-1] <= ends[1] + 1e-9
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])
    assert re.fullmatch(r"(1|2|2\.5|5)(e[+-]\d+)?", f"{steps[0] / 10 ** np.floor(np.log10(steps[0])):g}")


def test_a_number_has_a_proper_minus_and_no_negative_zero():
    assert [number(v) for v in (-0.0, -2.5, 1250.0, 0.1 + 0.2)] == ["0", "−2.5", "1,250", "0.3"]


def test_the_answering_curve_is_the_risk_coverage_curve():
    full = content(artifact(), risk=0.1)
    plot = figures.answering(full)
    own = next(line for line in plot.lines if line.look == "chosen")
    curve = risk_coverage_curve(full.scores[full.chosen].uncertainty, full.errors)
    at = {round(x, 9): y for x, y in zip(curve.x.tolist(), curve.y.tolist(), strict=True)}
    assert all(
        abs(at[round(x / 100, 9)] - y / 100) < 1e-12 for x, y in zip(own.x.tolist(), own.y.tolist(), strict=True)
    )
    assert own.x[-1] == 100
    assert abs(own.y[-1] - 100 * full.errors.mean()) < 1e-9
    assert plot.y[1] >= 100 * full.threshold.risk
    assert [line.look for line in figures.methods(full).lines].count("chosen") == 1
