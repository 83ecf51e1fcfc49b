"""One video, read once and in order: what happens to it before its clips join a batch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .clips import Cut, cut_windows, grown_box, tight_box, union_boxes
from .concurrency import Budget, Meter, map_ahead
from .config import PIECE_FRAMES, ExtractConfig
from .errors import EpamExtractError, MachineError, VideoError
from .pose import PoseEstimator
from .records import Clip, FramePiece, PoseTrack, Video, VideoFailure
from .video import probe, read_frames
from .windows import plan_windows

log = logging.getLogger(__name__)

READER_PIECES = 4  # in a decoder's hands at most, beside those in ours
KEEP_BYTES = 256 << 20  # of a video's frames, kept for a second look with --crop video


@dataclass(frozen=True)
class Job:
    """A video to do, and how far the file already has it."""

    video_id: str
    path: Path
    windows_done: int = 0
    """Rows in the file already."""
    frames_done: int = 0
    """Frames whose keypoints are in the file already; a multiple of ``PIECE_FRAMES``."""


@dataclass(frozen=True)
class Begun:
    """A video's probe is done; its clips follow."""

    job: Job
    video: Video
    windows: np.ndarray
    """(W, 48) int64."""


@dataclass(frozen=True)
class Tracked:
    """Keypoints of a piece of a video, for the file."""

    video_id: str
    start: int
    track: PoseTrack


Event = Begun | Tracked | Clip | VideoFailure


@dataclass(frozen=True)
class Lane:
    """Turns jobs into events; called by several threads, each with its own video."""

    config: ExtractConfig
    pose: PoseEstimator
    pool: Executor
    depth: int
    """Pieces under way in the pool at once."""
    budget: Budget
    """Bytes of whole frames."""
    meter: Meter
    stop: threading.Event

    def __call__(self, job: Job) -> Iterator[Event]:
        """Read ``job``'s video; its failure is an event, the machine's an error."""
        if self.stop.is_set():
            return
        try:
            yield from self._read(job)
        except VideoError as error:
            yield VideoFailure(job.video_id, error.stage, str(error), job.path)
        except EpamExtractError:
            raise
        except MemoryError:
            raise MachineError(
                f"out of memory while reading {job.path}; use fewer --workers"
            ) from None
        except Exception as error:
            log.exception("%s failed", job.path)
            message = f"{type(error).__name__}: {error}"
            yield VideoFailure(job.video_id, VideoError.stage, message, job.path)

    def _read(self, job: Job) -> Iterator[Event]:
        video = probe(job.path, job.video_id, decoder=self.config.decoder)
        windows = plan_windows(video.num_frames, self.config.windows)
        yield Begun(job, video, windows)
        by_video = self.config.crop == "video"
        frames = self.config.windows.span + PIECE_FRAMES * (READER_PIECES + self.depth)
        with self.budget.hold(min(frames, video.num_frames) * frame_bytes(video)):
            read = self._cropped_by_video if by_video else self._cropped_by_window
            yield from read(job, video, windows)

    def _cropped_by_window(self, job: Job, video: Video, windows: np.ndarray) -> Iterator[Event]:
        needed = windows[job.windows_done :].min(initial=video.num_frames)
        start = min(int(needed), job.frames_done) // PIECE_FRAMES * PIECE_FRAMES
        pieces = self._estimated(self._frames(video, start))
        for at, track, ready in cut_windows(job.video_id, windows, pieces, first=job.windows_done):
            if at >= job.frames_done:
                yield Tracked(job.video_id, at, track)
            yield from self._clips(ready)

    def _cropped_by_video(self, job: Job, video: Video, windows: np.ndarray) -> Iterator[Event]:
        """Two passes, since the box is known when the last frame's people are.

        Frames of a video too big to keep are decoded a second time. Tracks are kept: 204 bytes a
        frame and person.
        """
        keep = video.num_frames * frame_bytes(video) <= KEEP_BYTES
        tracks: list[PoseTrack] = []
        kept: list[FramePiece] = []
        for piece, track in self._estimated(self._frames(video, 0)):
            if piece.start >= job.frames_done:
                yield Tracked(job.video_id, piece.start, track)
            tracks.append(track)
            if keep:
                kept.append(piece)
        if self.stop.is_set():
            return
        tight = union_boxes(tight_box(track.keypoints) for track in tracks)
        box = grown_box(tight, video.height, video.width)
        pieces = zip(kept if keep else self._frames(video, 0), tracks, strict=False)
        cuts = cut_windows(job.video_id, windows, pieces, first=job.windows_done, video_box=box)
        for _, _, ready in cuts:
            yield from self._clips(ready)

    def _frames(self, video: Video, start: int) -> Iterator[FramePiece]:
        """Pieces from frame ``start`` on, until the run is asked to stop."""
        pieces = read_frames(video, start=start, decoder=self.config.decoder)
        with closing(pieces):
            while not self.stop.is_set():
                waited = time.perf_counter()
                piece = next(pieces, None)
                if piece is None:
                    return
                self.meter.add("read", time.perf_counter() - waited, len(piece.frames))
                yield piece

    def _estimated(self, pieces: Iterator[FramePiece]) -> Iterator[tuple[FramePiece, PoseTrack]]:
        """Each piece with its people; several pieces are under way at a time."""
        return map_ahead(self.pool, self._estimate, pieces, depth=self.depth)

    def _estimate(self, piece: FramePiece) -> tuple[FramePiece, PoseTrack]:
        with self.meter.measure("pose", len(piece.frames)):
            return piece, self.pose.estimate(piece)

    def _clips(self, cuts: list[Cut]) -> Iterator[Clip]:
        for cut in cuts:
            if self.stop.is_set():
                return
            with self.meter.measure("clips"):
                clip = cut.clip()
            yield clip


def frame_bytes(video: Video) -> int:
    """Bytes of one decoded frame."""
    return video.height * video.width * 3
