"""Progress of long work where no terminal is: a line a minute, and none for what is done before."""

import io
import re
import sys
import time

import pytest

from dubio import progress as room
from dubio.progress import progress, progress_line


@pytest.mark.parametrize(
    ("done", "seconds", "said"),
    [
        (0, 60, "fitting: 0 of 28 methods after 1 min"),
        (7, 120, "fitting: 7 of 28 methods after 2 min, about 6 min left"),
        (28, 90, "fitting: 28 of 28 methods after 2 min, less than a minute left"),
        (1, 600, "fitting: 1 of 28 methods after 10 min, about 4 h 30 min left"),
    ],
)
def test_a_line_says_how_far_and_how_long(done, seconds, said):
    assert progress_line("fitting", done, 28, "methods", seconds) == said


def test_lines_come_while_one_unit_takes_long(monkeypatch):
    monkeypatch.setattr(room, "EVERY", 0.05)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress("extracting", 3000) as advance:
        advance(1000)
        until = time.monotonic() + 20
        while sys.stderr.getvalue().count("\n") < 2 and time.monotonic() < until:
            time.sleep(0.01)
    lines = sys.stderr.getvalue().splitlines()
    assert len(lines) >= 2
    assert all(re.match(r"extracting: 1,000 of 3,000 rows after ", line) for line in lines)
    time.sleep(0.12)
    assert sys.stderr.getvalue().splitlines() == lines  # none after the end


def test_short_work_and_quiet_work_write_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress("extracting", 3) as advance:
        advance(3)
    monkeypatch.setattr(room, "EVERY", 0.01)
    with progress("extracting", 3, show=False) as advance:
        time.sleep(0.05)
    assert sys.stderr.getvalue() == ""


def test_what_goes_wrong_in_the_work_comes_through(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(KeyboardInterrupt), progress("extracting", 3):
        raise KeyboardInterrupt


class _Full(io.StringIO):
    def write(self, text):
        raise OSError("full")


def test_a_full_disk_under_the_lines_costs_no_work(monkeypatch):
    monkeypatch.setattr(room, "EVERY", 0.01)
    monkeypatch.setattr(sys, "stderr", _Full())
    with progress("extracting", 3) as advance:
        time.sleep(0.05)
        advance(3)
