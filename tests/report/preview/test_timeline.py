"""The time line at the bottom of a preview."""

from __future__ import annotations

import numpy as np
import pytest
from walker import imaginary

from epam_extract.report.preview.drawing import WINDOW
from epam_extract.report.preview.timeline import TimeLine, clock


def test_time_line_of_a_long_video_stays_small() -> None:
    long = imaginary(100_000, stride=4)
    line = TimeLine.of(long, 900)
    assert line.narrow
    strip = line.draw([3, 20_000])
    assert strip.shape == (line.height, 900, 3)
    assert line.height < 150
    assert (strip == WINDOW).all(-1).any()
    assert not TimeLine.of(imaginary(300), 900).narrow


def test_time_line_places() -> None:
    scene = imaginary(100, absent=range(50, 100))
    line = TimeLine.of(scene, 1086)  # 1000 pixels for 4 s
    assert [round(line.x(s)) for s in (-1, 0, 2, 4, 9)] == [86, 86, 586, 1086, 1086]
    strip = line.draw()
    people = strip[60]
    assert len(np.unique(people[90:570], axis=0)) == 1
    assert not np.array_equal(people[300], people[800])
    before = strip.copy()
    line.cursor(strip, 2.0)
    changed = np.flatnonzero((strip != before).any((0, 2)))
    assert changed.min() >= 586
    assert changed.max() <= 587


@pytest.mark.parametrize(
    ("seconds", "step", "text"),
    [(4, 1, "4 s"), (0.5, 0.1, "0.5 s"), (1.234, 0.01, "1.23 s"), (125, 30, "2:05")],
)
def test_clock(seconds: float, step: float, text: str) -> None:
    assert clock(seconds, step) == text
    assert clock(3725, 600) == "1:02:05"
    assert clock(-60, 30) == "-1:00"
