"""Videos in a feature file, whose rows depend on the video and their number alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from epam_extract.config import ExtractConfig
from epam_extract.records import PoseTrack, Video, concatenate
from epam_extract.schema import AT_THE_END, window_arrays
from epam_extract.store import StoreHeader, StoreWriter

SMALL = ExtractConfig(features=("pooled",)).identity()
FULL = ExtractConfig(features=("pooled", "full", "tokens")).identity()
WEIGHTS = {"file": "epam.pth", "sha256": "0f"}
POSE = {"mode": "bundled", "models": [{"name": "det", "sha256": "1e"}]}
HEADER = StoreHeader(SMALL, WEIGHTS, POSE)
GRID = {"feat_stride": 16.0, "window_frames": 48.0, "offset_frames": 8.0}


def make_video(video_id: str, num_frames: int = 40, mtime_ns: int = 5) -> Video:
    path = Path("/videos") / f"{video_id}.mp4"
    times = np.arange(num_frames) / 25
    return Video(video_id, path, num_frames, Fraction(25), 90, 160, times, 1000, mtime_ns)


def make_rows(video_id: str, start: int, stop: int, config: dict = SMALL) -> dict[str, np.ndarray]:
    """Rows that depend on the video and on their number alone."""
    rows = [make_row(video_id, number, json.dumps(config)) for number in range(start, stop)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0].keys() - AT_THE_END}


def make_end(video_id: str, windows: int) -> dict[str, np.ndarray]:
    """``times`` and ``valid``, which come with the video's end."""
    rows = [make_row(video_id, number, json.dumps(SMALL)) for number in range(windows)]
    return {name: np.stack([row[name] for row in rows]) for name in AT_THE_END}


def begin(store: StoreWriter, video: Video) -> None:
    store.begin(video.id, video.path, size=video.size, mtime_ns=video.mtime_ns)


def finish(store: StoreWriter, video: Video, windows: int) -> None:
    store.finish(video, grid=GRID, **make_end(video.id, windows))


@lru_cache(maxsize=200)
def make_row(video_id: str, number: int, config: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([*video_id.encode(), number])
    return {
        name: (rng.integers(0, 100, array.item) / 100).astype(array.dtype)
        for name, array in window_arrays(json.loads(config)).items()
    }


def make_track(video_id: str, start: int, stop: int) -> PoseTrack:
    """Keypoints that depend on the video and the frame alone; more people come with time."""
    return concatenate([make_frame(video_id, frame) for frame in range(start, stop)])


@lru_cache(maxsize=2000)
def make_frame(video_id: str, frame: int) -> PoseTrack:
    rng = np.random.default_rng([*video_id.encode(), frame, 1])
    people = 0 if frame < 8 else 1 + frame // 30
    scores = rng.random((people, 1, 17), np.float32).astype(np.float16).astype(np.float32)
    return PoseTrack(rng.random((people, 1, 17, 2), np.float32) * 100, scores)


def write_video(
    store: StoreWriter, video_id: str, windows: int, num_frames: int, config: dict = SMALL
) -> None:
    begin(store, make_video(video_id, num_frames))
    store.append_windows(video_id, make_rows(video_id, 0, windows, config))
    store.append_keypoints(video_id, 0, make_track(video_id, 0, num_frames))
    finish(store, make_video(video_id, num_frames), windows)


def require_equal(
    stored: Mapping, video_id: str, windows: int, num_frames: int, config: dict
) -> None:
    track = make_track(video_id, 0, num_frames)
    expected = {
        **make_rows(video_id, 0, windows, config),
        **make_end(video_id, windows),
        "keypoints": track.keypoints,
        "keypoint_scores": track.keypoint_scores.astype(np.float16),
    }
    assert set(stored) == set(expected)
    for name, array in expected.items():
        have = stored[name][()]
        assert have.dtype == array.dtype, name
        np.testing.assert_array_equal(have, array, err_msg=name)
