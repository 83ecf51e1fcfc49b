"""One run of ``epam-extract extract``: display, signals, log, the run itself, and its report."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..cluster.shards import PlanDraft, ShardChoice, parse_shard, read_plan, write_plan
from ..config import ExtractConfig
from ..errors import ConfigError, EpamExtractError, MachineError
from ..pipeline.installed import resolve
from ..progress import plural
from ..progress.displays import open_progress
from ..progress.logging_setup import logging_to
from ..progress.plain import Display
from ..progress.records import Summary
from ..store.in_child import look
from .signals import EXIT_STATUS as INTERRUPTED
from .signals import Stopper
from .summary_report import summary_json, summary_report
from .tables import failure_table, show

DONE, NOTHING_RAN, WRONG_USAGE, SOME_FAILED = 0, 1, 2, 3


def run_extraction(
    sources: Sequence[str],
    out: Path,
    config: ExtractConfig,
    *,
    list_file: Path | None,
    segments: Path | None,
    overwrite: bool,
    retry_failed: bool,
    dry_run: bool,
    shard: str | None,
    plan: Path | None,
    ray: str | None,
    gpus_per_worker: float | None,
    cpus_per_worker: int | None,
    progress: str,
    quiet: bool,
    verbose: bool,
    log_file: Path | None,
    summary_to: str | None,
) -> int:
    """Run, report on stderr, write the outcome as JSON to ``summary_to``; return the exit status.

    Raises:
        EpamExtractError: nothing could be run, or the machine failed.
    """
    check_writable(summary_to)
    display = open_progress(progress, quiet=quiet, verbose=verbose)
    with Stopper() as stopper, logging_to(display, verbose=verbose, log_file=log_file), display:
        only: ShardChoice | PlanDraft | None = None
        if shard is not None:
            part, said = parse_shard(shard, os.environ)
            only, out = ShardChoice(part, read_plan(plan) if plan else None), part.path(out)
            display.message(f"--shard {shard}: {said}, into {out}")
        elif plan is not None:
            only = PlanDraft()
        if not dry_run:  # a plan needs no weights; said before torch loads
            weights, said_by = resolve(config.weights)
            config = replace(config, weights=weights)
            if weights.file is not None:
                display.message(f"weights: {weights.file} ({said_by})")
        if out.is_file() and not overwrite:
            look("survey", out)  # HDF5 can crash on a damaged file: not in this process
        from ..pipeline.run import extract_features  # torch and the decoders load here

        stopper.running(display.notice)
        if ray is not None:
            from ..cluster.ray_run import extract_on_ray

            summary = extract_on_ray(
                sources,
                out,
                config,
                address=ray,
                gpus_per_worker=gpus_per_worker,
                cpus_per_worker=cpus_per_worker,
                list_file=list_file,
                segments=segments,
                overwrite=overwrite,
                retry_failed=retry_failed,
                progress=display,
                stop=stopper.event,
            )
        else:
            summary = extract_features(
                sources,
                out,
                config,
                list_file=list_file,
                segments=segments,
                overwrite=overwrite,
                retry_failed=retry_failed,
                dry_run=dry_run,
                only=only,
                progress=display,
                stop=stopper.event,
            )
        if isinstance(only, ShardChoice) and only.unplanned:
            display.warning(
                f"{plural(only.unplanned, 'video')} not in {plan}, so in no part of it; "
                "--dry-run --plan writes a new plan"
            )
        if isinstance(only, PlanDraft) and plan is not None:
            write_plan(plan, only.sizes)
            display.message(f"plan of {plural(len(only.sizes), 'video')}: {plan}")
    status = DONE if dry_run else exit_status(summary)
    if dry_run:
        display.message(
            "dry run: nothing was written" if plan is None else "dry run: no features written"
        )
    elif progress != "json":
        _report(summary, config, display)
    write_json(summary_to, summary_json(summary, status=status))
    return status


def exit_status(summary: Summary) -> int:
    """What the process says to its caller about a run."""
    if summary.interrupted:
        return INTERRUPTED
    return SOME_FAILED if summary.failures else DONE


def status_of(error: EpamExtractError) -> int:
    """The exit status of a command that an error ended."""
    return WRONG_USAGE if isinstance(error, ConfigError) else NOTHING_RAN


def check_writable(target: str | None) -> None:
    """Refuse, before hours of work, a place where ``write_json`` could not write after them.

    Raises:
        ConfigError: no such folder, or it is a directory, or it is not ours to write.
    """
    if target in (None, "-"):
        return
    path = Path(str(target))
    in_place = path.exists() and not path.is_file()
    if path.is_dir() or not os.access(path if in_place else path.parent, os.W_OK):
        raise ConfigError(
            f"--summary-json {path} cannot be written: expected a file name in a directory "
            "that is there and may be written, or - for stdout"
        )


def write_json(target: str | None, values: Mapping[str, object]) -> None:
    """Write JSON to a file, whole or not at all, or to stdout for ``-``; None writes nothing.

    What is no regular file, such as a device or a pipe, is written in place.

    Raises:
        MachineError: it cannot be written.
    """
    if target is None:
        return
    text = json.dumps(values, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    path = Path(target)
    try:
        if path.exists() and not path.is_file():
            with open(_open_in_place(path), "w", encoding="utf-8") as file:
                file.write(text)
            return
        path = path.resolve()  # through a link: the file is written, and the link stays
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MachineError(
            f"--summary-json {target}: cannot be written ({reason}); the features are not concerned"
        ) from error


def _open_in_place(path: Path) -> int:
    """Open a device or a pipe; one that nobody reads is an error, and nothing to wait for."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(descriptor, True)
    return descriptor


def _report(summary: Summary, config: ExtractConfig, display: Display) -> None:
    if not display.quiet:
        show(summary_report(summary, config, example=_example(summary)), stderr=True)
    elif summary.failures:
        show(failure_table(summary.failures), stderr=True)


def _example(summary: Summary) -> str | None:
    """The id of a video to read from the file, None where there is none."""
    if not (summary.done and summary.out.exists()):
        return None
    from ..store import FeatureStore

    with FeatureStore(summary.out) as store:
        return next(iter(store.ids), None)
