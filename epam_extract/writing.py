"""The end of the line: features and keypoints into the file, committed now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from .concurrency import Meter
from .config import ExtractConfig
from .errors import VideoError
from .lane import Begun, Event, Tracked
from .progress import Progress
from .records import Clip, FeatureBatch, VideoFailure
from .store import StoreWriter
from .windows import grid_attributes, valid_share, window_times

COMMIT_BYTES = 64 << 20  # rows waiting for a commit, at most
COMMIT_SECONDS = 2.0  # and how long they wait


@dataclass
class OpenVideo:
    """A video some of whose rows are still to come."""

    begun: Begun
    rows: int
    """Windows handed to the store."""
    frames: int
    """Frames whose keypoints were handed to the store."""
    advanced: int
    """Frames reported as processed."""
    times: np.ndarray
    valid: np.ndarray

    @property
    def complete(self) -> bool:
        """Whether every row and every keypoint is there."""
        return self.rows == len(self.begun.windows) and self.frames == self.begun.video.num_frames


class Output:
    """Takes events and features, in any interleaving of videos; used by one thread."""

    def __init__(
        self, store: StoreWriter, config: ExtractConfig, *, progress: Progress, meter: Meter
    ) -> None:
        self._store, self._config = store, config
        self._progress, self._meter = progress, meter
        self._open: dict[str, OpenVideo] = {}
        self._finished: list[tuple[str, int]] = []
        self._last_commit = time.monotonic()
        self.done: list[str] = []
        """Videos completed and committed."""
        self.failures: list[VideoFailure] = []
        self.windows = 0
        self.frames = 0
        self.frames_with_person = 0
        self.clipped = 0

    def event(self, event: Event) -> None:
        """A video began, failed, or its keypoints go on."""
        if isinstance(event, Begun):
            self._begin(event)
        elif isinstance(event, Tracked):
            self._track(event)
        elif isinstance(event, VideoFailure):
            self._fail(event)

    def features(self, batch: FeatureBatch) -> None:
        """Rows of a batch, each to its video; rows of a video come in order."""
        self.clipped += batch.clipped
        start = 0
        while start < len(batch.clips):
            video_id = batch.clips[start].video_id
            stop = start + 1
            while stop < len(batch.clips) and batch.clips[stop].video_id == video_id:
                stop += 1
            if video_id in self._open:  # not one that has failed meanwhile
                arrays = {name: array[start:stop] for name, array in batch.arrays.items()}
                self._rows(self._open[video_id], batch.clips[start:stop], arrays)
            start = stop

    def commit_if_due(self) -> None:
        """Commit when enough waits, or for long enough."""
        due = time.monotonic() - self._last_commit >= COMMIT_SECONDS
        if due or self._store.pending_bytes >= COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Make everything handed over so far last, and report the videos it completes."""
        with self._meter.measure("write", 0):
            self._store.commit()
        self._last_commit = time.monotonic()
        for video_id, windows in self._finished:
            self.done.append(video_id)
            self._progress.video_done(video_id, windows)
        self._finished.clear()

    def _begin(self, begun: Begun) -> None:
        video, job = begun.video, begun.job
        config = self._config.windows
        seconds = float(1 / video.fps) if video.fps else 0.0
        state = OpenVideo(
            begun,
            rows=job.windows_done,
            frames=job.frames_done,
            advanced=video.num_frames * job.windows_done // len(begun.windows),
            times=window_times(video.timestamps, seconds, config),
            valid=valid_share(video.num_frames, config),
        )
        self._open[video.id] = state
        self._progress.video_started(video.id, video.num_frames)
        if job.windows_done == 0 and job.frames_done == 0:
            grid = grid_attributes(video.num_frames, config)
            with self._failing(state):
                self._store.begin(video, num_windows=len(begun.windows), grid=grid)

    @contextmanager
    def _failing(self, state: OpenVideo) -> Iterator[None]:
        """What the store refuses of a video is that video's failure."""
        video = state.begun.video
        try:
            yield
        except VideoError as error:
            self._fail(VideoFailure(video.id, error.stage, str(error), video.path))

    def _track(self, tracked: Tracked) -> None:
        state = self._open.get(tracked.video_id)
        if state is None:
            return
        scores = tracked.track.keypoint_scores
        with self._failing(state), self._meter.measure("write", 0):
            self._store.append_keypoints(tracked.video_id, tracked.start, tracked.track)
        if tracked.video_id not in self._open:
            return
        state.frames += scores.shape[1]
        self.frames += scores.shape[1]
        self.frames_with_person += int((scores > 0).any((0, 2)).sum())
        self._finish_if_complete(state)

    def _rows(
        self, state: OpenVideo, clips: tuple[Clip, ...], arrays: dict[str, np.ndarray]
    ) -> None:
        begun = state.begun
        rows = slice(state.rows, state.rows + len(clips))
        if [clip.window for clip in clips] != list(range(rows.start, rows.stop)):
            raise RuntimeError(f"{begun.video.id}: rows out of order at window {rows.start}")
        extras = {
            "frames": begun.windows[rows].astype(np.int32),
            "times": state.times[rows],
            "valid": state.valid[rows],
            "person": np.array([clip.person for clip in clips], np.float32),
            "box": np.array([clip.box for clip in clips], np.int32),
        }
        with self._failing(state), self._meter.measure("write", len(clips)):
            self._store.append_windows(begun.video.id, {**arrays, **extras})
        if begun.video.id not in self._open:
            return
        state.rows += len(clips)
        self.windows += len(clips)
        reached = begun.video.num_frames * state.rows // len(begun.windows)
        self._progress.advance(reached - state.advanced)
        state.advanced = reached
        self._finish_if_complete(state)

    def _finish_if_complete(self, state: OpenVideo) -> None:
        if state.complete:
            video_id = state.begun.video.id
            with self._failing(state):
                self._store.finish(video_id)
                self._finished.append((video_id, state.rows))
                del self._open[video_id]

    def _fail(self, failure: VideoFailure) -> None:
        state = self._open.pop(failure.video_id, None)
        self.failures.append(failure)
        self._store.fail(failure)
        left = state.begun.video.num_frames - state.advanced if state is not None else 0
        self._progress.video_failed(failure, frames_left=left)
