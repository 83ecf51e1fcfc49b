"""Where the rows of a video lie in time, and its features at other moments.

Row i stands for the moment ``times[i, 1]`` and for frame position ``offset_frames + i *
feat_stride`` of the stored video. Between rows both are linear, so that a moment has one row
coordinate, whatever the frame rate does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..store import StoredVideo


@dataclass(frozen=True)
class Timeline:
    """The moments of one video's rows."""

    centers: np.ndarray
    """(W,) float64 seconds, ascending."""
    start: float
    """Second of the first frame."""
    duration: float
    """Seconds from the first frame's start to the last one's end."""
    fps: float
    num_frames: int
    stride: float
    """Frames between rows (``feat_stride``)."""
    offset: float
    """Frame position of row 0 (``offset_frames``)."""

    @classmethod
    def of(cls, video: StoredVideo) -> Timeline:
        """Of a video in a feature file."""
        attrs, times = video.attrs, video["times"]
        return cls(
            centers=times[:, 1],
            start=float(times[0, 0]),
            duration=_number(attrs["duration"]),
            fps=_number(attrs["fps_num"]) / _number(attrs["fps_den"]),
            num_frames=int(_number(attrs["num_frames"])),
            stride=_number(attrs["feat_stride"]),
            offset=_number(attrs["offset_frames"]),
        )

    def rows_at(self, seconds: np.ndarray | float) -> np.ndarray:
        """Row coordinates of moments of the video; beyond the rows by the video's frame rate."""
        seconds = np.asarray(seconds, np.float64)
        rows = np.interp(seconds, self.centers, np.arange(len(self.centers), dtype=np.float64))
        outside = np.minimum(seconds - self.centers[0], 0) + np.maximum(
            seconds - self.centers[-1], 0
        )
        return rows + outside * self.fps / self.stride

    def frames_at(self, seconds: np.ndarray | float) -> np.ndarray:
        """Frame positions of moments of the video."""
        return self.offset + self.stride * self.rows_at(seconds)

    def steady(self, seconds: float) -> float:
        """The moment at which a reader that counts ``fps`` frames a second finds the same row."""
        return round(float(self.frames_at(seconds)) / self.fps, 6)

    def is_steady(self) -> bool:
        """Whether such a reader's clock and the video's agree to half a frame."""
        expected = (self.offset + self.stride * np.arange(len(self.centers))) / self.fps
        return bool(np.abs(expected - self.centers).max() <= 0.5 / self.fps)


def at_frames(features: np.ndarray, timeline: Timeline, frames: np.ndarray) -> np.ndarray:
    """Features (n, C) at frame positions (n,), linear between rows, the edge rows held."""
    return _between(features, (frames - timeline.offset) / timeline.stride)


def at_seconds(features: np.ndarray, timeline: Timeline, seconds: np.ndarray) -> np.ndarray:
    """Features (n, C) at moments (n,) of the video, likewise."""
    return _between(features, timeline.rows_at(seconds))


def evenly(features: np.ndarray, timeline: Timeline, length: int) -> np.ndarray:
    """Features (length, C) at the middles of ``length`` equal parts of the video's duration."""
    middles = (np.arange(length) + 0.5) / length
    return at_seconds(features, timeline, timeline.start + middles * timeline.duration)


def _number(value: object) -> float:
    return float(str(value))


def _between(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    rows = np.clip(rows, 0, len(features) - 1)
    low = np.floor(rows).astype(np.int64)
    high = np.minimum(low + 1, len(features) - 1)
    share = (rows - low)[:, None].astype(np.float32)
    return features[low] * (1 - share) + features[high] * share
