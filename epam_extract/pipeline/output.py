"""Hands features and keypoints to the store and commits them every few seconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..config import ExtractConfig, WindowConfig
from ..errors import VideoError
from ..progress import Progress
from ..records import ClipRow, FeatureBatch, Video, VideoFailure
from ..store import StoreWriter
from ..windows import grid_attributes, valid_share, window_starts, window_times
from .concurrency import Meter
from .jobs import Job, KeypointsReady, VideoEnded, VideoResult, VideoStarted
from .summary import Totals

COMMIT_BYTES = 64 << 20  # rows waiting for a commit, at most
COMMIT_SECONDS = 2.0  # and how long they wait


@dataclass
class VideoInProgress:
    """A video that is being written. How far it is, the store knows."""

    job: Job
    frames: int
    """Frames of the video: by its header, and once it has ended, as measured."""
    windows: int
    """Windows of the video, likewise."""
    advanced: int = 0
    """Of the frames, those reported as processed."""
    measured: Video | None = None
    """The video, once it has ended."""


class OutputWriter:
    """Writes results and features, with videos interleaved in any way; used by one thread."""

    def __init__(
        self, store: StoreWriter, config: ExtractConfig, *, progress: Progress, meter: Meter
    ) -> None:
        self._store, self._config = store, config
        self._progress, self._meter = progress, meter
        self._videos: dict[str, VideoInProgress] = {}
        self._finished: list[tuple[str, int]] = []
        self._last_commit = time.monotonic()
        self.done: list[str] = []
        """Videos completed and committed."""
        self.failures: list[VideoFailure] = []
        self.totals = Totals()

    def take(self, result: VideoResult) -> None:
        """Take the next result of a video, other than a clip."""
        if isinstance(result, VideoStarted):
            self._begin(result)
        elif isinstance(result, KeypointsReady):
            self._write_keypoints(result)
        elif isinstance(result, VideoEnded):
            self._end(result.video)
        elif isinstance(result, VideoFailure):
            self._fail(result)

    def write(self, batch: FeatureBatch) -> None:
        """Write the features of a batch, each to its video; those of a video come in order."""
        self.totals.clipped += int(batch.clipped.sum())
        for video_id, part in by_video(batch):
            if video_id in self._videos:  # it may have failed meanwhile
                self._write_windows(self._videos[video_id], part)

    def commit_if_due(self) -> None:
        """Commit if enough waits, or has waited for long enough."""
        due = time.monotonic() - self._last_commit >= COMMIT_SECONDS
        if due or self._store.pending_bytes >= COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Commit everything handed to the store, and report the videos that are complete."""
        with self._meter.measure("write", 0):
            self._store.commit()
        self._last_commit = time.monotonic()
        for video_id, windows in self._finished:
            self.done.append(video_id)
            self._progress.video_done(video_id, windows)
        self._finished.clear()

    def _begin(self, started: VideoStarted) -> None:
        job = started.job
        windows = len(window_starts(started.frames, self._config.windows))
        self._videos[job.video_id] = video = VideoInProgress(job, started.frames, windows)
        self._progress.video_started(job.video_id, started.frames)
        if job.windows_done or job.frames_done:
            video.advanced = self._reached(video)
            return
        self._store_accepts(
            job,
            partial(
                self._store.begin,
                job.video_id,
                job.path,
                size=started.size,
                mtime_ns=started.mtime_ns,
            ),
        )

    def _end(self, measured: Video) -> None:
        """Note a video's length, which may not be what its header said."""
        video = self._videos.get(measured.id)
        if video is None:
            return
        self._progress.corrected(measured.num_frames - video.frames)
        for note in measured.notes:
            text = f"{measured.id}: {note}"
            self.totals.notes.append(text)
            self._progress.warning(text)
        video.measured = measured
        video.frames = measured.num_frames
        video.windows = len(window_starts(measured.num_frames, self._config.windows))
        self._advance(video)
        self._finish_if_complete(video)

    def _reached(self, video: VideoInProgress) -> int:
        """Frames that need no more work, by the share of windows that are done."""
        windows, _ = self._store.handed_over(video.job.video_id)
        return min(video.frames * windows // max(video.windows, 1), video.frames)

    def _advance(self, video: VideoInProgress) -> None:
        reached = self._reached(video)
        self._progress.advance(reached - video.advanced)
        video.advanced = reached

    def _store_accepts(self, job: Job, call: Callable[[], object]) -> bool:
        """Hand something to the store. If it refuses it, that is the video's failure."""
        try:
            call()
        except VideoError as error:
            self._fail(VideoFailure(job.video_id, error.stage, str(error), job.path))
            return False
        return True

    def _write_keypoints(self, ready: KeypointsReady) -> None:
        video = self._videos.get(ready.video_id)
        if video is None:
            return
        append = partial(self._store.append_keypoints, ready.video_id, ready.start, ready.track)
        with self._meter.measure("write", 0):
            accepted = self._store_accepts(video.job, append)
        if accepted:
            scores = ready.track.keypoint_scores
            self.totals.frames += scores.shape[1]
            self.totals.frames_with_person += int((scores > 0).any((0, 2)).sum())
            self._finish_if_complete(video)

    def _write_windows(self, video: VideoInProgress, batch: FeatureBatch) -> None:
        video_id, count = video.job.video_id, len(batch.rows)
        first, _ = self._store.handed_over(video_id)
        if [row.window for row in batch.rows] != list(range(first, first + count)):
            raise RuntimeError(f"{video_id}: rows out of order at window {first}")
        arrays, clipped = {**batch.arrays, **row_arrays(batch.rows)}, int(batch.clipped.sum())
        append = partial(self._store.append_windows, video_id, arrays, clipped=clipped)
        with self._meter.measure("write", count):
            accepted = self._store_accepts(video.job, append)
        if accepted:
            self.totals.windows += count
            self._advance(video)
            self._finish_if_complete(video)

    def _finish_if_complete(self, video: VideoInProgress) -> None:
        measured = video.measured
        if measured is None:
            return
        windows, frames = self._store.handed_over(measured.id)
        if (windows, frames) != (video.windows, measured.num_frames):
            return
        finish = partial(self._store.finish, measured, **grid_of(measured, self._config.windows))
        if self._store_accepts(video.job, finish):
            self._finished.append((measured.id, windows))
            del self._videos[measured.id]

    def _fail(self, failure: VideoFailure) -> None:
        video = self._videos.pop(failure.video_id, None)
        self.failures.append(failure)
        self._store.fail(failure)
        left = video.frames - video.advanced if video is not None else 0
        self._progress.video_failed(failure, frames_left=left)


def by_video(batch: FeatureBatch) -> Iterator[tuple[str, FeatureBatch]]:
    """Split a batch where the video changes: pairs of a video's id and its part of the batch."""
    start = 0
    for video_id, rows in itertools.groupby(batch.rows, key=lambda row: row.video_id):
        stop = start + len(list(rows))
        arrays = {name: array[start:stop] for name, array in batch.arrays.items()}
        yield video_id, FeatureBatch(batch.rows[start:stop], arrays, batch.clipped[start:stop])
        start = stop


def row_arrays(rows: Sequence[ClipRow]) -> dict[str, np.ndarray]:
    """The arrays of the file that describe windows: ``frames``, ``person`` and ``box``."""
    return {
        "frames": np.array([row.frames for row in rows], np.int32),
        "person": np.array([row.person for row in rows], np.float32),
        "box": np.array([row.box for row in rows], np.int32),
    }


def grid_of(video: Video, config: WindowConfig) -> dict[str, Any]:
    """What the file says about a video's grid of windows: ``grid``, ``times`` and ``valid``."""
    frame_seconds = float(1 / video.fps) if video.fps else 0.0
    return {
        "grid": grid_attributes(video.num_frames, config),
        "times": window_times(video.timestamps, frame_seconds, config),
        "valid": valid_share(video.num_frames, config),
    }
