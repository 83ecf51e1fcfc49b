"""All stages of a run at work at the same time, in bounded memory.

Each video is read by a worker thread, with a decoder process behind it. Poses and features are
computed in two thread pools. Without a GPU every call takes one core, so that whichever stage has
work keeps the cores busy, and no number depends on how many workers there are. The calling thread
writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import torch

from ..clips import collate
from ..options import format_bytes
from ..progress.records import StageLoad
from ..records import FeatureBatch
from ..video.fetch import Fetcher, fetched_folder
from .concurrency import Budget, Feed, flat_map, map_ahead, single_threaded_ops
from .context import STAGES, RunContext, Threads
from .inference import BackboneRunner, ClipGroup, group_clips
from .jobs import Job, VideoResult
from .keypoint_sources import KeypointSources
from .output import OutputWriter
from .plan import Planner, remote_files
from .video_worker import VideoWorker

FRAME_BYTES = {"cpu": 700 << 20, "cuda": 8 << 30}  # of decoded frames, all videos together
RESULTS_AHEAD = 8  # results of the workers that may wait, at least
REPORT_SECONDS = 1.0


def run_stages(
    run: RunContext,
    jobs: Sequence[Job] | Feed[Job],
    keypoints: KeypointSources,
    runner: BackboneRunner,
    output: OutputWriter,
    planner: Planner | None = None,
) -> None:
    """Do the jobs, until all are done or the run is to stop.

    Jobs of a :class:`Feed` are done as they arrive, until it is closed.

    Raises:
        MachineError: memory, the disk or the GPU failed; what was committed stays in the file.
    """
    threads = run.threads(None if isinstance(jobs, Feed) else len(jobs))
    with ExitStack() as stack:
        stack.enter_context(single_threaded_ops())
        pose_pool, network_pool = (
            stack.enter_context(ThreadPoolExecutor(count, name, torch.set_num_threads, (1,)))
            for name, count in (("pose", threads.pose), ("network", threads.network))
        )
        fetcher = make_fetcher(() if isinstance(jobs, Feed) else jobs, run)
        worker = VideoWorker(
            config=run.config,
            keypoints=keypoints,
            pool=pose_pool,
            depth=threads.pose + 1,
            budget=Budget(FRAME_BYTES[run.device.type]),
            meter=run.meter,
            stop=run.stop,
            fetcher=fetcher,
        )
        ahead = max(RESULTS_AHEAD, 2 * run.batch_size)
        results = stack.enter_context(
            closing(flat_map(worker, jobs, workers=threads.videos, depth=ahead))
        )
        stack.enter_context(fetcher)  # left before the workers, so that none waits for a file

        def features(group: ClipGroup) -> tuple[list[VideoResult], FeatureBatch | None]:
            if not group.clips:
                return group.others, None
            with run.meter.measure("network", len(group.clips)):
                batch = collate(group.clips, run.batch_size)
                group.clips.clear()  # the batch has copies of their pixels
                return group.others, runner(batch)

        computed = stack.enter_context(
            closing(
                map_ahead(
                    network_pool,
                    features,
                    group_clips(results, run.batch_size),
                    depth=threads.network + 1,
                    last=lambda group: group.last,
                )
            )
        )
        for others, batch in computed:
            for result in others:
                if planner is not None:
                    planner.take(result)
                output.take(result)
            if batch is not None:
                output.write(batch)
            output.commit_if_due()
            if planner is not None:
                planner.check_disk()
            if run.meter.age >= REPORT_SECONDS:
                report_loads(run, threads)
        output.commit()


def make_fetcher(jobs: Sequence[Job], run: RunContext) -> Fetcher:
    """Make what fetches the videos that are elsewhere, and announce it if there are any."""
    config, folder = run.config, fetched_folder(run.out)
    files = remote_files(jobs)
    if files:
        limit = f"at most {format_bytes(config.fetch_ahead)} at a time"
        run.progress.message(f"videos that are elsewhere are fetched into {folder}, {limit}")

    def on_bytes(seconds: float, count: int) -> None:
        run.meter.add("fetch", seconds, count / 1e6)

    return Fetcher(folder, files, limit=config.fetch_ahead, stop=run.stop, on_bytes=on_bytes)


def report_loads(run: RunContext, threads: Threads) -> None:
    """Tell the progress how much each stage has worked since the last time."""
    seconds, work = run.meter.since_last()
    if not run.meter.totals()["fetch"][0]:
        del work["fetch"]  # nothing is elsewhere
    run.progress.stages(
        {
            name: StageLoad(
                rate=items / seconds,
                busy=min(worked / seconds / STAGES[name].threads(threads), 1.0),
                unit=STAGES[name].unit,
            )
            for name, (worked, items) in work.items()
        }
    )
