"""extract_features(): the stages wired together, in reading order.

``find -> lanes (read, pose, clips) -> batches -> network -> file``, and a plan beside it

Each video is read in a lane: a thread with a decoder process behind it. Pose estimation and the
network run in thread pools, every call on one core where there is no GPU: whatever is ready keeps
the cores busy, and no number depends on how many workers there are. The calling thread writes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch

from ..clips import collate
from ..config import BATCH_SIZE, WORKERS, ExtractConfig, WeightsConfig
from ..errors import StoreMismatch
from ..exchange.keypoints import Matches, open_keypoints
from ..pose import open_pose_model
from ..progress import SILENT, Progress
from ..progress.displays import open_progress
from ..records import FeatureBatch, StageLoad, Summary
from ..store import StoreWriter, require_no_links, stored_states
from ..video import FoundVideo
from ..video.fetch import FETCHES, clear_folder, fetched_folder
from .concurrency import (
    Budget,
    Feed,
    Meter,
    available_cores,
    flat_map,
    map_ahead,
    single_threaded_ops,
)
from .inference import (
    COMPILE_MIN_WINDOWS,
    DTYPES,
    Network,
    load_backbone,
    pick_device,
    pick_precision,
    worth_compiling,
)
from .installed import resolve
from .models import Models, pose_device
from .output import Output, shortened
from .plan import (
    Planner,
    SortedVideos,
    count_windows,
    fetcher_for,
    find_all,
    ids_to_match,
    require_open_files,
    sort_videos,
    with_stored_people,
)
from .video_worker import Bundle, Event, Job, Lane, bundled

FRAME_BYTES = {"cpu": 700 << 20, "cuda": 8 << 30}  # whole frames alive in all lanes together
NETWORK_THREADS_GPU = 2  # one copies while the other computes
STAGES = {"fetch": "MB", "read": "frames", "pose": "frames"}
STAGES |= dict.fromkeys(("clips", "network", "write"), "windows")
REPORT_SECONDS = 1.0
COMPILED = {
    "native": "the network runs as compiled C++ (built once per machine, in a few seconds)",
    "inductor": "the network is compiled by torch.compile; the first windows take a few minutes",
}
EVENTS_AHEAD = 8  # of the lanes, at least
HEAD_START_SECONDS = 0.5  # for the plan, before the first video is opened
UNKNOWN_WINDOWS = 1_000_000  # to expect where not one header was read in that time


def extract_features(
    videos: str | Path | Sequence[str | Path],
    out: str | Path,
    config: ExtractConfig | None = None,
    *,
    list_file: Path | None = None,
    segments: Path | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    dry_run: bool = False,
    only: Callable[[FoundVideo], bool] | None = None,
    progress: Progress | str = SILENT,
    stop: threading.Event | None = None,
) -> Summary:
    """Write the features of every window of ``videos`` to the HDF5 file ``out``, or go on with it.

    Videos that are complete in ``out`` and unchanged on disk are skipped without being opened. A
    video that fails is recorded in the file and does not stop the run.

    Args:
        videos: files, directories (searched recursively) and globs; or addresses of these.
        out: the HDF5 file; its layout is in the README.
        config: all options; those in ``config.identity()`` must agree with a file that is resumed.
            Weights that it does not name are those of ``$EPAM_WEIGHTS`` or the installed ones.
        list_file: a file with one more path a line, or ``-`` for standard input.
        segments: a file or folder of parts of videos: each is done as a video, and nothing else is.
        overwrite: begin the file anew.
        retry_failed: do the videos that failed before, and only those.
        dry_run: plan, report the plan and stop.
        only: do the videos it accepts, one part of all. What depends on how many videos there are
            is decided by all of them, so that every part has the same numbers.
        progress: told what happens; ``"auto"`` shows it, in a terminal, a notebook or a log.
        stop: once set, what is in flight is finished and committed and the run ends.

    Raises:
        ConfigError: the options contradict each other, or no video is found.
        CheckpointError, PoseModelError: weights or pose models cannot be had.
        StoreError: ``out`` cannot be written, or belongs to other options.
        MachineError: the disk or the memory is full, or the GPU is lost; what is committed stays.
    """
    if isinstance(progress, str):
        with open_progress(progress) as progress:
            return extract_features(**locals())
    config = config or ExtractConfig()
    require_no_links(Path(out))
    if config.weights == WeightsConfig() and not dry_run:
        weights, said_by = resolve(config.weights)
        config = replace(config, weights=weights)
        progress.message(f"weights: {weights.file} ({said_by})")
    run = Run(config, Path(out), progress, stop or threading.Event())
    sources = [videos] if isinstance(videos, (str, Path)) else list(videos)
    found = find_all(sources, config, list_file=list_file, segments=segments, progress=progress)
    mine = found if only is None else [video for video in found if only(video)]
    if dry_run:
        return run.only_plan(mine, overwrite=overwrite, retry_failed=retry_failed)
    part_of = None if only is None else found
    return run(mine, part_of=part_of, overwrite=overwrite, retry_failed=retry_failed)


class Run:
    """One call of :func:`extract_features`, or a worker's part of one.

    ``cores`` are this run's, and all that this process may use unless given.
    """

    def __init__(
        self,
        config: ExtractConfig,
        out: Path,
        progress: Progress,
        stop: threading.Event,
        *,
        cores: int | None = None,
    ) -> None:
        self.device = pick_device(config.device)
        self.cores = cores or available_cores()
        self.lanes = config.workers or WORKERS[self.device.type]
        precision = pick_precision(config.precision, self.device)
        self.config = replace(config, precision=precision)
        self.out, self.progress, self.stop = out, progress, stop
        self.batch_size = config.batch_size or BATCH_SIZE[self.device.type]
        self.meter = Meter(*STAGES)
        self.started = time.monotonic()

    def only_plan(
        self, found: Sequence[FoundVideo], *, overwrite: bool, retry_failed: bool
    ) -> Summary:
        """Report what a run would do; nothing is written."""
        stored = stored_states(None if overwrite else self.out)
        videos = sort_videos(found, stored, retry_failed=retry_failed)
        with Planner(videos, self.config, self.out, progress=self.progress) as planner:
            while not (planner.looked or self.stop.is_set()):
                planner.wait(0.1)
        return self._summary(videos, None)

    def __call__(
        self,
        found: Sequence[FoundVideo],
        *,
        part_of: Sequence[FoundVideo] | None,
        overwrite: bool,
        retry_failed: bool,
    ) -> Summary:
        config, progress = self.config, self.progress
        require_open_files(min(self.lanes, len(found)))
        models = self.load()
        compiled = None if overwrite else models.compiled_before(self.out)  # or refused
        stored = stored_states(None if overwrite else self.out)
        videos = sort_videos(found, stored, retry_failed=retry_failed)
        for video_id in videos.skipped:
            progress.video_skipped(video_id)
        matches = None
        if models.keypoints is not None:
            ids = [(job.video_id, job.source_id) for job in videos.jobs]
            matches = models.keypoints.match(ids_to_match(ids, models.keypoints.names))
            progress.message(matches.report())
        with Planner(videos, config, self.out, progress=progress) as planner:
            plan = planner.wait(HEAD_START_SECONDS)  # most plans are exact by then
            planner.check_disk()
            network = None
            if videos.jobs or part_of is not None:  # an empty part says how it would be computed
                windows = plan.windows if plan.windows or plan.exact else UNKNOWN_WINDOWS
                if part_of is not None:
                    enough = COMPILE_MIN_WINDOWS[self.device.type]
                    windows = count_windows(part_of, config, enough=enough)
                network = self.network(models, windows, compiled)
                compiled = network.compiled
            header = models.header(compiled or "")
            with StoreWriter(self.out, header, overwrite=overwrite) as store:
                clear_folder(fetched_folder(self.out))
                output = Output(store, config, progress=progress, meter=self.meter)
                if network is not None:
                    # Again under the lock: another run may have gone on with the file meanwhile.
                    videos = sort_videos(found, store, retry_failed=retry_failed)
                    videos.jobs = [with_stored_people(job, store, config) for job in videos.jobs]
                    self.extract(videos.jobs, models, network, output, planner, matches)
        summary = self._summary(videos, output, notes=models.notes)
        progress.finished(summary)
        return summary

    def load(self) -> Models:
        """Load weights, pose models and keypoints, and announce what the user must know."""
        config, progress = self.config, self.progress
        weights = load_backbone(config.weights)
        keypoints = open_keypoints(config.keypoints) if config.keypoints is not None else None
        pose = None
        if keypoints is None or config.keypoints_missing == "estimate":
            pose = open_pose_model(
                config.pose,
                device=pose_device(config, self.device, progress),
                threads=1,
                on_download=progress.download,
            )
        pose_source: dict[str, object] = {}
        if pose is not None:
            pose_source |= pose.source
        if keypoints is not None:
            pose_source |= keypoints.source
        announced = (weights.announcement, pose.announcement if pose is not None else None)
        notes = tuple(note for note in announced if note)
        for note in notes:
            progress.message(note)
        return Models(weights, pose, keypoints, config.identity(), pose_source, notes)

    def network(self, models: Models, windows: int, stored: str | None) -> Network:
        """The network, compiled where that pays, or as the file's was, so that numbers agree."""
        config, progress = self.config, self.progress
        compiles = worth_compiling(config.compile, self.device, DTYPES[config.precision], windows)
        if config.compile == "auto" and stored is not None:
            compiles = bool(stored)
        network = Network(
            models.weights.backbone,
            config,
            device=self.device,
            compile=compiles,
            on_halved=lambda size: progress.warning(
                f"the GPU's memory is full: going on with {size} clips at a time"
            ),
        )
        if compiles and stored and not network.compiled:
            raise StoreMismatch(
                f"{self.out}: its features come from the compiled network, whose last digits are "
                f"others, and it cannot be had here: {network.uncompiled_because}. Install a C++ "
                "compiler (such as g++) and run the same command again, or choose another output "
                "file"
            )
        if network.compiled:
            progress.message(COMPILED[network.compiled])
        elif compiles:
            progress.warning(
                "the network could not be compiled (the log says why); going on without"
            )
        return network

    def extract(
        self,
        jobs: Sequence[Job] | Feed[Job],
        models: Models,
        network: Network,
        output: Output,
        planner: Planner | None = None,
        matches: Matches | None = None,
    ) -> None:
        """Run the jobs through all stages; the calling thread writes.

        Of a :class:`Feed` they are done as they come, until it is closed.
        """
        kind, cores = self.device.type, self.cores
        network_threads = cores if kind == "cpu" else NETWORK_THREADS_GPU
        with ExitStack() as stack:
            stack.enter_context(single_threaded_ops())
            pools = [
                stack.enter_context(ThreadPoolExecutor(n, name, torch.set_num_threads, (1,)))
                for name, n in (("pose", cores), ("network", network_threads))
            ]
            fetcher = fetcher_for(
                () if isinstance(jobs, Feed) else jobs,
                self.out,
                self.config,
                meter=self.meter,
                stop=self.stop,
                progress=self.progress,
            )
            lane = Lane(
                config=self.config,
                pose=models.pose,
                pool=pools[0],
                depth=cores + 1,
                budget=Budget(FRAME_BYTES[kind]),
                meter=self.meter,
                stop=self.stop,
                keypoints=models.keypoints,
                matches=matches,
                fetcher=fetcher,
            )
            lanes = self.lanes if isinstance(jobs, Feed) else min(self.lanes, len(jobs))
            events = stack.enter_context(
                closing(
                    flat_map(
                        lane, jobs, workers=lanes, depth=max(EVENTS_AHEAD, 2 * self.batch_size)
                    )
                )
            )
            stack.enter_context(fetcher)  # left first, so that no lane waits for a file
            bundles = stack.enter_context(
                closing(
                    map_ahead(
                        pools[1],
                        lambda bundle: self._features(network, bundle),
                        bundled(events, self.batch_size),
                        depth=network_threads + 1,
                        last=lambda bundle: bundle.last,
                    )
                )
            )
            for passed, features in bundles:
                for event in passed:
                    if planner is not None:
                        planner.event(event)
                    output.event(event)
                if features is not None:
                    output.features(features)
                output.commit_if_due()
                if planner is not None:
                    planner.check_disk()
                if self.meter.age >= REPORT_SECONDS:
                    self._report(lanes, cores, network_threads)
            output.commit()

    def _features(
        self, network: Network, bundle: Bundle
    ) -> tuple[list[Event], FeatureBatch | None]:
        if not bundle.clips:
            return bundle.events, None
        with self.meter.measure("network", len(bundle.clips)):
            return bundle.events, network(collate(bundle.clips, self.batch_size))

    def _report(self, lanes: int, pose_threads: int, network_threads: int) -> None:
        """Tell the progress how each stage fared since the last time."""
        threads = {"read": lanes, "pose": pose_threads, "clips": lanes, "write": 1}
        threads |= {"network": network_threads, "fetch": FETCHES}
        seconds, work = self.meter.since_last()
        if not self.meter.totals()["fetch"][0]:
            del work["fetch"]  # nothing is elsewhere
        loads = {
            stage: StageLoad(
                rate=items / seconds,
                busy=min(worked / seconds / threads[stage], 1.0),
                unit=STAGES[stage],
            )
            for stage, (worked, items) in work.items()
        }
        self.progress.stages(loads)

    def _summary(
        self, videos: SortedVideos, output: Output | None, *, notes: Sequence[str] = ()
    ) -> Summary:
        new_failures = output.failures if output else []
        done = output.done if output else []
        clipped = output.clipped if output else 0
        said = shortened(output.notes if output else [], clipped)
        return Summary(
            out=self.out,
            videos=len(videos.jobs) + len(videos.skipped) + len(videos.failed_before),
            done=len(videos.skipped) + len(done),
            skipped=len(videos.skipped),
            failures=(*videos.failed_before, *new_failures),
            windows=output.windows if output else 0,
            frames=output.frames if output else 0,
            frames_with_person=output.frames_with_person if output else 0,
            seconds=time.monotonic() - self.started,
            size=self.out.stat().st_size if self.out.exists() else 0,
            interrupted=self.stop.is_set(),
            clipped=clipped,
            notes=(*notes, *said),
        )
