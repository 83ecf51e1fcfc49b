"""A stand-in for the pose models that walks, and previews of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from epam_extract.config import ExtractConfig, PoseConfig, WindowConfig
from epam_extract.records import FramePiece, PoseTrack, Video
from epam_extract.report.preview.drawing import blank
from epam_extract.report.preview.scene import Scene, build_scene


class Walker:
    """Stands in for the pose models: one person who walks to the right, gone for a while."""

    announcement = "a walker, not a model"

    def __init__(self, absent: range = range(0), people: int = 1) -> None:
        self.absent, self.people = absent, people
        self.source: dict[str, object] = {"mode": "walker"}

    def estimate(self, piece: FramePiece) -> PoseTrack:
        count, height, width = piece.frames.shape[:3]
        frames = np.arange(piece.start, piece.start + count)
        joints = np.random.default_rng(0).uniform(0.2, 0.6, (self.people, 1, 17, 2))
        moved = joints + np.stack([frames * 0.003, frames * 0.0], -1)[None, :, None]
        keypoints = np.float32(moved * (width, height))
        there = np.float32(~np.isin(frames, self.absent))[None, :, None]
        scores = np.broadcast_to(there, (self.people, count, 17)).astype(np.float32)
        return PoseTrack(keypoints * scores[..., None], scores)


def scene_of(video: Video, pose: Walker | None = None, **options: object) -> Scene:
    crop, most = str(options.pop("crop", "window")), options.pop("max_persons", None)
    config = ExtractConfig(
        windows=WindowConfig(**options),  # type: ignore[arg-type]
        pose=PoseConfig(max_persons=most),  # type: ignore[arg-type]
        crop=crop,
    )
    return build_scene(video, pose or Walker(), config, models="walker")  # type: ignore[arg-type]


def imaginary(num_frames: int, absent: range = range(0), **options: object) -> Scene:
    """A scene without a file, for what needs no frames."""
    times = np.arange(num_frames) / 25
    video = Video("x", Path("x.mp4"), num_frames, Fraction(25), 96, 128, times)
    frames = np.broadcast_to(np.uint8(0), (num_frames, 96, 128, 3))
    track = Walker(absent).estimate(FramePiece(0, frames))
    config = ExtractConfig(windows=WindowConfig(**options))  # type: ignore[arg-type]
    return Scene(video, track, (blank(30, 40),) * 4, config, "walker")


GRIDS = (
    {},
    {"stride": 5, "frame_interval": 2},
    {"grid": "valid", "stride": 60},
    {"grid": "single"},
    {"crop": "video"},
    {"crop": "video", "max_persons": 1},
    {"max_persons": 1},
)
