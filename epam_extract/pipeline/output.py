"""Hands features and keypoints to the store and commits them every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..config import ExtractConfig
from ..errors import VideoError
from ..progress import Progress
from ..records import Clip, FeatureBatch, VideoFailure
from ..store import StoreWriter
from ..windows import grid_attributes, valid_share, window_starts, window_times
from .concurrency import Meter
from .video_worker import Event, KeypointsReady, VideoEnded, VideoStarted

MOST_NOTES = 20  # about single videos, in a summary
COMMIT_BYTES = 64 << 20  # rows waiting for a commit, at most
COMMIT_SECONDS = 2.0  # and how long they wait


@dataclass
class VideoState:
    """A video some of whose rows are still to come."""

    started: VideoStarted
    rows: int
    """Windows handed to the store."""
    frames: int
    """Frames whose keypoints were handed to the store."""
    expected: int
    """Frames it has: by its header, and once it has ended, by measurement."""
    windows: int
    """Windows it has, likewise."""
    advanced: int = 0
    """Of the expected frames, those reported as processed."""
    ended: VideoEnded | None = None

    def reached(self) -> int:
        """Frames that need no further work, by the share of windows that are done."""
        return min(self.expected * self.rows // max(self.windows, 1), self.expected)


class Output:
    """Takes events and features, in any interleaving of videos; used by one thread."""

    def __init__(
        self, store: StoreWriter, config: ExtractConfig, *, progress: Progress, meter: Meter
    ) -> None:
        self._store, self._config = store, config
        self._progress, self._meter = progress, meter
        self._open: dict[str, VideoState] = {}
        self._finished: list[tuple[str, int]] = []
        self._last_commit = time.monotonic()
        self.done: list[str] = []
        """Videos completed and committed."""
        self.failures: list[VideoFailure] = []
        self.notes: list[str] = []
        """What the user should know of videos that were read, such as damage."""
        self.windows = 0
        self.frames = 0
        self.frames_with_person = 0
        self.clipped = 0

    def event(self, event: Event) -> None:
        """A video began, ended or failed, or its keypoints go on."""
        if isinstance(event, VideoStarted):
            self._begin(event)
        elif isinstance(event, KeypointsReady):
            self._track(event)
        elif isinstance(event, VideoEnded):
            self._end(event)
        elif isinstance(event, VideoFailure):
            self._fail(event)

    def features(self, batch: FeatureBatch) -> None:
        """Rows of a batch, each to its video; rows of a video come in order."""
        self.clipped += int(batch.clipped.sum())
        start = 0
        while start < len(batch.clips):
            video_id = batch.clips[start].video_id
            stop = start + 1
            while stop < len(batch.clips) and batch.clips[stop].video_id == video_id:
                stop += 1
            if video_id in self._open:  # not one that has failed meanwhile
                arrays = {name: array[start:stop] for name, array in batch.arrays.items()}
                clipped = int(batch.clipped[start:stop].sum())
                self._rows(self._open[video_id], batch.clips[start:stop], arrays, clipped)
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

    def _begin(self, started: VideoStarted) -> None:
        job = started.job
        state = VideoState(
            started,
            rows=job.windows_done,
            frames=job.frames_done,
            expected=started.frames,
            windows=len(window_starts(started.frames, self._config.windows)),
        )
        state.advanced = state.reached()
        self._open[job.video_id] = state
        self._progress.video_started(job.video_id, started.frames)
        if job.windows_done == 0 and job.frames_done == 0:
            with self._failing(state):
                self._store.begin(
                    job.video_id, job.path, size=started.size, mtime_ns=started.mtime_ns
                )

    def _end(self, ended: VideoEnded) -> None:
        """Its length is known now, which may not be what its header promised."""
        state = self._open.get(ended.video.id)
        if state is None:
            return
        self._progress.corrected(ended.video.num_frames - state.expected)
        for note in ended.video.notes:
            self.notes.append(f"{ended.video.id}: {note}")
            self._progress.warning(self.notes[-1])
        state.ended = ended
        state.expected, state.windows = ended.video.num_frames, len(ended.windows)
        self._advance(state)
        self._finish_if_complete(state)

    def _advance(self, state: VideoState) -> None:
        reached = state.reached()
        self._progress.advance(reached - state.advanced)
        state.advanced = reached

    @contextmanager
    def _failing(self, state: VideoState) -> Iterator[None]:
        """What the store refuses of a video is that video's failure."""
        job = state.started.job
        try:
            yield
        except VideoError as error:
            self._fail(VideoFailure(job.video_id, error.stage, str(error), job.path))

    def _track(self, tracked: KeypointsReady) -> None:
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
        self,
        state: VideoState,
        clips: tuple[Clip, ...],
        arrays: dict[str, np.ndarray],
        clipped: int,
    ) -> None:
        video_id = state.started.job.video_id
        rows = range(state.rows, state.rows + len(clips))
        if [clip.window for clip in clips] != list(rows):
            raise RuntimeError(f"{video_id}: rows out of order at window {rows.start}")
        extras = {
            "frames": np.array([clip.frames for clip in clips], np.int32),
            "person": np.array([clip.person for clip in clips], np.float32),
            "box": np.array([clip.box for clip in clips], np.int32),
        }
        with self._failing(state), self._meter.measure("write", len(clips)):
            self._store.append_windows(video_id, {**arrays, **extras}, clipped=clipped)
        if video_id not in self._open:
            return
        state.rows = rows.stop
        self.windows += len(clips)
        self._advance(state)
        self._finish_if_complete(state)

    def _finish_if_complete(self, state: VideoState) -> None:
        if state.ended is None:
            return
        video = state.ended.video
        if (state.rows, state.frames) != (len(state.ended.windows), video.num_frames):
            return
        config = self._config.windows
        seconds = float(1 / video.fps) if video.fps else 0.0
        with self._failing(state):
            self._store.finish(
                video,
                grid=grid_attributes(video.num_frames, config),
                times=window_times(video.timestamps, seconds, config),
                valid=valid_share(video.num_frames, config),
            )
            self._finished.append((video.id, state.rows))
            del self._open[video.id]

    def _fail(self, failure: VideoFailure) -> None:
        state = self._open.pop(failure.video_id, None)
        self.failures.append(failure)
        self._store.fail(failure)
        left = state.expected - state.advanced if state is not None else 0
        self._progress.video_failed(failure, frames_left=left)


def shortened(notes: Sequence[str], clipped: int) -> list[str]:
    """What a summary says of the videos: of values that were clipped, and the first notes."""
    said = list(notes[:MOST_NOTES])
    if len(notes) > MOST_NOTES:
        more = len(notes) - MOST_NOTES
        said.append(f"and {more:,} more like these; epam-extract info lists them")
    if clipped:
        words = f"{clipped} values beyond the f16 range were clipped; --dtype f32 keeps them"
        said.insert(0, words)
    return said
