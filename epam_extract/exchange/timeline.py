"""Where the rows of a video lie in time, and its features at other moments.

Row i stands for frame position ``offset_frames + i * feat_stride`` of the stored video, and the
file has the seconds at which each window starts, is centred and ends. Those moments tie frame
positions to seconds, whatever the frame rate does; between them both are linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..store import StoredVideo


@dataclass(frozen=True)
class Timeline:
    """The frame positions and seconds of one video."""

    positions: np.ndarray
    """(K,) float64 frame positions, ascending; position n is where frame n begins."""
    seconds: np.ndarray
    """(K,) float64, when that is, by the video's own clock."""
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
        attrs, times = video.attrs, video["times"][:]
        frames = int(_number(attrs["num_frames"]))
        stride, offset = _number(attrs["feat_stride"]), _number(attrs["offset_frames"])
        half = _number(attrs["window_frames"]) / 2
        center = offset + stride * np.arange(len(times))
        ends = np.clip([center - half, center + half], 0, frames)  # as the stored times are
        positions, first = np.unique([ends[0], center, ends[1]], return_index=True)
        seconds = times.T.reshape(-1)[first]
        fps = _number(attrs["fps_num"]) / _number(attrs["fps_den"])
        start = float(seconds[0] - positions[0] / fps)
        duration = _number(attrs["duration"])
        if frames > positions[-1] and start + duration > seconds[-1]:
            positions, seconds = np.append(positions, frames), np.append(seconds, start + duration)
        return cls(
            positions=positions,
            seconds=seconds,
            start=start,
            duration=duration,
            fps=fps,
            num_frames=frames,
            stride=stride,
            offset=offset,
        )

    def frames_at(self, seconds: np.ndarray | float) -> np.ndarray:
        """Frame positions of moments; beyond what the file has times of, by the frame rate."""
        seconds = np.asarray(seconds, np.float64)
        before = np.minimum(seconds - self.seconds[0], 0)
        after = np.maximum(seconds - self.seconds[-1], 0)
        return np.interp(seconds, self.seconds, self.positions) + (before + after) * self.fps

    def rows_at(self, seconds: np.ndarray | float) -> np.ndarray:
        """Row coordinates of moments."""
        return (self.frames_at(seconds) - self.offset) / self.stride

    def steady(self, seconds: float) -> float:
        """The moment at which a reader that counts ``fps`` frames a second finds the same row."""
        return float(self.frames_at(seconds)) / self.fps

    def is_steady(self) -> bool:
        """Whether such a reader's clock and the video's agree to half a frame."""
        return bool(np.abs(self.positions / self.fps - self.seconds).max() <= 0.5 / self.fps)


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
