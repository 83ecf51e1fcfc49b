"""The live display of a terminal."""

from __future__ import annotations

import io

import pytest
from reported_run import LOADS, PLAN, Clock
from rich.console import Console

from epam_extract.progress.displays import open_progress
from epam_extract.progress.live import LiveDisplay


def test_the_live_display_shows_bar_speed_stages_and_bottleneck(clock: Clock) -> None:
    stream = io.StringIO()
    listener = open_progress("rich", stream=stream)
    assert isinstance(listener, LiveDisplay)
    console = Console(file=stream, width=110)
    listener.plan(PLAN)
    listener.video_started("videos/a", 500)
    listener.advance(100)
    clock.now += 8
    listener.advance(400)
    listener.stages(LOADS)
    stream.truncate(0)
    console.print(listener.picture())
    picture = stream.getvalue()
    for part in (
        "50%",
        "500 of 1,000 frames",
        "50 frames/s",
        "10 s left",
        "0 of 3 videos done",
        "1 done before",
        "now videos/a",
        "98% busy",
    ):
        assert part in picture
    bottleneck = [line for line in picture.splitlines() if "bottleneck" in line]
    assert len(bottleneck) == 1 and "network" in bottleneck[0]


def test_the_live_display_uses_no_colour_where_none_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    listener = open_progress("rich", stream=io.StringIO())
    assert listener.console.no_color
