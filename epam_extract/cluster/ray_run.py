"""``--ray``: process a collection on all GPUs and cores of a cluster, or of this machine."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import __version__
from ..config import ExtractConfig
from ..errors import ConfigError
from ..pipeline.plan import ClassifiedVideos, Planner, classify_videos
from ..pipeline.run import find_all
from ..pipeline.summary import Totals, summarize
from ..progress import Progress, plural
from ..progress.records import Summary
from ..store import StoreHeader, StoreWriter
from ..video import FoundVideo
from .connecting import connected, machines, worker_size
from .parts import (
    Together,
    compiled_in,
    drop_complete,
    existing_parts,
    half_done,
    merge_away,
    part_path,
    probe_path,
    remove,
    remove_probes,
)
from .ray_workers import RayWorkers
from .scheduling import Ledger, hand_out
from .worker import Task


def extract_on_ray(
    sources: Sequence[str | Path],
    out: Path,
    config: ExtractConfig,
    *,
    address: str,
    gpus_per_worker: float | None = None,
    cpus_per_worker: int | None = None,
    list_file: Path | None = None,
    segments: Path | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: Progress,
    stop: threading.Event,
) -> Summary:
    """Like :func:`pipeline.extract_features`, with many workers.

    Each writes a part file next to ``out``; all workers must share that folder and those of the
    videos. At the end the parts are merged into ``out`` and deleted. If the run ends early, the
    next one uses the parts.

    Raises:
        ConfigError: no Ray answers at ``address``, or its workers do not share the folders.
        EpamExtractError: as in ``extract_features``; or a part is still locked.
    """
    if config.device.startswith("cuda:"):
        raise ConfigError(f"--ray chooses the GPUs: say --device cuda instead of {config.device}")
    out, config = out.absolute(), _with_whole_paths(config)
    parts = existing_parts(out)
    found = [
        replace(video, path=video.file.absolute())
        for video in find_all(
            sources, config, list_file=list_file, segments=segments, progress=progress
        )
    ]
    if overwrite:
        for part in parts.values():
            remove(part)
        parts = {}
    stored = Together(None if overwrite else out, parts)
    videos = classify_videos(found, stored, retry_failed=retry_failed)
    run = _RayRun(out, config, found, videos, parts, progress=progress, stop=stop)
    for video_id in videos.skipped:
        progress.video_skipped(video_id)
    with Planner(videos, config, out, progress=progress) as planner:
        if videos.jobs:
            run.extract(
                planner,
                address,
                overwrite=overwrite,
                gpus_per_worker=gpus_per_worker,
                cpus_per_worker=cpus_per_worker,
            )
    return run.finish()


class _RayRun:
    """One call of :func:`extract_on_ray`."""

    def __init__(
        self,
        out: Path,
        config: ExtractConfig,
        found: Sequence[FoundVideo],
        videos: ClassifiedVideos,
        parts: dict[int, Path],
        *,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._out, self._config, self._videos, self._parts = out, config, videos, parts
        wanted = {job.video_id for job in videos.jobs}
        self._found = {video.id: video for video in found if video.id in wanted}
        self._progress, self._stop = progress, stop
        self._token = secrets.token_hex(6)
        self._started = time.monotonic()
        self._crew: RayWorkers | None = None

    def extract(
        self,
        planner: Planner,
        address: str,
        *,
        overwrite: bool,
        gpus_per_worker: float | None,
        cpus_per_worker: int | None,
    ) -> None:
        """Have the workers do the videos."""
        windows = planner.first_estimate()
        files = [self._out, *self._parts.values()]
        compiled = None if overwrite else compiled_in(files)
        if not overwrite:
            drop_complete(files, self._found)
        self._out.parent.mkdir(parents=True, exist_ok=True)
        homes = half_done(self._parts)
        with connected(address) as ray:
            size = worker_size(
                machines(ray),
                device=self._config.device,
                gpus_per_worker=gpus_per_worker,
                cpus_per_worker=cpus_per_worker,
            )
            ids = tuple((video.id, video.source_id) for video in self._found.values())
            config = self._config if size.gpus else replace(self._config, device="cpu")

            def task(number: int) -> Task:
                part = part_path(self._out, number)
                self._parts[number] = part
                return Task(
                    part=part,
                    out=None if overwrite else self._out,
                    config=config,
                    cores=size.cpus,
                    gpu=size.gpus > 0,
                    windows=windows,
                    compiled=compiled,
                    video_ids=ids if config.keypoints is not None else (),
                    probe=probe_path(self._out, self._token, number),
                    sample=next(v.file for v in self._found.values()),
                    version=__version__,
                )

            self._crew = crew = RayWorkers(
                ray,
                size,
                self._found,
                numbers=self._numbers(homes),
                task=task,
                on_header=self._empty_output if overwrite else None,
                progress=self._progress,
            )
            ledger = Ledger({video.id: float(video.work) for video in self._found.values()}, homes)

            def stopped() -> bool:
                planner.check_disk()
                return self._stop.is_set()

            try:
                hand_out(ledger, crew, stopped=stopped)
                crew.end(stop=self._stop.is_set())
            finally:
                crew.kill()

    def _numbers(self, homes: dict[str, int]) -> itertools.chain[int]:
        """Numbers of parts with incomplete videos, then of the other parts, then new ones."""
        before = sorted(self._parts, key=lambda number: (number not in homes.values(), number))
        return itertools.chain(before, (n for n in itertools.count() if n not in before))

    def _empty_output(self, header: StoreHeader) -> None:
        """Empty the output, once a worker has loaded the models."""
        StoreWriter(self._out, header, overwrite=True).close()

    def finish(self) -> Summary:
        """Merge the parts, unless the run was stopped, and summarise it."""
        failures = self._crew.reports.failures if self._crew else {}
        done = self._crew.reports.windows if self._crew else {}
        parts = [part for _, part in sorted(self._parts.items()) if part.exists()]
        notes: list[str] = []
        remove_probes(self._out)
        merged = merge_away(
            self._out, parts, [*failures.values()], progress=self._progress, stop=self._stop
        )
        if not merged:
            notes.append(
                f"what this run has done, {plural(len(done), 'video')} and parts of others, is in "
                f"the {plural(len(parts), 'file')} beside it: the same command goes on with them"
            )
        each = self._crew.totals() if self._crew else []
        totals = Totals(
            windows=sum(done.values()),
            frames=sum(worker.frames for worker in each),
            frames_with_person=sum(worker.frames_with_person for worker in each),
            clipped=sum(worker.clipped for worker in each),
            notes=list(dict.fromkeys(note for worker in each for note in worker.notes)),
        )
        summary = summarize(
            self._out,
            self._videos,
            totals,
            done=len(done),
            failures=failures.values(),
            notes=notes,
            started=self._started,
            interrupted=self._stop.is_set(),
        )
        self._progress.finished(summary)
        return summary


def _with_whole_paths(config: ExtractConfig) -> ExtractConfig:
    """Make all paths absolute, since workers run in other folders."""

    def whole(path: Path | None) -> Path | None:
        return None if path is None else path.absolute()

    weights, pose = config.weights, config.pose
    return replace(
        config,
        keypoints=whole(config.keypoints),
        weights=replace(
            weights,
            file=whole(weights.file),
            rgb_file=whole(weights.rgb_file),
            pose_file=whole(weights.pose_file),
        ),
        pose=replace(pose, det_model=whole(pose.det_model), pose_model=whole(pose.pose_model)),
    )
