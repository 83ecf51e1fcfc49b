"""Reads one video from start to end, finds people in its frames and cuts it into clips."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..clips import WindowCutter, WindowFrames, grown_box, keep_persons, tight_box, union_boxes
from ..config import ExtractConfig, frames_per_piece
from ..errors import EpamExtractError, MachineError, VideoError
from ..exchange.keypoints import VideoKeypoints
from ..pose import PersonLinker, PoseEstimator
from ..records import (
    Clip,
    FramePiece,
    PoseTrack,
    RemoteFile,
    VideoFailure,
    concatenate,
)
from ..video import OpenVideo, OpenView, open_video
from ..video.fetch import Fetcher
from ..video.memory import MemoryLimit, available_memory
from ..windows import plan_windows
from .concurrency import Budget, Meter, map_ahead
from .jobs import Job, KeypointsReady, VideoEnded, VideoResult, VideoStarted
from .keypoint_sources import KeypointSources

log = logging.getLogger(__name__)

READER_PIECES = 4  # at most in the decoder process, in addition to ours
KEEP_BYTES = 256 << 20  # of a video's frames, kept for the second pass of --crop video


@dataclass(frozen=True)
class VideoWorker:
    """Turns a job into results. Several threads call it, each with a job of its own."""

    config: ExtractConfig
    keypoints: KeypointSources
    pool: Executor
    """Where poses are estimated."""
    depth: int
    """Pieces that may be in the pool at a time, per video."""
    budget: Budget
    """Bytes of decoded frames, of all videos together."""
    meter: Meter
    stop: threading.Event
    fetcher: Fetcher | None = None
    """Fetches the videos that are not on this machine."""
    available: int = field(default_factory=available_memory)
    """Bytes of memory that were free at the start."""

    def __call__(self, job: Job) -> Iterator[VideoResult]:
        """Read ``job``'s video. If the video fails, a VideoFailure is the last result.

        Raises:
            MachineError: memory or open files have run out.
        """
        if self.stop.is_set():
            return
        try:
            with self._on_disk(job) as path:
                if path is not None:
                    yield from self._read(job, path)
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

    @contextmanager
    def _on_disk(self, job: Job) -> Iterator[Path | None]:
        """The video's file on this machine, fetched if necessary; None if the run is to stop."""
        if isinstance(job.path, Path):
            yield job.path
            return
        if self.fetcher is None:
            raise RuntimeError(f"{job.path} is elsewhere, and there is no fetcher")
        with self.fetcher.fetched(job.video_id) as path:
            yield path

    def _read(self, job: Job, path: Path) -> Iterator[VideoResult]:
        config = self.config
        remote = job.path if isinstance(job.path, RemoteFile) else None
        memory = MemoryLimit(
            config.max_memory or self.available, config.windows.span, READER_PIECES + self.depth
        )
        with open_video(
            path,
            job.video_id,
            segment=job.segment,
            fps=config.frame_rate,
            decoder=config.decoder,
            image_fps=config.image_rate,
            memory=memory,
        ) as opened:
            size, mtime_ns = (remote.size, remote.mtime_ns) if remote else opened.stamp
            header = opened.header
            yield VideoStarted(job, size, mtime_ns, header.frames)
            estimator = self.keypoints.of(job, opened, config)
            frames = memory.alive(header.height, header.width, header.frames)
            with self.budget.hold(frames * header.height * header.width * 3):
                reading = _Reading(self, job, opened, estimator)
                if config.crop == "video" or config.windows.grid == "single":
                    yield from reading.in_two_passes()
                else:
                    yield from reading.in_one_pass()
                if opened.video is None:  # the run is to stop
                    return
                if isinstance(estimator, VideoKeypoints):
                    estimator.require(opened.video.num_frames)
                yield VideoEnded(
                    replace(
                        opened.video,
                        segment=job.segment,
                        remote=remote,
                        size=size,
                        mtime_ns=mtime_ns,
                    )
                )


