"""Feature files with the pooled features that a test says, without any video."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
from make_rows import POSE, WEIGHTS, make_track

from epam_extract.config import ExtractConfig, WindowConfig
from epam_extract.records import PoseTrack, Video
from epam_extract.store import StoreHeader, StoreWriter
from epam_extract.windows import grid_attributes, plan_windows, valid_share, window_times

STRIDE = 16
Streams = tuple[np.ndarray, np.ndarray]  # (W, 432), (W, 216)


def write_pooled(
    path: Path,
    videos: Mapping[str, Streams],
    *,
    weights: Mapping[str, object] | None = None,
    person: Mapping[str, np.ndarray] | None = None,
    unfinished: tuple[str, ...] = (),
) -> Path:
    """Videos of 16 frames per row at 25 fps, 160 x 90."""
    windows = WindowConfig()
    config = ExtractConfig(features=("pooled",), windows=windows)
    weights = {"file": "epam.pth", "sha256": "0f"} if weights is None else weights
    header = StoreHeader({**config.identity(), "compiled": ""}, weights, {"mode": "bundled"})
    with StoreWriter(path, header) as store:
        for video_id, (rgb, pose) in videos.items():
            count = len(rgb)
            total = count * STRIDE
            stamps = np.arange(total) / 25
            video = Video(video_id, Path("v.mp4"), total, Fraction(25), 90, 160, stamps, 1, 1)
            store.begin(video_id, video.path, size=1, mtime_ns=1)
            nobody = PoseTrack(
                np.zeros((0, total, 17, 2), np.float32), np.zeros((0, total, 17), np.float32)
            )
            store.append_keypoints(video_id, 0, nobody)
            seen = (person or {}).get(video_id, np.ones(count))
            store.append_windows(
                video_id,
                {
                    "rgb_pooled": rgb.astype(np.float32),
                    "pose_pooled": pose.astype(np.float32),
                    "frames": plan_windows(total, windows).astype(np.int32),
                    "person": seen.astype(np.float32),
                    "box": np.zeros((count, 4), np.int32),
                },
            )
            if video_id not in unfinished:
                store.finish(
                    video,
                    grid=grid_attributes(total, windows),
                    times=window_times(stamps, 1 / 25, windows),
                    valid=valid_share(total, windows),
                )
        store.commit()
    return path


def noise(seed: int, rows: int = 1) -> Streams:
    """Features that mean nothing."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 432)), rng.normal(size=(rows, 216))


FRAMES = 203


CLOCKS = {
    "25 fps": (Fraction(25), np.arange(FRAMES) / 25),
    "ntsc": (Fraction(30000, 1001), np.arange(FRAMES) * 1001 / 30000),
    "50 fps": (Fraction(50), np.arange(FRAMES) / 50),
    "variable": (Fraction(25), np.cumsum(np.resize([0.03, 0.05, 0.04, 0.06], FRAMES)) - 0.03),
    "uneven": (Fraction(25), np.cumsum(np.random.default_rng(3).uniform(0.02, 0.06, FRAMES))),
    "late.one": (Fraction(25), 5 + np.arange(FRAMES) / 25),
}


EVENT = (72, 136)  # frames


def write_features(
    path: Path, windows: WindowConfig, videos: dict[str, str], *, times: int = 1
) -> Path:
    """Videos (id -> clock) whose features are ``times`` the row's frame position, everywhere."""
    config = ExtractConfig(features=("pooled",), windows=windows)
    header = StoreHeader({**config.identity(), "compiled": ""}, WEIGHTS, POSE)
    with StoreWriter(path, header, overwrite=path.exists()) as store:
        for video_id, clock in videos.items():
            fps, stamps = CLOCKS[clock]
            video = Video(video_id, Path("v.mp4"), FRAMES, fps, 90, 160, stamps, 1, 1)
            frames = plan_windows(FRAMES, windows)
            count = len(frames)
            grid = grid_attributes(FRAMES, windows)
            position = grid["offset_frames"] + np.arange(count) * grid["feat_stride"]
            rows = np.repeat(times * position.astype(np.float32)[:, None], 432, 1)
            store.begin(video_id, video.path, size=1, mtime_ns=1)
            store.append_keypoints(video_id, 0, make_track(video_id, 0, FRAMES))
            store.append_windows(
                video_id,
                {
                    "rgb_pooled": rows,
                    "pose_pooled": rows[:, :216],
                    "frames": frames.astype(np.int32),
                    "person": np.ones(count, np.float32),
                    "box": np.zeros((count, 4), np.int32),
                },
            )
            store.finish(
                video,
                grid=grid,
                times=window_times(stamps, float(1 / fps), windows),
                valid=valid_share(FRAMES, windows),
            )
        store.commit()
    return path


def setting(config: str, name: str) -> float:
    """A number of a config.yaml."""
    return float(config.split(f" {name}: ")[1].split(",")[0])
