"""One video, from its file to clips: read once and in order, people found, windows cut."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..clips import Cut, WindowCutter, grown_box, keep_persons, tight_box, union_boxes
from ..config import PIECE_FRAMES, ExtractConfig, WindowConfig, frames_per_piece
from ..errors import EpamExtractError, MachineError, VideoError
from ..exchange.keypoints import KeypointFile, KeypointsFailed, Matches, VideoKeypoints
from ..pose import MEMORY_FRAMES, PersonLinker, PoseEstimator
from ..records import (
    Clip,
    FramePiece,
    PoseTrack,
    RemoteFile,
    Segment,
    Video,
    VideoFailure,
    concatenate,
)
from ..video import OpenVideo, OpenView, open_video
from ..video.fetch import Fetcher
from ..video.memory import Room, available_memory
from ..windows import earliest_frame, plan_windows
from .concurrency import Budget, Meter, Pause, map_ahead

log = logging.getLogger(__name__)

READER_PIECES = 4  # in a decoder's hands at most, beside those in ours
MAX_EVENTS = 64  # that may wait for clips to travel with
KEEP_BYTES = 256 << 20  # of a video's frames, kept for a second look with --crop video


@dataclass(frozen=True)
class Job:
    """A video to do, and how far the file already has it."""

    video_id: str
    path: Path | RemoteFile
    windows_done: int = 0
    """Rows in the file already."""
    frames_done: int = 0
    """Frames whose keypoints are in the file already: whole pieces."""
    segment: Segment | None = None
    """The part of the file that it is, and its label."""
    stored: PoseTrack | None = None
    """Of these, the ones before ``next_frame`` that tell who is who: see ``frames_to_recall``."""

    @property
    def source_id(self) -> str:
        """The id of the whole video."""
        return self.segment.video_of(self.video_id) if self.segment else self.video_id

    def next_frame(self, config: WindowConfig) -> int:
        """The first frame to read again: one that a window to come needs, or the last one done."""
        needed = earliest_frame(self.windows_done, config)
        return min(needed, max(self.frames_done - 1, 0))

    def frames_to_recall(self, config: ExtractConfig) -> range:
        """Frames before the piece that ``next_frame`` is in, as far as linking looks back.

        On a regular time line a piece may be of any length: all frames.
        """
        stop = self.next_frame(config.windows)
        if config.fps is not None:
            return range(stop)
        return range(max(stop - PIECE_FRAMES - MEMORY_FRAMES, 0), stop)

    def linker(self, start: int, config: ExtractConfig) -> PersonLinker:
        """Who is who, as it stood before frame ``start`` of the piece to read first."""
        if self.stored is None:
            return PersonLinker()
        first = self.frames_to_recall(config).start
        where = slice(max(start - MEMORY_FRAMES - first, 0), start - first)
        return PersonLinker.resume(
            self.stored.keypoints[:, where], self.stored.keypoint_scores[:, where]
        )


@dataclass(frozen=True)
class VideoStarted:
    """A video is open; its keypoints and clips follow."""

    job: Job
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
    available: int = field(default_factory=available_memory)
    """Bytes of memory that there were at the start."""
    keypoints: KeypointFile | None = None
    matches: Matches | None = None
    """Which videos have keypoints in that file."""
    fetcher: Fetcher | None = None
    """Of the videos that are elsewhere."""

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

    @contextmanager
    def _at_hand(self, job: Job) -> Iterator[Path | None]:
        """The video's file on this machine; None once the run is to stop."""
        if isinstance(job.path, Path):
            yield job.path
            return
        if self.fetcher is None:
            raise RuntimeError(f"{job.path} is elsewhere, and nothing fetches it")
        with self.fetcher.fetched(job.video_id) as path:
            yield path

    def _read(self, job: Job) -> Iterator[Event]:
        with self._at_hand(job) as path:
            if path is not None:
                yield from self._read_file(job, path)

    def _read_file(self, job: Job, path: Path) -> Iterator[Event]:
        config = self.config
        remote = job.path if isinstance(job.path, RemoteFile) else None
        room = Room(
            config.max_memory or self.available, config.windows.span, READER_PIECES + self.depth
        )
        with self._open(job, path, room) as opened:
            size, mtime_ns = (remote.size, remote.mtime_ns) if remote else opened.stamp
            header = opened.header
            yield VideoStarted(job, size, mtime_ns, header.frames)
            frames = room.alive(header.height, header.width, header.frames)
            people = self._people(job, opened)
            with self.budget.hold(frames * header.height * header.width * 3):
                if config.crop == "video" or config.windows.grid == "single":
                    yield from self._in_two_passes(job, opened, people)
                else:
                    yield from self._in_one_pass(job, opened, people)
                if opened.video is not None:  # else the run was asked to stop
                    if isinstance(people, VideoKeypoints):
                        people.require(opened.video.num_frames)
                    windows = plan_windows(opened.video.num_frames, config.windows)
                    video = replace(
                        opened.video,
                        segment=job.segment,
                        remote=remote,
                        size=size,
                        mtime_ns=mtime_ns,
                    )
                    yield VideoEnded(video, windows)

    def _open(self, job: Job, path: Path, room: Room) -> OpenVideo | OpenView:
        config = self.config
        return open_video(
            path,
            job.video_id,
            segment=job.segment,
            fps=config.frame_rate,
            decoder=config.decoder,
            image_fps=config.image_rate,
            room=room,
        )

    def _people(self, job: Job, opened: OpenVideo | OpenView) -> People:
        """Where this video's keypoints come from."""
        found = {} if self.matches is None else self.matches.found
        key = found.get(job.video_id) or found.get(job.source_id)
        if self.keypoints is not None and key is not None:
            size = opened.header.height, opened.header.width
            keypoints = self.keypoints.open(key, height=size[0], width=size[1])
            own = job.video_id in found  # else of the video that the segment is cut from
            whole = not own or job.source_id == job.video_id
            if isinstance(opened, OpenView) and whole and keypoints.fps is None:
                return keypoints.through(opened.indices, opened.source.num_frames)
            keypoints.require_line(self.config.frame_rate if own else None)
            return keypoints
        if self.pose is None:
            reasons = {} if self.matches is None else self.matches.reasons
            why = reasons.get(job.source_id, "no keypoints are given for it")
            raise KeypointsFailed(f"{why}; --keypoints-missing estimate estimates them")
        return self.pose

    def _in_one_pass(
        self, job: Job, opened: OpenVideo | OpenView, people: People
    ) -> Iterator[Event]:
        """Windows are cut as soon as their frames are there."""
        config = self.config
        cutter = WindowCutter(
            job.video_id,
            config.windows,
            first=job.windows_done,
            max_persons=config.pose.max_persons,
        )
        step = frames_per_piece(opened.header.height, opened.header.width)
        start = opened.piece_start(job.next_frame(config.windows), step)
        linker = job.linker(start, config)
        for piece, track in self._estimated(self._frames(opened, start), people, linker):
            if piece.start >= job.frames_done:
                yield KeypointsReady(job.video_id, piece.start, track)
            yield from self._clips(cutter.add(piece, track))
        if opened.video is not None:
            yield from self._clips(cutter.finish())

    def _in_two_passes(
        self, job: Job, opened: OpenVideo | OpenView, people: People
    ) -> Iterator[Event]:
        """The box, or the one window, is known when the last frame's people are.

        Frames of a video too big to keep are decoded a second time. Tracks are kept: 204 bytes a
        frame and person.
        """
        tracks: list[PoseTrack] = []
        kept: list[FramePiece] | None = []
        kept_bytes = 0
        for piece, track in self._estimated(self._frames(opened, 0), people, PersonLinker()):
            if piece.start >= job.frames_done:
                yield KeypointsReady(job.video_id, piece.start, track)
            tracks.append(track)
            if kept is not None:
                kept.append(piece)
                kept_bytes += piece.frames.nbytes
                if kept_bytes > KEEP_BYTES:
                    kept = None
        video = opened.video
        if video is None:
            return
        by_video = self.config.crop == "video"
        max_persons = self.config.pose.max_persons
        if by_video and max_persons is not None:
            rows = keep_persons(concatenate(tracks).keypoint_scores, max_persons)
            tracks = [with_rows(track, rows) for track in tracks]
        tight = union_boxes(tight_box(track.keypoints) for track in tracks)
        cutter = WindowCutter(
            job.video_id,
            self.config.windows,
            first=job.windows_done,
            windows=plan_windows(video.num_frames, self.config.windows),
            video_box=grown_box(tight, video.height, video.width) if by_video else None,
            max_persons=max_persons,
        )
        pieces = kept or opened.again()
        for piece, track in zip(pieces, tracks, strict=False):  # fewer when the run is to stop
            if self.stop.is_set():
                return
            yield from self._clips(cutter.add(piece, track))

    def _frames(self, opened: OpenVideo | OpenView, start: int) -> Iterator[FramePiece]:
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
        self, pieces: Iterator[FramePiece], people: People, linker: PersonLinker
    ) -> Iterator[tuple[FramePiece, PoseTrack]]:
        """Each piece with its people, linked; several pieces are under way at a time."""

        def estimate(piece: FramePiece) -> tuple[FramePiece, PoseTrack]:
            with self.meter.measure("pose", len(piece.frames)):
                return piece, as_stored(people.estimate(piece))

        linked = isinstance(people, VideoKeypoints) and people.linked
        for piece, track in map_ahead(self.pool, estimate, pieces, depth=self.depth):
            track = piece.spread(track)
            yield piece, track if linked else linker.link(track)

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


def with_rows(track: PoseTrack, rows: np.ndarray) -> PoseTrack:
    """Only these rows, as far as the track has them."""
    rows = rows[rows < len(track.keypoints)]
    return PoseTrack(track.keypoints[rows], track.keypoint_scores[rows])


@dataclass
class Bundle:
    """Clips for one network call, and the other events that came before its last one."""

    clips: list[Clip] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    last: bool = False
    """Nothing comes after it for a while."""


def bundled(events: Iterable[Event | Pause], size: int) -> Iterator[Bundle]:
    """Group clips by ``size``, across videos; other events travel along, in order."""
    bundle = Bundle()
    for event in events:
        if isinstance(event, Pause):
            bundle.last = True
            yield bundle
            bundle = Bundle()
            continue
        if isinstance(event, Clip):
            bundle.clips.append(event)
        else:
            bundle.events.append(event)
        if len(bundle.clips) == size or len(bundle.events) >= MAX_EVENTS:
            yield bundle
            bundle = Bundle()
    if bundle.clips or bundle.events:
        yield bundle
