"""Rows, frames and seconds of a video, whatever its frame rate does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_features import CLOCKS, FRAMES, write_features

from epam_extract.config import WindowConfig
from epam_extract.exchange.timeline import Timeline, at_frames, at_seconds, evenly
from epam_extract.store import FeatureStore


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timeline") / "f.h5"
    return write_features(path, WindowConfig(), {"d": "ntsc", **{name: name for name in CLOCKS}})


@pytest.fixture(params=sorted(CLOCKS))
def timeline(request: pytest.FixtureRequest, file: Path) -> Timeline:
    with FeatureStore(file) as store:
        return Timeline.of(store[request.param])


def test_centres_of_rows_are_where_the_grid_puts_them(timeline: Timeline) -> None:
    rows = np.arange(FRAMES // 16)
    frames = timeline.offset + rows * timeline.stride
    seconds = np.interp(frames, timeline.positions, timeline.seconds)
    np.testing.assert_allclose(timeline.frames_at(seconds), frames, atol=1e-6)
    np.testing.assert_allclose(timeline.rows_at(seconds), rows, atol=1e-6)


def test_the_first_and_last_moments_are_the_videos_own(file: Path) -> None:
    with FeatureStore(file) as store:
        for name, (fps, stamps) in CLOCKS.items():
            timeline = Timeline.of(store[name])
            assert timeline.num_frames == FRAMES
            assert timeline.start == pytest.approx(stamps[0], abs=0.5 / float(fps))
            end = stamps[-1] + 1 / float(fps)
            assert timeline.start + timeline.duration == pytest.approx(end, abs=0.5 / float(fps))


def test_only_a_constant_rate_from_zero_is_steady(file: Path) -> None:
    with FeatureStore(file) as store:
        steady = {name for name in CLOCKS if Timeline.of(store[name]).is_steady()}
    assert steady == {"25 fps", "50 fps", "ntsc"}


def test_a_steady_reader_finds_the_same_row(timeline: Timeline) -> None:
    for second in timeline.start + np.linspace(0, timeline.duration, 7):
        moved = timeline.steady(float(second))
        assert moved * timeline.fps == pytest.approx(float(timeline.frames_at(second)))


def test_features_are_linear_between_rows_and_constant_outside(timeline: Timeline) -> None:
    rows = np.arange(13, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    frames = timeline.offset + np.array([-1.0, 0, 0.5, 3, 12, 20]) * timeline.stride
    found = at_frames(rows, timeline, frames)
    np.testing.assert_allclose(found[:, 0], [0, 0, 0.5, 3, 12, 12], atol=1e-5)
    seconds = np.interp(frames[1:5], timeline.positions, timeline.seconds)
    np.testing.assert_allclose(at_seconds(rows, timeline, seconds), found[1:5], atol=1e-4)
    spread = evenly(rows, timeline, 5)
    assert spread.shape == (5, 3)
    assert (np.diff(spread[:, 0]) > 0).all()


def test_row_coordinates_go_on_beyond_the_rows(file: Path) -> None:
    with FeatureStore(file) as store:
        timeline = Timeline.of(store["d"])
    fps = 30000 / 1001
    np.testing.assert_allclose(timeline.frames_at(np.array([0, 203 / fps])), [0, 203], atol=1e-6)
