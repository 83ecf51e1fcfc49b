"""Lines for a log."""

from __future__ import annotations

import io

from reported_run import LOADS, PLAN, Clock

from epam_extract.progress.displays import open_progress
from epam_extract.progress.plain import Display


def test_plain_lines_come_at_a_sensible_interval(clock: Clock) -> None:
    stream = io.StringIO()
    listener = open_progress("plain", stream=stream)
    listener.plan(PLAN)
    for _ in range(100):  # a frame a second: 5 % are 50 s, so every 30 s it is
        clock.now += 1
        listener.advance(1)
        listener.stages(LOADS)
    told = stream.getvalue().splitlines()[1:]
    assert len(told) == 3
    assert "3% | 30 of 1,000 frames | 0 of 3 videos done" in told[0]
    assert "1.0 frames/s, 16 min 10 s left" in told[0]
    assert told[0].endswith("busy: read 24%, pose 74%, network 98%; bottleneck: network")
    for _ in range(9):  # 100 frames a second: 5 % come at once, but not twice within 5 s
        clock.now += 1
        listener.advance(100)
    assert len(stream.getvalue().splitlines()[1:]) == 5


def test_plain_lines_report_slow_downloads(clock: Clock) -> None:
    stream = io.StringIO()
    listener = open_progress("plain", stream=stream)
    for done in range(0, 101, 10):
        clock.now += 7
        listener.download("pose.onnx", done * 1_000_000, 100_000_000)
    told = stream.getvalue().splitlines()
    assert told[0] == "downloading pose.onnx: 0 bytes of 100 MB"
    assert told[-1] == "downloaded pose.onnx, 100 MB"
    assert 3 <= len(told) <= 5


def test_lines_never_end_early_in_a_narrow_log() -> None:
    stream = io.StringIO()
    Display(open_progress("none", stream=stream).console).warning("long " * 60)
    assert len(stream.getvalue().splitlines()) == 1
