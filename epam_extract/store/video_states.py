"""What a file says of each video: how far it is, or why it failed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..records import RemoteFile, VideoFailure, file_stamp, readable


@dataclass(frozen=True)
class StoredProgress:
    """How far the file has a video, by what is committed."""

    complete: bool
    windows: int
    """Rows of features."""
    frames: int
    """Frames whose keypoints are there."""
    size: int
    """Bytes of the video's file when it was read, and its time of change."""
    mtime_ns: int
    label: str = ""
    """Of a complete one that has a label."""


@dataclass(frozen=True)
class StoredFailure:
    """A video that failed, as the file remembers it."""

    stage: str
    message: str
    size: int
    mtime_ns: int

    def same_file(self, size: int, mtime_ns: int) -> bool:
        """Whether the video's file is still the one that failed."""
        return (self.size, self.mtime_ns) == (size, mtime_ns)

    @classmethod
    def of(cls, failure: VideoFailure) -> StoredFailure:
        """With size and time of change of the file as it is now; 0 where it cannot be told."""
        size = mtime_ns = 0
        if isinstance(failure.path, RemoteFile):
            size, mtime_ns = failure.path.size, failure.path.mtime_ns
        elif failure.path is not None:
            with contextlib.suppress(OSError, ValueError):
                size, mtime_ns = file_stamp(failure.path)
        return cls(failure.stage, readable(failure.message), size, mtime_ns)


class StoredVideos(Protocol):
    """What a plan needs to know of the file."""

    def progress(self, video_id: str) -> StoredProgress | None:
        """How far the file has a video, None if it has nothing of it."""
        ...

    def failures(self) -> Mapping[str, StoredFailure]:
        """Videos that failed, by id."""
        ...


class NothingStored:
    """The ``StoredVideos`` of a file that is not there yet."""

    def progress(self, video_id: str) -> StoredProgress | None:
        """Nothing of any video."""
        return None

    def failures(self) -> Mapping[str, StoredFailure]:
        """None."""
        return {}
