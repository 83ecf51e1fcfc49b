"""Feature files of videos that are suspicious in every way, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from epam_extract.config import WindowConfig
from epam_extract.records import PoseTrack, Video
from epam_extract.store import StoreWriter
from epam_extract.windows import grid_attributes, plan_windows, valid_share, window_times

FRAMES = 96

HOSTILE = "a/<script>alert('x')</script> & \"b\""

WINDOWS = WindowConfig(stride=16)


def write_video(
    store: StoreWriter,
    video_id: str,
    *,
    frames: int = FRAMES,
    people: Sequence[int] = range(FRAMES),
    still: bool = False,
    notes: tuple[str, ...] = (),
) -> None:
    """A video with one person in some of its frames."""
    rng = np.random.default_rng(len(video_id))
    stamps = np.arange(frames) / 25
    video = Video(video_id, Path("v.mp4"), frames, Fraction(25), 90, 160, stamps, 1, 1, notes)
    plan = plan_windows(frames, WINDOWS)
    keypoints = rng.uniform(20, 80, (1, frames, 17, 2)).astype(np.float32)
    scores = np.zeros((1, frames, 17), np.float32)
    scores[0, [frame for frame in people if frame < frames]] = 0.9
    keypoints[scores == 0] = 0
    rows = rng.normal(size=(1 if still else len(plan), 648)).astype(np.float32)
    rows = np.repeat(rows, len(plan), 0) if still else rows
    store.begin(video_id, video.path, size=1, mtime_ns=1)
    store.append_keypoints(video_id, 0, PoseTrack(keypoints, scores))
    store.append_windows(
        video_id,
        {
            "rgb_pooled": rows[:, :432],
            "pose_pooled": rows[:, 432:],
            "attention": rng.uniform(0.1, 0.5, (len(plan), 16, 7, 7)).astype(np.float16),
            "frames": plan.astype(np.int32),
            "person": (scores[0].any(-1))[plan].mean(1).astype(np.float32),
            "box": np.tile(np.array([10, 10, 90, 90], np.int32), (len(plan), 1)),
        },
    )
    finish(store, video)


def finish(store: StoreWriter, video: Video) -> None:
    store.finish(
        video,
        grid=grid_attributes(video.num_frames, WINDOWS),
        times=window_times(video.timestamps, 1 / 25, WINDOWS),
        valid=valid_share(video.num_frames, WINDOWS).astype(np.float32),
    )


VIDEOS: dict[str, dict] = {
    "good": {},
    HOSTILE: {"notes": ("<b>12 frames</b> do not decode",)},
    "nobody": {"people": ()},
    "few": {"people": range(20)},
    "still": {"still": True},
    "short": {"frames": 5},
}
