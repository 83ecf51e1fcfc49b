"""Counting a run: frames, videos, speed and time left."""

from __future__ import annotations

import pytest
from reported_run import LOADS, PLAN, Clock

from epam_extract.progress.tally import Tally
from epam_extract.records import VideoFailure


def test_tally_counts_frames_videos_and_the_bottleneck() -> None:
    tally = Tally()
    tally.plan(PLAN)
    tally.video_started("a", 500)
    tally.advance(350)
    assert tally.share == 0.35
    tally.video_failed(VideoFailure("b", "pose", "why"), frames_left=300)
    assert (tally.frames_total, tally.failed, list(tally.running)) == (700, 1, ["a"])
    tally.video_done("a", 32)
    assert (tally.done, tally.windows, tally.running) == (1, 32, {})
    tally.stages(LOADS)
    assert tally.bottleneck == "network"
    tally.stages(LOADS, bottleneck="pose")
    assert tally.bottleneck == "pose"


def test_tally_survives_more_frames_than_planned_and_a_plan_of_none() -> None:
    tally = Tally()
    assert tally.share == 0.0
    tally.plan(PLAN)
    tally.advance(1200)
    assert tally.share == 1.0
    assert tally.seconds_left() is None


def test_pace_is_that_of_the_last_minute(clock: Clock) -> None:
    tally = Tally()
    tally.plan(PLAN)
    assert tally.pace() is None
    for _ in range(10):  # a slow start of 1 frame/s ...
        clock.now += 10
        tally.advance(10)
    for _ in range(70):  # ... then 5 frames/s
        clock.now += 1
        tally.advance(5)
    assert tally.pace() == pytest.approx(5.0, rel=0.05)
    assert tally.seconds_left() == pytest.approx((1000 - 450) / 5, rel=0.05)


def test_pace_falls_while_nothing_comes(clock: Clock) -> None:
    tally = Tally()
    tally.plan(PLAN)
    clock.now += 30  # the pipeline fills
    tally.advance(50)
    assert tally.pace() is None
    clock.now += 10
    tally.advance(100)
    assert tally.pace() == pytest.approx(10)
    clock.now += 10
    assert tally.pace() == pytest.approx(5)
