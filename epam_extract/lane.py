"""One video, from its file to clips: read once and in order, people found, windows cut."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .clips import Cut, WindowCutter, grown_box, tight_box, union_boxes
from .concurrency import Budget, Meter, map_ahead
from .config import ExtractConfig, frames_per_piece
from .errors import EpamExtractError, MachineError, VideoError
from .exchange.keypoints import KeypointFile, KeypointsFailed, Matches, VideoKeypoints
from .pose import PoseEstimator
from .records import Clip, FramePiece, PoseTrack, Video, VideoFailure
from .video import OpenVideo, open_video, read_frames
from .windows import earliest_frame, plan_windows

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
    """Frames whose keypoints are in the file already: whole pieces."""


@dataclass(frozen=True)
class VideoStarted:
    """A video is open; its keypoints and clips follow."""

    job: Job
    path: Path
    size: int
    mtime_ns: int
    frames: int
    """Frames that its header promises."""


@dataclass(frozen=True)
class KeypointsReady:
    """Keypoints of a piece of a video, for the file."""

    video_id: str
    start: int
    track: PoseTrack


@dataclass(frozen=True)
class VideoEnded:
    """Every frame of a video was read; what it holds is measured."""

    video: Video
    windows: np.ndarray
    """(W, 48) int64: all its windows."""


People = PoseEstimator | VideoKeypoints
Event = VideoStarted | KeypointsReady | Clip | VideoEnded | VideoFailure


@dataclass(frozen=True)
class Lane:
    """Turns jobs into events; called by several threads, each with its own video."""

    config: ExtractConfig
    pose: PoseEstimator | None
    """None where all keypoints come from a file."""
    pool: Executor
    depth: int
    """Pieces under way in the pool at once."""
    budget: Budget
    """Bytes of whole frames."""
    meter: Meter
    stop: threading.Event
    keypoints: KeypointFile | None = None
    matches: Matches | None = None
    """Which videos have keypoints in that file."""

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
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise MachineError(
                    f"too many files are open while reading {job.path}; raise the limit "
                    "(ulimit -n 1024) or use fewer --workers"
                ) from None
            log.exception("%s failed", job.path)
            message = f"{type(error).__name__}: {error}"
            yield VideoFailure(job.video_id, VideoError.stage, message, job.path)

    def _read(self, job: Job) -> Iterator[Event]:
        config = self.config
        with open_video(job.path, job.video_id, decoder=config.decoder) as opened:
            status, header = opened.status, opened.header
            yield VideoStarted(job, job.path, status.st_size, status.st_mtime_ns, header.frames)
            ahead = frames_per_piece(header.height, header.width) * (READER_PIECES + self.depth)
            frames = min(config.windows.span + ahead, max(header.frames, 1))
            people = self._people(job, header.height, header.width)
            with self.budget.hold(frames * header.height * header.width * 3):
                if config.crop == "video" or config.windows.grid == "single":
                    yield from self._in_two_passes(job, opened, people)
                else:
                    yield from self._in_one_pass(job, opened, people)
                if opened.video is not None:  # else the run was asked to stop
                    if isinstance(people, VideoKeypoints):
                        people.require(opened.video.num_frames)
                    windows = plan_windows(opened.video.num_frames, config.windows)
                    yield VideoEnded(opened.video, windows)

    def _people(self, job: Job, height: int, width: int) -> People:
        """Where this video's keypoints come from."""
        if self.keypoints is not None and self.matches is not None:
            key = self.matches.found.get(job.video_id)
            if key is not None:
                return self.keypoints.open(key, height=height, width=width)
        if self.pose is None:
            reasons = {} if self.matches is None else self.matches.reasons
            why = reasons.get(job.video_id, "no keypoints are given for it")
            raise KeypointsFailed(f"{why}; --keypoints-missing estimate estimates them")
        return self.pose

    def _in_one_pass(self, job: Job, opened: OpenVideo, people: People) -> Iterator[Event]:
        """Windows are cut as soon as their frames are there."""
        cutter = WindowCutter(job.video_id, self.config.windows, first=job.windows_done)
        needed = earliest_frame(job.windows_done, self.config.windows)
        step = frames_per_piece(opened.header.height, opened.header.width)
        start = min(needed, max(job.frames_done - 1, 0)) // step * step
        for piece, track in self._estimated(self._frames(opened, start), people):
            if piece.start >= job.frames_done:
                yield KeypointsReady(job.video_id, piece.start, track)
            yield from self._clips(cutter.add(piece, track))
        if opened.video is not None:
            yield from self._clips(cutter.finish())

    def _in_two_passes(self, job: Job, opened: OpenVideo, people: People) -> Iterator[Event]:
        """The box, or the one window, is known when the last frame's people are.

        Frames of a video too big to keep are decoded a second time. Tracks are kept: 204 bytes a
        frame and person.
        """
        tracks: list[PoseTrack] = []
        kept: list[FramePiece] | None = []
        frame_bytes = opened.header.height * opened.header.width * 3
        for piece, track in self._estimated(self._frames(opened, 0), people):
            if piece.start >= job.frames_done:
                yield KeypointsReady(job.video_id, piece.start, track)
            tracks.append(track)
            if kept is not None:
                kept.append(piece)
                if (piece.start + len(piece.frames)) * frame_bytes > KEEP_BYTES:
                    kept = None
        video = opened.video
        if video is None:
            return
        by_video = self.config.crop == "video"
        tight = union_boxes(tight_box(track.keypoints) for track in tracks)
        cutter = WindowCutter(
            job.video_id,
            self.config.windows,
            first=job.windows_done,
            windows=plan_windows(video.num_frames, self.config.windows),
            video_box=grown_box(tight, video.height, video.width) if by_video else None,
        )
        pieces = kept or read_frames(video, decoder=self.config.decoder)
        for piece, track in zip(pieces, tracks, strict=False):  # fewer when the run is to stop
            if self.stop.is_set():
                return
            yield from self._clips(cutter.add(piece, track))

    def _frames(self, opened: OpenVideo, start: int) -> Iterator[FramePiece]:
        """Pieces from frame ``start`` on, until the run is asked to stop."""
        with closing(opened.frames(start)) as pieces:
            while not self.stop.is_set():
                waited = time.perf_counter()
                piece = next(pieces, None)
                if piece is None:
                    return
                self.meter.add("read", time.perf_counter() - waited, len(piece.frames))
                yield piece

    def _estimated(
        self, pieces: Iterator[FramePiece], people: People
    ) -> Iterator[tuple[FramePiece, PoseTrack]]:
        """Each piece with its people; several pieces are under way at a time."""

        def estimate(piece: FramePiece) -> tuple[FramePiece, PoseTrack]:
            with self.meter.measure("pose", len(piece.frames)):
                return piece, as_stored(people.estimate(piece))

        return map_ahead(self.pool, estimate, pieces, depth=self.depth)

    def _clips(self, cuts: list[Cut]) -> Iterator[Clip]:
        for cut in cuts:
            if self.stop.is_set():
                return
            with self.meter.measure("clips"):
                clip = cut.clip()
            yield clip


def as_stored(track: PoseTrack) -> PoseTrack:
    """Scores as the file holds them, so that features computed from the file are the same."""
    scores = track.keypoint_scores.astype(np.float16).astype(np.float32)
    return PoseTrack(track.keypoints, scores)
