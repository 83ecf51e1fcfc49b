"""What a run has to do: which videos, how many windows and bytes, whether the disk holds them.

Nothing is read but the videos' headers, in a thread beside the run: the first features never wait
for the last header.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config import (
    GRID_SIZE,
    NUM_KEYPOINTS,
    POSE_CHANNELS,
    POSE_FRAMES,
    RGB_CHANNELS,
    RGB_FRAMES,
    ExtractConfig,
    format_bytes,
)
from ..errors import EpamExtractError, MachineError
from ..exchange.segments import find_segments, read_segments
from ..progress import Progress, plural
from ..progress.records import Plan
from ..records import RemoteFile, Segment, VideoFailure
from ..store import StoredVideos, StoreWriter
from ..video import FoundVideo, Header, find_videos, read_header
from ..video.fetch import Fetcher, fetched_folder
from ..windows import window_starts
from .concurrency import Meter
from .video_worker import Event, Job, VideoStarted

# Size on disk of compressed full maps, as a share, measured on realistic features.
COMPRESSED_SHARE = {"none": 1.0, "lzf": 0.55, "gzip": 0.47, "blosc2": 0.44}
BYTES_PER_FRAME = NUM_KEYPOINTS * (2 * 4 + 2)  # keypoints and scores of one person
BYTES_PER_VIDEO = 32 << 10  # HDF5's own, measured
TELL_SECONDS = 0.5  # between two estimates
LEAVE_SECONDS = 2.0
OPEN_FILES = 48  # of a process with torch, models, output and log; 22 did not do, 28 did
OPEN_FILES_PER_LANE = 8  # a decoder's pipes and shared memory


@dataclass
class SortedVideos:
    """The videos asked for, by what is to become of them."""

    jobs: list[Job] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Complete in the file."""
    failed_before: list[VideoFailure] = field(default_factory=list)
    """Failed in an earlier run, and unchanged since."""


def sort_videos(
    found: Sequence[FoundVideo], stored: StoredVideos, *, retry_failed: bool
) -> SortedVideos:
    """Decide by id, size and mtime alone; no video is opened.

    With ``retry_failed`` only those that failed before are done.
    """
    result = SortedVideos()
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
            rows, frames = (progress.windows, progress.frames) if progress else (0, 0)
            job = Job(video.id, video.path, rows, frames, segment=video.segment)
            result.jobs.append(job)
    return result


def with_stored_people(job: Job, store: StoreWriter, config: ExtractConfig) -> Job:
    """``job`` with the people of the frames before it, so that they keep their rows."""
    if not job.frames_done:
        return job
    return replace(job, stored=store.keypoints(job.video_id, job.frames_to_recall(config)))


