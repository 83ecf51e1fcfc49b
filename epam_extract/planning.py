"""What a run has to do: which videos, how many windows and bytes, whether the disk holds them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .config import (
    GRID_SIZE,
    NUM_KEYPOINTS,
    POSE_CHANNELS,
    POSE_FRAMES,
    RGB_CHANNELS,
    RGB_FRAMES,
    ExtractConfig,
)
from .errors import MachineError, VideoError
from .lane import Job
from .progress import Progress
from .records import Plan, VideoFailure
from .store import StoredVideos
from .video import FoundVideo, probe
from .windows import window_starts

# Size on disk of compressed full maps, as a share, measured on realistic features.
COMPRESSED_SHARE = {"none": 1.0, "lzf": 0.55, "gzip": 0.47, "blosc2": 0.44}
BYTES_PER_FRAME = NUM_KEYPOINTS * (2 * 4 + 2)  # keypoints and scores of one person
BYTES_PER_VIDEO = 32 << 10  # HDF5's own, measured
PROBES_AT_ONCE = 4


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
        stat = video.path.stat()
        same = (stat.st_size, stat.st_mtime_ns)
        failure, progress = failures.get(video.id), stored.progress(video.id)
        if progress is not None and (progress.size, progress.mtime_ns) != same:
            progress = None
        if progress is not None and progress.complete:
            result.skipped.append(video.id)
        elif failure is not None and not retry_failed and failure.same_file(*same):
            result.failed_before.append(
                VideoFailure(video.id, failure.stage, failure.message, video.path)
            )
        elif failure is not None or not retry_failed:
            rows, frames = (progress.windows, progress.frames) if progress else (0, 0)
            result.jobs.append(Job(video.id, video.path, windows_done=rows, frames_done=frames))
    return result


def make_plan(
    videos: SortedVideos, config: ExtractConfig, out: Path, *, progress: Progress
) -> Plan:
    """Probe what is to do and add it up. A video that cannot be probed counts as nothing here.

    Half done videos count with what is left of them.
    """
    frames = windows = size = done = 0
    jobs = videos.jobs
    with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
        lengths = pool.map(lambda job: _length(job, config.decoder), jobs)
        for job, length in zip(jobs, lengths, strict=True):
            done += 1
            progress.probed(done, len(jobs))
            if length:
                rows = len(window_starts(length, config.windows))
                frames += length - length * job.windows_done // rows
                windows += rows - job.windows_done
                size += BYTES_PER_VIDEO + BYTES_PER_FRAME * (length - job.frames_done)
    return Plan(
        videos=len(jobs) + len(videos.skipped) + len(videos.failed_before),
        to_do=len(jobs),
        skipped=len(videos.skipped),
        failed_before=len(videos.failed_before),
        frames=frames,
        windows=windows,
        bytes=size + int(windows * window_bytes(config)),
        free_bytes=shutil.disk_usage(out.absolute().parent).free,
    )


def _length(job: Job, decoder: str) -> int:
    try:
        return probe(job.path, job.video_id, decoder=decoder).num_frames
    except VideoError:
        return 0  # its lane will say why


def window_bytes(config: ExtractConfig) -> float:
    """Bytes one window takes in the file, estimated for compressed maps."""
    cells = GRID_SIZE * GRID_SIZE
    rgb, pose = RGB_CHANNELS * RGB_FRAMES, POSE_CHANNELS * POSE_FRAMES
    item = {"f16": 2, "f32": 4}[config.stored_dtype] * COMPRESSED_SHARE[config.compression]
    sizes = {
        "pooled": 4 * (RGB_CHANNELS + POSE_CHANNELS),
        "tokens": 4 * (rgb + pose),
        "full": item * cells * (rgb + pose),
    }
    rows = 4 * POSE_FRAMES + 3 * 8 + 4 + 4 + 4 * 4  # frames, times, valid, person, box
    return rows + sum(sizes[name] for name in set(config.features))


def check_disk(plan: Plan, config: ExtractConfig, out: Path) -> None:
    """Refuse a run whose output the disk cannot hold.

    Raises:
        MachineError: it names the options that make the output smaller.
    """
    if plan.bytes <= plan.free_bytes:
        return
    ways = []
    if "full" in config.features:
        ways.append("--no-full (pooled features only, about 1/600 of the size)")
        if config.compression == "none":
            ways.append("--compression blosc2 or lzf (about half)")
    ways += ["a larger --stride", "another disk for --out"]
    raise MachineError(
        f"{out}: {plan.windows} windows need about {plan.bytes / 1e9:.1f} GB and the disk has "
        f"{plan.free_bytes / 1e9:.1f} GB left; use {', '.join(ways[:-1])} or {ways[-1]}"
    )
