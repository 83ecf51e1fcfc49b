"""extract_features(): find the videos, plan, load the models, run all stages, sum up.

    find -> read -> keypoints -> windows -> clips -> network -> file

The stages themselves are in :mod:`.stages`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..config import ExtractConfig, WeightsConfig
from ..errors import StoreMismatch
from ..exchange.segments import find_segments, read_segments
from ..progress import SILENT, Progress
from ..progress.displays import open_progress
from ..progress.records import Summary
from ..store import StoreWriter, require_no_links, stored_states
from ..video import FoundVideo, find_videos
from ..video.fetch import clear_folder, fetched_folder
from .concurrency import require_open_files
from .context import RunContext
from .device import COMPILE_MIN_WINDOWS, DTYPES, worth_compiling
from .inference import BackboneRunner
from .installed_weights import resolve_weights
from .jobs import recall_people
from .keypoint_sources import match_keypoints
from .models import Models, load_models
from .output import OutputWriter
from .plan import ClassifiedVideos, Planner, classify_videos, count_windows
from .stages import run_stages
from .summary import Totals, summarize

COMPILED = {
    "native": "the network runs as compiled C++ (built once per machine, in about 10 seconds)",
    "inductor": "the network is compiled by torch.compile; the first windows take a few minutes",
}


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
    """Write the features of every window of ``videos`` to the HDF5 file ``out``, or resume it.

    Videos that are complete in ``out`` and unchanged on disk are skipped without being opened. A
    video that fails is recorded in the file and does not stop the run.

    Args:
        videos: files, directories (searched recursively) and globs; or addresses of these.
        out: the HDF5 file; its layout is in the README.
        config: all options; those in ``config.identity()`` must agree with a file that is resumed.
            If it names no weights, those of ``$EPAM_WEIGHTS`` or the installed ones are used.
        list_file: a file with more paths, one per line, or ``-`` for standard input.
        segments: a file or folder that lists segments: each is treated as a video of its own, and
            only segments are processed.
        overwrite: discard what ``out`` holds.
        retry_failed: process only the videos that failed before.
        dry_run: report the plan and stop.
        only: process only the videos it accepts, one part of all. Decisions that depend on the
            number of videos are based on all of them, so that all parts get the same numbers.
        progress: notified of everything that happens; ``"auto"`` displays it in a terminal, a
            notebook or a log.
        stop: once set, the clips in progress are finished and committed, and the run ends.

    Raises:
        ConfigError: the options contradict each other, or no video is found.
        CheckpointError, PoseModelError: weights or pose models cannot be loaded.
        StoreError: ``out`` cannot be written, or was made with other options.
        MachineError: the disk or the memory is full, or the GPU failed; what was committed stays.
    """
    if isinstance(progress, str):
        with open_progress(progress) as progress:
            return extract_features(**locals())
    config, out = config or ExtractConfig(), Path(out)
    require_no_links(out)
    if config.weights == WeightsConfig() and not dry_run:
        weights, said_by = resolve_weights(config.weights)
        config = replace(config, weights=weights)
        progress.message(f"weights: {weights.file} ({said_by})")
    run = RunContext(config, out, progress, stop or threading.Event())
    sources = [videos] if isinstance(videos, (str, Path)) else list(videos)
    found = find_all(sources, config, list_file=list_file, segments=segments, progress=progress)
    mine = found if only is None else [video for video in found if only(video)]
    if dry_run:
        return report_plan(run, mine, overwrite=overwrite, retry_failed=retry_failed)
    part_of = None if only is None else found
    return extract(run, mine, part_of=part_of, overwrite=overwrite, retry_failed=retry_failed)


def find_all(
    sources: Sequence[str | Path],
    config: ExtractConfig,
    *,
    list_file: Path | None,
    segments: Path | None,
    progress: Progress,
) -> list[FoundVideo]:
    """Find the videos at ``sources`` and in the list; with ``segments``, the parts it lists."""
    found = find_videos(sources, list_file=list_file, pictures=config.image_fps is not None)
    if segments is not None:
        found, notes = find_segments(read_segments(segments), found, source=segments.name)
        for note in notes:
            progress.warning(note)
    return found


def report_plan(
    run: RunContext, found: Sequence[FoundVideo], *, overwrite: bool, retry_failed: bool
) -> Summary:
    """Report what a run would do; nothing is written."""
    stored = stored_states(None if overwrite else run.out)
    videos = classify_videos(found, stored, retry_failed=retry_failed)
    with Planner(videos, run.config, run.out, progress=run.progress) as planner:
        planner.wait(run.stop)
    return sum_up(run, videos)


def extract(
    run: RunContext,
    found: Sequence[FoundVideo],
    *,
    part_of: Sequence[FoundVideo] | None,
    overwrite: bool,
    retry_failed: bool,
) -> Summary:
    """Plan, load the models, open the output and do the videos that it does not have."""
    config, progress = run.config, run.progress
    require_open_files(min(run.workers, len(found)))
    models = load_models(run)
    compiled = None if overwrite else models.compiled_before(run.out)  # refuses other options
    stored = stored_states(None if overwrite else run.out)
    videos = classify_videos(found, stored, retry_failed=retry_failed)
    for video_id in videos.skipped:
        progress.video_skipped(video_id)
    ids = [(job.video_id, job.source_id) for job in videos.jobs]
    keypoints = match_keypoints(models.pose, models.keypoints, ids, progress=progress)
    with Planner(videos, config, run.out, progress=progress) as planner:
        windows = planner.first_estimate()
        if part_of is not None:  # all parts decide alike, an empty one too
            enough = COMPILE_MIN_WINDOWS[run.device.type]
            windows = count_windows(part_of, config, enough=enough)
        runner = None
        if videos.jobs or part_of is not None:
            runner = make_runner(run, models, windows, compiled)
            compiled = runner.compiled
        with StoreWriter(run.out, models.header(compiled or ""), overwrite=overwrite) as store:
            clear_folder(fetched_folder(run.out))
            output = OutputWriter(store, config, progress=progress, meter=run.meter)
            if runner is not None:
                # The file is locked now, and another run may have added to it in the meantime.
                videos = classify_videos(found, store, retry_failed=retry_failed)
                jobs = [recall_people(job, store, config) for job in videos.jobs]
                run_stages(run, jobs, keypoints, runner, output, planner)
    summary = sum_up(run, videos, output, notes=models.notes)
    progress.finished(summary)
    return summary


def make_runner(
    run: RunContext, models: Models, windows: int, stored: str | None
) -> BackboneRunner:
    """Compile the network if that pays for this many windows, or as for the file's features.

    ``stored`` says how these were compiled; None: the file has none.

    Raises:
        StoreMismatch: the file's features come from the compiled network, and it cannot be
            compiled here.
    """
    config, progress = run.config, run.progress
    compiles = worth_compiling(config.compile, run.device, DTYPES[config.precision], windows)
    if config.compile == "auto" and stored is not None:
        compiles = bool(stored)
    runner = BackboneRunner(
        models.weights.backbone,
        config,
        device=run.device,
        compile=compiles,
        on_halved=lambda size: progress.warning(
            f"the GPU's memory is full: continuing with {size} clips at a time"
        ),
    )
    if compiles and stored and not runner.compiled:
        raise StoreMismatch(
            f"{run.out}: its features come from the compiled network, whose last digits differ, "
            f"and the network cannot be compiled here: {runner.uncompiled_because}. Install a C++ "
            "compiler (such as g++) and run the same command again, or choose another output "
            "file"
        )
    if runner.compiled:
        progress.message(COMPILED[runner.compiled])
    elif compiles:
        progress.warning(
            "the network could not be compiled (the log says why); continuing without compiling"
        )
    return runner


def sum_up(
    run: RunContext,
    videos: ClassifiedVideos,
    output: OutputWriter | None = None,
    *,
    notes: Sequence[str] = (),
) -> Summary:
    """The summary of a run; without ``output``, of one that only planned."""
    return summarize(
        run.out,
        videos,
        output.totals if output is not None else Totals(),
        done=len(output.done) if output is not None else 0,
        failures=output.failures if output is not None else (),
        notes=notes,
        started=run.started,
        interrupted=run.stop.is_set(),
    )