class Planner:
    """Adds up what is to do from the videos' headers, in a thread of its own.

    ``progress`` is told the plan as far as it is known, twice a second, and at last the exact one.
    Headers of videos that are elsewhere are counted by :meth:`event`, once they are here.
    A context manager; leaving it ends the thread.
    """

    def __init__(
        self, videos: SortedVideos, config: ExtractConfig, out: Path, *, progress: Progress
    ) -> None:
        self._videos, self._config, self._out, self._progress = videos, config, out, progress
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
                f"{plural(len(files), 'video')} of {size} elsewhere: what they hold is known once "
                "they are fetched"
            )
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(LEAVE_SECONDS)  # it may wait for a dead network disk

    def wait(self, seconds: float | None = None) -> Plan:
        """The plan once all headers here were looked at, or what there is after ``seconds``."""
        self._done.wait(seconds)
        return self.plan

    @property
    def looked(self) -> bool:
        """Whether all headers here were looked at."""
        return self._done.is_set()

    def event(self, event: Event) -> None:
        """Count a video from elsewhere once it was opened, or has failed."""
        if isinstance(event, VideoStarted):
            video_id, frames = event.job.video_id, event.frames
        elif isinstance(event, VideoFailure):
            video_id, frames = event.video_id, 0
        else:
            return
        job = self._awaited.pop(video_id, None)
        if job is not None:
            self._count(job, frames)
            self._tell(always=not self._awaited)

    @property
    def plan(self) -> Plan:
        """What is known now; sums are scaled up from the videos looked at until all were."""
        jobs, videos = self._videos.jobs, self._videos
        exact = (self._done.is_set() and not self._awaited) or not jobs
        scale = 1.0 if exact else len(jobs) / max(self._looked_at, 1)
        return Plan(
            videos=len(jobs) + len(videos.skipped) + len(videos.failed_before),
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
        """Raise MachineError where what was looked at is already more than the disk holds."""
        if self._bytes > self._free:
            raise too_large(self.plan, self._config, self._out)

    def _look(self) -> None:
        """Half done videos count with what is left of them, unreadable ones with nothing."""
        here = [(job, job.path) for job in self._videos.jobs if isinstance(job.path, Path)]
        lengths = Lengths(self._config)
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
                self._bytes += int(left * window_bytes(self._config)) + BYTES_PER_VIDEO
                self._bytes += BYTES_PER_FRAME * max(length - job.frames_done, 0)
            self._looked_at += 1

    def _tell(self, *, always: bool = False) -> None:
        if always or time.monotonic() - self._told > TELL_SECONDS:
            self._told = time.monotonic()
            self._progress.plan(self.plan)


def remote_files(jobs: Sequence[Job]) -> dict[str, RemoteFile]:
    """The files that are to be fetched, by video."""
    files = {job.video_id: job.path for job in jobs}
    return {name: file for name, file in files.items() if isinstance(file, RemoteFile)}


def fetcher_for(
    jobs: Sequence[Job],
    out: Path,
    config: ExtractConfig,
    *,
    meter: Meter,
    stop: threading.Event,
    progress: Progress,
) -> Fetcher:
    """What will fetch the videos that are elsewhere, announced if there are any."""
    files, folder = remote_files(jobs), fetched_folder(out)
    if files:
        room = f"at most {format_bytes(config.fetch_ahead)} at a time"
        progress.message(f"what is elsewhere is fetched into {folder}, {room}")

    def on_bytes(seconds: float, count: int) -> None:
        meter.add("fetch", seconds, count / 1e6)

    return Fetcher(folder, files, limit=config.fetch_ahead, stop=stop, on_bytes=on_bytes)


class Lengths:
    """How many frames videos and parts of them have, by their headers."""

    def __init__(self, config: ExtractConfig) -> None:
        self._config = config
        self._last: tuple[Path, Header | None] | None = None  # segments of a video are neighbours

    def of(self, path: Path, segment: Segment | None) -> int:
        """Frames that a run goes through; 0 where there are none, and its lane will say why."""
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
                header = read_header(path, image_fps=self._config.image_rate)
            self._last = path, header
        return self._last[1]


def count_windows(videos: Sequence[FoundVideo], config: ExtractConfig, *, enough: int) -> int:
    """Windows of ``videos`` by their headers, or ``enough`` where there are at least that many.

    ``enough`` too where one is elsewhere, so that its header cannot be read.
    """
    windows = 0
    lengths = Lengths(config)
    for video in videos:
        if windows >= enough or isinstance(video.path, RemoteFile):
            return enough
        length = lengths.of(video.path, video.segment)
        windows += len(window_starts(length, config.windows)) if length else 0
    return windows


def window_bytes(config: ExtractConfig) -> float:
    """Bytes one window takes in the file, estimated for compressed maps."""
    cells = GRID_SIZE * GRID_SIZE
    rgb, pose = RGB_CHANNELS * RGB_FRAMES, POSE_CHANNELS * POSE_FRAMES
    item = {"f16": 2, "f32": 4}[config.stored_dtype] * COMPRESSED_SHARE[config.compression]
    sizes = {
        "pooled": 4 * (RGB_CHANNELS + POSE_CHANNELS),
        "tokens": 4 * (rgb + pose),
        "full": item * cells * (rgb + pose),
        "attention": 2 * RGB_FRAMES * cells,
    }
    rows = 4 * POSE_FRAMES + 3 * 8 + 4 + 4 + 4 * 4  # frames, times, valid, person, box
    return rows + sum(sizes[name] for name in set(config.features))


def require_open_files(lanes: int) -> None:
    """Have the system let this process open the files of so many lanes at a time.

    Raises:
        MachineError: it lets us open fewer, and the limit is not ours to raise.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    needed = OPEN_FILES + OPEN_FILES_PER_LANE * lanes
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard) or hard >= needed:
        if soft != resource.RLIM_INFINITY and soft < needed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    raise MachineError(
        f"this process may open only {hard} files at a time and a run needs {needed}: raise the "
        "limit (ulimit -n 1024), or use fewer --workers"
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


def find_all(
    sources: Sequence[str | Path],
    config: ExtractConfig,
    *,
    list_file: Path | None,
    segments: Path | None,
    progress: Progress,
) -> list[FoundVideo]:
    """The videos at ``sources`` and in the list; with ``segments`` the parts of them it names."""
    found = find_videos(sources, list_file=list_file, pictures=config.image_fps is not None)
    if segments is not None:
        found, notes = find_segments(read_segments(segments), found, source=segments.name)
        for note in notes:
            progress.warning(note)
    return found


def ids_to_match(ids: Iterable[tuple[str, str]], names: Iterable[str]) -> list[str]:
    """Under which id to look for each video's keypoints, once each: its own where it is among
    ``names``, or else that of the video it is cut from. ``ids`` are pairs of both."""
    known = set(names)
    return list(dict.fromkeys(own if own in known else source for own, source in ids))
