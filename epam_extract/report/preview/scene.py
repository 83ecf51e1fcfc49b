"""A scene: a video and its people, everything to draw except the frames.

A first pass over the video finds the people and keeps their keypoints and some small pictures;
drawing reads the frames again, one at a time. So memory grows by 204 bytes per frame and person,
not by whole frames.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ...clips import Box, person_box, seen_in, to_heatmap_pixels
from ...config import POSE_FRAMES, ExtractConfig
from ...exchange.keypoints import VideoKeypoints
from ...heatmaps import render_heatmaps
from ...pipeline.concurrency import map_ahead
from ...pose import PersonLinker, PoseEstimator
from ...records import FramePiece, PoseTrack, Video, concatenate
from ...video import read_frames
from ...windows import grid_attributes, plan_windows, valid_share, window_times
from .drawing import fitted, resized

POSE_THREADS = 4  # at most; each holds a piece of 16 whole frames
PICTURES = 32  # small frames kept for the time line
PICTURE_SIZE = (64, 160)  # they fit into this height and width


@dataclass(frozen=True, eq=False)
class Scene:
    """A video and its people, by frame and window. Windows are numbered from 0, as in the file."""

    video: Video
    track: PoseTrack
    """The people of the whole video."""
    pictures: tuple[np.ndarray, ...]
    """Small frames (h, w, 3), spread evenly over the video."""
    config: ExtractConfig
    models: str
    """What found the people, for display."""

    @cached_property
    def windows(self) -> np.ndarray:
        """(W, 48) int64 frame indices."""
        return plan_windows(self.video.num_frames, self.config.windows)

    @cached_property
    def frame_seconds(self) -> float:
        """Duration of the last frame."""
        return float(1 / self.video.fps) if self.video.fps else 1.0

    @cached_property
    def times(self) -> np.ndarray:
        """(W, 3) start, centre and end of each window in seconds."""
        return window_times(self.video.timestamps, self.frame_seconds, self.config.windows)

    @cached_property
    def valid(self) -> np.ndarray:
        """(W,) share of each window inside the video."""
        return valid_share(self.video.num_frames, self.config.windows)

    @cached_property
    def people(self) -> np.ndarray:
        """(T,) number of people in each frame."""
        return (self.track.keypoint_scores > 0).any(-1).sum(0)

    @cached_property
    def person(self) -> np.ndarray:
        """(W,) share of each window's frames with a person."""
        return (self.people > 0)[self.windows].mean(1)

    @cached_property
    def video_box(self) -> Box | None:
        """The box of all RGB crops with ``crop="video"``, else None."""
        if self.config.crop != "video":
            return None
        return person_box(self.track.keypoints, self.video.height, self.video.width)

    def seen(self, row: int) -> PoseTrack:
        """The people in a window, over its 48 frames."""
        return seen_in(self.track, self.windows[row], self.config.pose.max_persons)

    def pose_box(self, row: int) -> Box:
        """The box of a window's heatmaps, around all of its people."""
        keypoints = np.nan_to_num(self.seen(row).keypoints)
        return person_box(keypoints, self.video.height, self.video.width)

    def rgb_box(self, row: int) -> Box:
        """The box of a window's RGB crops."""
        return self.video_box or self.pose_box(row)

    def heatmaps(self, row: int, positions: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Heatmaps of a window's frames at ``positions`` (of 48): (17, F, 56, 56) float32."""
        seen, where = self.seen(row), np.atleast_1d(np.arange(POSE_FRAMES)[positions])
        keypoints = to_heatmap_pixels(np.nan_to_num(seen.keypoints[:, where]), self.pose_box(row))
        scores = seen.keypoint_scores[:, where]
        return render_heatmaps(torch.from_numpy(keypoints)[None], torch.from_numpy(scores)[None])[
            0
        ].numpy()

    def row_at(self, frame: int) -> int:
        """The window whose centre is nearest to the middle of a frame."""
        grid = grid_attributes(self.video.num_frames, self.config.windows)
        row = round((frame + 0.5 - grid["offset_frames"]) / grid["feat_stride"])
        return min(max(row, 0), len(self.windows) - 1)

    def frames(self) -> Generator[tuple[int, np.ndarray], None, None]:
        """Read the video again: index and pixels of each frame. Close it to stop early."""
        with closing(read_frames(self.video, decoder=self.config.decoder)) as pieces:
            for piece in pieces:
                yield from enumerate(piece.frames, piece.start)


def build_scene(
    video: Video, pose: PoseEstimator | VideoKeypoints, config: ExtractConfig, *, models: str
) -> Scene:
    """Read the whole video once for its keypoints and some small pictures.

    ``models`` is what finds the people, for display.
    """
    linked = isinstance(pose, VideoKeypoints) and pose.linked
    count = min(PICTURES, video.num_frames)
    wanted = set(((np.arange(count) + 0.5) * video.num_frames / count).astype(int))
    size = fitted(video.height, video.width, *PICTURE_SIZE)
    linker = PersonLinker()
    tracks: list[PoseTrack] = []
    pictures: list[np.ndarray] = []

    def estimate(piece: FramePiece) -> tuple[PoseTrack, list[np.ndarray]]:
        small = [
            resized(frame, *size)
            for index, frame in enumerate(piece.frames, piece.start)
            if index in wanted
        ]
        return pose.estimate(piece), small

    threads = min(POSE_THREADS, os.cpu_count() or 1)
    with (
        ThreadPoolExecutor(threads, "preview-pose") as pool,
        closing(read_frames(video, decoder=config.decoder)) as pieces,
    ):
        for track, small in map_ahead(pool, estimate, pieces, depth=threads):
            tracks.append(track if linked else linker.link(track))
            pictures += small
    whole = concatenate(tracks)
    if config.crop == "video":  # people are selected for the whole video
        whole = seen_in(whole, np.arange(video.num_frames), config.pose.max_persons)
    return Scene(video, whole, tuple(pictures), config, models)


def in_words(pose: PoseEstimator) -> str:
    """The mode, such as ``balanced``, or the names of local models."""
    mode = str(pose.source["mode"])
    if mode != "local":
        return mode
    parts = (pose.source.get(role) for role in ("detector", "pose"))
    return " + ".join(str(part["name"]) for part in parts if isinstance(part, dict))
