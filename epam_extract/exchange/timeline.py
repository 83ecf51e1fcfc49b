"""Where the rows of a video lie in time, and its features at other times.

Row i is centred at frame position ``offset_frames + i * feat_stride``, and the file has the start,
centre and end of each window in seconds. These map frame positions to seconds, even with a variable
frame rate; in between the map is linear.
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
    """(K,) float64: the times of these positions, by the video's own timestamps."""
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
        """Frame positions at these times; outside the known times by the frame rate."""
        seconds = np.asarray(seconds, np.float64)
        before = np.minimum(seconds - self.seconds[0], 0)
        after = np.maximum(seconds - self.seconds[-1], 0)
        return np.interp(seconds, self.seconds, self.positions) + (before + after) * self.fps

    def rows_at(self, seconds: np.ndarray | float) -> np.ndarray:
        """Row coordinates at these times."""
        return (self.frames_at(seconds) - self.offset) / self.stride

    def steady(self, seconds: float) -> float:
        """The time at which a reader that assumes ``fps`` frames per second finds the same row."""
        return float(self.frames_at(seconds)) / self.fps

    def is_steady(self) -> bool:
        """Whether such a reader's times and the video's agree to half a frame."""
        return bool(np.abs(self.positions / self.fps - self.seconds).max() <= 0.5 / self.fps)


def at_frames(features: np.ndarray, timeline: Timeline, frames: np.ndarray) -> np.ndarray:
    """Features (n, C) at frame positions (n,): linear between rows, constant outside."""
    return _between(features, (frames - timeline.offset) / timeline.stride)


def at_seconds(features: np.ndarray, timeline: Timeline, seconds: np.ndarray) -> np.ndarray:
    """Features (n, C) at times (n,) in seconds, interpolated in the same way."""
    return _between(features, timeline.rows_at(seconds))


def evenly(features: np.ndarray, timeline: Timeline, length: int) -> np.ndarray:
    """Features (length, C) at the midpoints of ``length`` equal parts of the duration."""
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
