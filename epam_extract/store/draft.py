"""A video that is being written: the data of the next commit, and its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..records import PoseTrack, RemoteFile, Video, readable


@dataclass
class Draft:
    """An incomplete video: how much of it there is, and what the next commit will write."""

    new: bool = False
    """Whether nothing of it is in the file yet."""
    attributes: dict[str, object] = field(default_factory=dict)
    """For the next commit to write."""
    windows: int = 0
    """Rows committed or pending."""
    frames: int = 0
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)
    tracks: list[PoseTrack] = field(default_factory=list)
    checksums: dict[str, int] = field(default_factory=dict)
    """Of each array, over the rows committed or pending."""
    clipped: int = 0
    """Values clipped to the range of the stored dtype."""
    finished: bool = False

    @property
    def pending_bytes(self) -> int:
        """Bytes that the next commit will write."""
        rows = sum(part.nbytes for parts in self.rows.values() for part in parts)
        tracks = sum(t.keypoints.nbytes + t.keypoint_scores.nbytes for t in self.tracks)
        return rows + tracks

    @property
    def changed(self) -> bool:
        """Whether the next commit has anything to write."""
        return bool(self.new or self.rows or self.tracks or self.finished)

    def forget_written(self) -> None:
        """Drop what has been committed."""
        self.new = False
        self.attributes, self.rows, self.tracks = {}, {}, []


def source_attributes(path: Path | RemoteFile, size: int, mtime_ns: int) -> dict[str, object]:
    """The file a video was read from, with its size and modification time."""
    return {"source": readable(str(path)), "source_size": size, "source_mtime_ns": mtime_ns}


def video_attributes(
    video: Video, num_windows: int, grid: Mapping[str, float]
) -> dict[str, object]:
    """The attributes of a complete video's group, except ``complete`` itself."""
    attributes: dict[str, object] = {
        **source_attributes(video.remote or video.path, video.size, video.mtime_ns),
        "fps_num": video.fps.numerator,
        "fps_den": video.fps.denominator,
        "duration": video.duration,
        "num_frames": video.num_frames,
        "num_windows": num_windows,
        "height": video.height,
        "width": video.width,
        "feat_stride": float(grid["feat_stride"]),
        "window_frames": float(grid["window_frames"]),
        "offset_frames": float(grid["offset_frames"]),
    }
    if video.notes:
        attributes["notes"] = "; ".join(video.notes)
    if video.segment is not None and video.segment.label:
        attributes["label"] = readable(video.segment.label)
    if video.segment is not None and not video.segment.whole:
        attributes["segment_start"] = video.segment.start
        attributes["segment_end"] = video.segment.end
    return attributes
