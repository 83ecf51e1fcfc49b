"""What a video worker is given, a :class:`Job`, and what it yields, each a :data:`VideoResult`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..config import PIECE_FRAMES, ExtractConfig, WindowConfig
from ..pose import MEMORY_FRAMES, PersonLinker
from ..records import Clip, PoseTrack, RemoteFile, Segment, Video, VideoFailure
from ..store import StoredProgress, StoreWriter
from ..windows import earliest_frame


@dataclass(frozen=True)
class Job:
    """A video to do, and what the file already has of it."""

    video_id: str
    path: Path | RemoteFile
    segment: Segment | None = None
    """The part of the file to read, and its label; None: all of it."""
    stored: StoredProgress | None = None
    """How far an earlier run got; None: nothing of it is stored."""
    recalled: PoseTrack | None = None
    """Stored keypoints of the frames that :meth:`frames_to_recall` returns."""

    @property
    def source_id(self) -> str:
        """The id of the whole video."""
        return self.segment.video_of(self.video_id) if self.segment else self.video_id

    @property
    def windows_done(self) -> int:
        """Windows in the file."""
        return self.stored.windows if self.stored else 0

    @property
    def frames_done(self) -> int:
        """Frames whose keypoints are in the file; always whole pieces."""
        return self.stored.frames if self.stored else 0

    def next_frame(self, config: WindowConfig) -> int:
        """The first frame to read: one that the next window needs, or the last one done."""
        needed = earliest_frame(self.windows_done, config)
        return min(needed, max(self.frames_done - 1, 0))

    def frames_to_recall(self, config: ExtractConfig) -> range:
        """The frames before the piece with ``next_frame`` that linking people looks back at.

        With ``--fps`` a piece can have any number of frames, so these are all frames before it.
        """
        stop = self.next_frame(config.windows)
        if config.fps is not None:
            return range(stop)
        return range(max(stop - PIECE_FRAMES - MEMORY_FRAMES, 0), stop)

    def linker(self, start: int, config: ExtractConfig) -> PersonLinker:
        """A linker that knows the people before ``start``, the first frame that is read."""
        if self.recalled is None:
            return PersonLinker()
        first = self.frames_to_recall(config).start
        where = slice(max(start - MEMORY_FRAMES - first, 0), start - first)
        return PersonLinker.resume(
            self.recalled.keypoints[:, where], self.recalled.keypoint_scores[:, where]
        )


def recall_people(job: Job, store: StoreWriter, config: ExtractConfig) -> Job:
    """``job`` with the stored keypoints that linking needs, so that people keep their rows."""
    if not job.frames_done:
        return job
    return replace(job, recalled=store.keypoints(job.video_id, job.frames_to_recall(config)))


@dataclass(frozen=True)
class VideoStarted:
    """A video is open; its keypoints and clips follow."""

    job: Job
    size: int
    """Bytes of the video's file."""
    mtime_ns: int
    frames: int
    """Number of frames, according to the header."""


@dataclass(frozen=True)
class KeypointsReady:
    """Keypoints of one piece of a video, for the file."""

    video_id: str
    start: int
    """The piece's first frame."""
    track: PoseTrack


@dataclass(frozen=True)
class VideoEnded:
    """All frames of a video were read."""

    video: Video
    """The video as measured."""


VideoResult = VideoStarted | KeypointsReady | Clip | VideoEnded | VideoFailure
