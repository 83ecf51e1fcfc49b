"""What a file says of each video: how far it is, or why it failed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..records import RemoteFile, VideoFailure, file_stamp, readable


@dataclass(frozen=True)
class StoredProgress:
    """How much of a video is committed."""

    complete: bool
    windows: int
    """Rows of features."""
    frames: int
    """Frames whose keypoints are stored."""
    size: int
    """Bytes of the video's file when it was read."""
    mtime_ns: int
    """Modification time of that file."""
    label: str = ""
    """Of a complete segment that has one."""


@dataclass(frozen=True)
class StoredFailure:
    """A video that failed, as the file records it."""

    stage: str
    message: str
    size: int
    mtime_ns: int

    def same_file(self, size: int, mtime_ns: int) -> bool:
        """Whether the video's file is unchanged since it failed."""
        return (self.size, self.mtime_ns) == (size, mtime_ns)

    @classmethod
    def of(cls, failure: VideoFailure) -> StoredFailure:
        """The failure with the current size and modification time of its file; 0 if unknown."""
        size = mtime_ns = 0
        if isinstance(failure.path, RemoteFile):
            size, mtime_ns = failure.path.size, failure.path.mtime_ns
        elif failure.path is not None:
            with contextlib.suppress(OSError, ValueError):
                size, mtime_ns = file_stamp(failure.path)
        return cls(failure.stage, readable(failure.message), size, mtime_ns)


class StoredVideos(Protocol):
    """What a plan needs to know about a file."""

    def progress(self, video_id: str) -> StoredProgress | None:
        """How much of a video is stored; None if nothing is."""
        ...

    def failures(self) -> Mapping[str, StoredFailure]:
        """Videos that failed, by id."""
        ...


class NothingStored:
    """``StoredVideos`` of a file that does not exist yet."""

    def progress(self, video_id: str) -> StoredProgress | None:
        """None, for every video."""
        return None

    def failures(self) -> Mapping[str, StoredFailure]:
        """No failures."""
        return {}