@dataclass(frozen=True)
class _Reading:
    """One video that a worker is reading."""

    worker: VideoWorker
    job: Job
    opened: OpenVideo | OpenView
    estimator: PoseEstimator | VideoKeypoints

    def in_one_pass(self) -> Iterator[VideoResult]:
        """Cut each window as soon as its frames have arrived."""
        job, opened, config = self.job, self.opened, self.worker.config
        cutter = WindowCutter(
            job.video_id,
            config.windows,
            first=job.windows_done,
            max_persons=config.pose.max_persons,
        )
        step = frames_per_piece(opened.header.height, opened.header.width)
        start = opened.piece_start(job.next_frame(config.windows), step)
        for piece, track in self._estimated(start, job.linker(start, config)):
            if piece.start >= job.frames_done:
                yield KeypointsReady(job.video_id, piece.start, track)
            yield from self._clips(cutter.add(piece, track))
        if opened.video is not None:
            yield from self._clips(cutter.finish())

    def in_two_passes(self) -> Iterator[VideoResult]:
        """Find people in all frames first, then cut the windows.

        For ``--crop video``, whose box, and for the single window, whose frames, are known only
        then. Frames are decoded a second time if there are too many to keep; keypoints are kept:
        204 bytes per frame and person.
        """
        job, config = self.job, self.worker.config
        tracks: list[PoseTrack] = []
        kept: list[FramePiece] | None = []
        kept_bytes = 0
        for piece, track in self._estimated(0, PersonLinker()):
            if piece.start >= job.frames_done:
                yield KeypointsReady(job.video_id, piece.start, track)
            tracks.append(track)
            if kept is not None:
                kept.append(piece)
                kept_bytes += piece.frames.nbytes
                if kept_bytes > KEEP_BYTES:
                    kept = None
        video = self.opened.video
        if video is None:
            return
        by_video = config.crop == "video"
        max_persons = config.pose.max_persons
        if by_video and max_persons is not None:
            rows = keep_persons(concatenate(tracks).keypoint_scores, max_persons)
            tracks = [with_rows(track, rows) for track in tracks]
        tight = union_boxes(tight_box(track.keypoints) for track in tracks)
        cutter = WindowCutter(
            job.video_id,
            config.windows,
            first=job.windows_done,
            windows=plan_windows(video.num_frames, config.windows),
            video_box=grown_box(tight, video.height, video.width) if by_video else None,
            max_persons=max_persons,
        )
        pieces = kept or self.opened.again()
        for piece, track in zip(pieces, tracks, strict=False):  # fewer if the run is to stop
            if self.worker.stop.is_set():
                return
            yield from self._clips(cutter.add(piece, track))

    def _frames(self, start: int) -> Iterator[FramePiece]:
        """Pieces from frame ``start`` on, until the run is to stop."""
        with closing(self.opened.frames(start)) as pieces:
            while not self.worker.stop.is_set():
                waited = time.perf_counter()
                piece = next(pieces, None)
                if piece is None:
                    return
                self.worker.meter.add("read", time.perf_counter() - waited, len(piece.frames))
                yield piece

    def _estimated(
        self, start: int, linker: PersonLinker
    ) -> Iterator[tuple[FramePiece, PoseTrack]]:
        """Pieces from frame ``start`` on with the people in them, linked.

        Several pieces are estimated at a time.
        """
        worker, estimator = self.worker, self.estimator

        def estimate(piece: FramePiece) -> tuple[FramePiece, PoseTrack]:
            with worker.meter.measure("pose", len(piece.frames)):
                return piece, as_stored(estimator.estimate(piece))

        linked = isinstance(estimator, VideoKeypoints) and estimator.linked
        pieces = self._frames(start)
        for piece, track in map_ahead(worker.pool, estimate, pieces, depth=worker.depth):
            track = piece.spread(track)
            yield piece, track if linked else linker.link(track)

    def _clips(self, windows: list[WindowFrames]) -> Iterator[Clip]:
        for window in windows:
            if self.worker.stop.is_set():
                return
            with self.worker.meter.measure("clips"):
                clip = window.clip()
            yield clip


def as_stored(track: PoseTrack) -> PoseTrack:
    """Round scores as the file does, so that features computed from the file are the same."""
    scores = track.keypoint_scores.astype(np.float16).astype(np.float32)
    return PoseTrack(track.keypoints, scores)


def with_rows(track: PoseTrack, rows: np.ndarray) -> PoseTrack:
    """Only these rows (people) of a track; rows that it does not have are skipped."""
    rows = rows[rows < len(track.keypoints)]
    return PoseTrack(track.keypoints[rows], track.keypoint_scores[rows])
