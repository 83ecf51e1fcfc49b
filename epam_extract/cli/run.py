"""One run of ``epam-extract extract``: display, signals, log, extraction and report."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cluster.shards import PlanDraft, ShardChoice, parse_shard, read_plan, write_plan
from ..config import ExtractConfig
from ..pipeline.installed_weights import resolve_weights
from ..progress import plural
from ..progress.displays import open_progress
from ..progress.logging_setup import logging_to
from ..progress.plain import Display
from ..progress.records import Summary
from ..store.in_child import look
from .outcome import DONE, INTERRUPTED, SOME_FAILED, check_writable, write_json
from .signals import Stopper
from .summary_report import summary_json, summary_report
from .tables import failure_table, show

if TYPE_CHECKING:
    from .extract import RunOptions


def run_extraction(run: RunOptions, config: ExtractConfig) -> int:
    """Extract, report on stderr, write the JSON summary; return the exit status.

    Raises:
        EpamExtractError: nothing could be run, or the machine failed.
    """
    check_writable(run.summary_json)
    display = open_progress(run.progress, quiet=run.quiet, verbose=run.verbose)
    logged = logging_to(display, verbose=run.verbose, log_file=run.log_file)
    with Stopper() as stopper, logged, display:
        out, only = _part_of(run, display)
        if not run.dry_run:  # a plan needs no weights; shown before torch loads
            weights, said_by = resolve_weights(config.weights)
            config = replace(config, weights=weights)
            if weights.file is not None:
                display.message(f"weights: {weights.file} ({said_by})")
        if out.is_file() and not run.overwrite:
            look("survey", out)  # in another process: HDF5 can crash on a damaged file
        summary = _extract(run, out, config, only, display, stopper)
        _tell_of_part(run, only, display)
    status = DONE if run.dry_run else exit_status(summary)
    if run.dry_run:
        display.message(f"dry run: no{'thing was' if run.plan is None else ' features'} written")
    elif run.progress != "json":
        _report(summary, config, display)
    write_json(run.summary_json, summary_json(summary, status=status))
    return status


def _part_of(run: RunOptions, display: Display) -> tuple[Path, ShardChoice | PlanDraft | None]:
    """The file to write, and which videos go into it; None: all."""
    if run.shard is not None:
        part, said = parse_shard(run.shard, os.environ)
        out = part.path(run.out)
        display.message(f"--shard {run.shard}: {said}, into {out}")
        return out, ShardChoice(part, read_plan(run.plan) if run.plan else None)
    return run.out, None if run.plan is None else PlanDraft()


def _extract(
    run: RunOptions,
    out: Path,
    config: ExtractConfig,
    only: ShardChoice | PlanDraft | None,
    display: Display,
    stopper: Stopper,
) -> Summary:
    """Extract in this process, or with the workers of ``--ray``."""
    from ..pipeline.run import extract_features  # torch and the decoders load here

    stopper.running(display.notice)
    common: dict[str, Any] = {
        "list_file": run.list_file,
        "segments": run.segments,
        "overwrite": run.overwrite,
        "retry_failed": run.retry_failed,
        "progress": display,
        "stop": stopper.event,
    }
    sources = run.sources or []
    if run.ray is None:
        return extract_features(sources, out, config, dry_run=run.dry_run, only=only, **common)
    from ..cluster.ray_run import extract_on_ray

    return extract_on_ray(
        sources,
        out,
        config,
        address=run.ray,
        gpus_per_worker=run.gpus_per_worker,
        cpus_per_worker=run.cpus_per_worker,
        **common,
    )


def _tell_of_part(run: RunOptions, only: ShardChoice | PlanDraft | None, display: Display) -> None:
    """Write the plan of a dry run, or warn of videos that a shard's plan lacks."""
    if isinstance(only, ShardChoice) and only.unplanned:
        display.warning(
            f"{plural(only.unplanned, 'video')} not in {run.plan}, so in no shard; "
            "--dry-run --plan writes a new plan"
        )
    if isinstance(only, PlanDraft) and run.plan is not None:
        write_plan(run.plan, only.sizes)
        display.message(f"plan of {plural(len(only.sizes), 'video')}: {run.plan}")


def exit_status(summary: Summary) -> int:
    """The exit status after a run."""
    if summary.interrupted:
        return INTERRUPTED
    return SOME_FAILED if summary.failures else DONE


def _report(summary: Summary, config: ExtractConfig, display: Display) -> None:
    if not display.quiet:
        show(summary_report(summary, config, example=_example(summary)), stderr=True)
    elif summary.failures:
        show(failure_table(summary.failures), stderr=True)


def _example(summary: Summary) -> str | None:
    """The id of a video in the file, for the report's example; None if there is none."""
    if not (summary.done and summary.out.exists()):
        return None
    from ..store import FeatureStore

    with FeatureStore(summary.out) as store:
        return next(iter(store.ids), None)
