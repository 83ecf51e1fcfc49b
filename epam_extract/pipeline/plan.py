"""What a run has to do: which videos, how many windows and bytes, and whether these fit the disk.

Only the videos' headers are read, in a thread of their own, so that a run with many videos can
start before all headers are read.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..config import ExtractConfig
from ..errors import EpamExtractError, MachineError
from ..options import format_bytes
from ..progress import Progress, plural
from ..progress.records import Plan
from ..records import RemoteFile, Segment, VideoFailure
from ..schema import FULL_MAPS, TRACKS, window_arrays
from ..store import StoredVideos
from ..video import FoundVideo, Header, read_header
from ..video.memory import MemoryLimit, available_memory
from ..windows import window_starts
from .jobs import Job, VideoResult, VideoStarted

# Size on disk of compressed full maps, as a share, measured on realistic features.
COMPRESSED_SHARE = {"none": 1.0, "lzf": 0.55, "gzip": 0.47, "blosc2": 0.44}
BYTES_PER_FRAME = sum(array.item_bytes for array in TRACKS.values())  # of one person
BYTES_PER_VIDEO = 32 << 10  # HDF5's own, measured
TELL_SECONDS = 0.5  # between two estimates
LEAVE_SECONDS = 2.0
HEAD_START_SECONDS = 0.5  # for reading headers, before the first video is opened
UNKNOWN_WINDOWS = 1_000_000  # expected if no header was read by then


@dataclass
class ClassifiedVideos:
    """The videos asked for, by what is to be done with them."""

    jobs: list[Job] = field(default_factory=list)
    """To do."""
    skipped: list[str] = field(default_factory=list)
    """Complete in the file."""
    failed_before: list[VideoFailure] = field(default_factory=list)
    """Failed in an earlier run, and unchanged since."""

    def __len__(self) -> int:
        return len(self.jobs) + len(self.skipped) + len(self.failed_before)


def classify_videos(
    found: Sequence[FoundVideo], stored: StoredVideos, *, retry_failed: bool
) -> ClassifiedVideos:
    """Decide what to do by ids, sizes and times of change alone; no video is opened.

    With ``retry_failed`` only those that failed before are to do.
    """
    result = ClassifiedVideos()
    failures = stored.failures()
    for video in found:
        same = video.size_and_time()
        failure, progress = failures.get(video.id), stored.progress(video.id)
        label = video.segment.label if video.segment is not None else ""
        if progress is not None and (progress.size, progress.mtime_ns) != same:
            progress = None
        if progress is not None and progress.complete and label not in ("", progress.label):
            progress = None
        if progress is not None and progress.complete:
            result.skipped.append(video.id)
        elif failure is not None and not retry_failed and failure.same_file(*same):
            result.failed_before.append(
                VideoFailure(video.id, failure.stage, failure.message, video.path)
            )
        elif failure is not None or not retry_failed:
            result.jobs.append(Job(video.id, video.path, video.segment, progress))
    return result


class Planner:
    """Adds up what there is to do from the videos' headers, in a thread of its own.

    Twice a second ``progress`` is told the plan as far as it is known, and finally the exact one.
    Videos that are elsewhere are counted by :meth:`take`, once they are fetched.
    A context manager; leaving it ends the thread.
    """

    def __init__(
        self, videos: ClassifiedVideos, config: ExtractConfig, out: Path, *, progress: Progress
    ) -> None:
        self._videos, self._config, self._out, self._progress = videos, config, out, progress
        self._window_bytes = window_bytes(config)
        self._free = shutil.disk_usage(out.absolute().parent).free
        self._looked_at = self._frames = self._windows = self._bytes = 0
        self._awaited = {
            job.video_id: job for job in videos.jobs if isinstance(job.path, RemoteFile)
        }
        self._told = 0.0
        self._counting = threading.Lock()
        self._stop = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="plan", daemon=True)

    def __enter__(self) -> Planner:
        self._progress.plan(self.plan)
        if self._awaited:
            files = set(remote_files(list(self._awaited.values())).values())
            size = format_bytes(sum(file.size for file in files))
            self._progress.message(
                f"{plural(len(files), 'video')} of {size} elsewhere: their frames are counted "
                "once they are fetched"
            )
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(LEAVE_SECONDS)  # it may wait for a dead network disk

    def wait(self, stop: threading.Event) -> None:
        """Wait until all headers on this machine are read, or ``stop`` is set."""
        while not stop.is_set() and not self._done.wait(0.1):
            pass

    def first_estimate(self) -> int:
        """The number of windows to expect, after waiting a moment for headers to be read.

        Raises:
            MachineError: the disk is too small even for what is known by then.
        """
        self._done.wait(HEAD_START_SECONDS)  # enough to read all headers of most runs
        plan = self.plan
        self.check_disk()
        return plan.windows if plan.windows or plan.exact else UNKNOWN_WINDOWS

    def take(self, result: VideoResult) -> None:
        """Count a video that was elsewhere once it is open, or has failed."""
        if isinstance(result, VideoStarted):
            video_id, frames = result.job.video_id, result.frames
        elif isinstance(result, VideoFailure):
            video_id, frames = result.video_id, 0
        else:
            return
        job = self._awaited.pop(video_id, None)
        if job is not None:
            self._count(job, frames)
            self._tell(always=not self._awaited)

    @property
    def plan(self) -> Plan:
        """What is known now; extrapolated from the headers read, until all are."""
        jobs, videos = self._videos.jobs, self._videos
        exact = (self._done.is_set() and not self._awaited) or not jobs
        scale = 1.0 if exact else len(jobs) / max(self._looked_at, 1)
        return Plan(
            videos=len(videos),
            to_do=len(jobs),
            skipped=len(videos.skipped),
            failed_before=len(videos.failed_before),
            frames=int(self._frames * scale),
            windows=int(self._windows * scale),
            bytes=int(self._bytes * scale),
            free_bytes=self._free,
            exact=exact,
        )

    def check_disk(self) -> None:
        """Raise MachineError if the videos counted so far need more than the disk has left."""
        if self._bytes > self._free:
            raise too_large(self.plan, self._config, self._out)

    def _look(self) -> None:
        """Read the headers on this machine and count what is left to do of each video."""
        here = [(job, job.path) for job in self._videos.jobs if isinstance(job.path, Path)]
        lengths = HeaderLengths(self._config)
        for number, (job, path) in enumerate(here, start=1):
            if self._stop.is_set():
                return
            self._count(job, lengths.of(path, job.segment))
            self._progress.probed(number, len(here))
            self._tell()
        self._done.set()
        self._tell(always=True)

    def _count(self, job: Job, length: int) -> None:
        with self._counting:
            if length:
                rows = len(window_starts(length, self._config.windows))
                left = max(rows - job.windows_done, 0)
                self._frames += length * left // rows
                self._windows += left
                self._bytes += int(left * self._window_bytes) + BYTES_PER_VIDEO
                self._bytes += BYTES_PER_FRAME * max(length - job.frames_done, 0)
            self._looked_at += 1

    def _tell(self, *, always: bool = False) -> None:
        if always or time.monotonic() - self._told > TELL_SECONDS:
            self._told = time.monotonic()
            self._progress.plan(self.plan)


def remote_files(jobs: Sequence[Job]) -> dict[str, RemoteFile]:
    """The files to fetch, by video."""
    files = {job.video_id: job.path for job in jobs}
    return {name: file for name, file in files.items() if isinstance(file, RemoteFile)}


class HeaderLengths:
    """How many frames videos, and segments of them, have, according to their headers."""

    def __init__(self, config: ExtractConfig) -> None:
        self._config = config
        self._memory = MemoryLimit(available_memory())
        self._last: tuple[Path, Header | None] | None = None  # segments of a video are neighbours

    def of(self, path: Path, segment: Segment | None) -> int:
        """Frames to process; 0 if the header cannot be read, which fails the video later on."""
        header = self._header(path)
        if header is None or not header.frames:
            return 0
        fps = float(self._config.frame_rate or header.fps)
        seconds = header.frames / float(header.fps)
        if segment is not None and not segment.whole:
            seconds = max(min(segment.end, seconds) - max(segment.start, 0), 0)
            return round(seconds * fps)
        return header.frames if self._config.fps is None else max(round(seconds * fps), 1)

    def _header(self, path: Path) -> Header | None:
        if self._last is None or self._last[0] != path:
            header = None
            with contextlib.suppress(EpamExtractError):
                header = read_header(path, image_fps=self._config.image_rate, memory=self._memory)
            self._last = path, header
        return self._last[1]


def count_windows(videos: Sequence[FoundVideo], config: ExtractConfig, *, enough: int) -> int:
    """Windows of ``videos`` according to their headers, or ``enough`` if there are more.

    Also ``enough`` if a video is elsewhere, so that its header cannot be read.
    """
    windows = 0
    lengths = HeaderLengths(config)
    for video in videos:
        if windows >= enough or isinstance(video.path, RemoteFile):
            return enough
        length = lengths.of(video.path, video.segment)
        windows += len(window_starts(length, config.windows)) if length else 0
    return windows


def window_bytes(config: ExtractConfig) -> float:
    """Bytes one window takes in the file, estimated for compressed maps."""
    share = COMPRESSED_SHARE[config.compression]
    return sum(
        array.item_bytes * (share if name in FULL_MAPS else 1)
        for name, array in window_arrays(config.identity()).items()
    )


def too_large(plan: Plan, config: ExtractConfig, out: Path) -> MachineError:
    """The disk cannot hold the output: an error that names the options which make it smaller."""
    ways = []
    if "full" in config.features:
        ways.append("--no-full (pooled features only, about 1/600 of the size)")
        if config.compression == "none":
            ways.append("--compression blosc2 or lzf (about half)")
    ways += ["a larger --stride", "another disk for --out"]
    return MachineError(
        f"{out}: {plural(plan.windows, 'window')} need about {format_bytes(plan.bytes)} and the "
        f"disk has {format_bytes(plan.free_bytes)} left; use {', '.join(ways[:-1])} or {ways[-1]}"
    )
