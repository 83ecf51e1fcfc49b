"""``epam-extract extract``: its options apart from the config, and checks before a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import ExtractConfig
from ..errors import ConfigError
from ..options import STORED
from .command import AGAIN, MACHINES, SCREEN, command, flag
from .options_file import use_file

File = Path | None


def option(panel: str, help: str, metavar: str | None = None) -> Any:
    """An option under one of the headings of ``--help``."""
    return typer.Option(help=help, metavar=metavar, rich_help_panel=panel)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run apart from its config: sources, output, resuming, machines, screen."""

    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEOS",
            show_default=False,
            help="Files, directories (searched recursively), quoted globs, or addresses of these.",
        ),
    ] = None
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Output HDF5 file; created, or resumed if it exists."),
    ]
    list_file: Annotated[
        File,
        typer.Option(
            "--list", metavar="FILE", help="Text file with one video per line; - reads stdin."
        ),
    ] = None
    config_file: Annotated[
        File,
        typer.Option(
            "--config",
            metavar="FILE",
            callback=use_file,
            is_eager=True,
            help="Read options from a TOML file, or reuse those of an earlier run (.h5).",
        ),
    ] = None
    segments: Annotated[
        File,
        typer.Option(
            metavar="PATH",
            help="Process only the parts of videos listed in this file or folder, each as a video.",
        ),
    ] = None
    overwrite: Annotated[
        bool, flag(AGAIN, "Replace the output file instead of resuming it.", "--overwrite")
    ] = False
    retry_failed: Annotated[
        bool, flag(AGAIN, "Process only the videos that failed before.", "--retry-failed")
    ] = False
    dry_run: Annotated[bool, flag(AGAIN, "Show what would be done, and exit.", "--dry-run")] = False
    shard: Annotated[
        str | None,
        option(
            MACHINES,
            "Process part I of N, counted from 0; auto takes both from SLURM and other schedulers.",
            "I/N",
        ),
    ] = None
    plan: Annotated[
        File,
        option(
            MACHINES,
            "File that divides the videos into equal parts: written with --dry-run, used with "
            "--shard.",
        ),
    ] = None
    ray: Annotated[
        str | None,
        option(
            MACHINES,
            "Use the Ray cluster at this address; without one, all GPUs and cores of this machine.",
            "[ADDRESS]",
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None, option(MACHINES, "GPUs of each worker of --ray, 1 or a fraction.", "N")
    ] = None
    cpus_per_worker: Annotated[
        int | None, option(MACHINES, "Cores of each worker of --ray.", "N")
    ] = None
    progress: Annotated[
        str, option(SCREEN, "Display: auto, rich, plain, tqdm, json or none.", "NAME")
    ] = "auto"
    quiet: Annotated[bool, flag(SCREEN, "Show only warnings and failures.", "--quiet", "-q")] = (
        False
    )
    verbose: Annotated[bool, flag(SCREEN, "Show more detail.", "--verbose", "-v")] = False
    log_file: Annotated[File, option(SCREEN, "Append a detailed log to this file.")] = None
    summary_json: Annotated[
        str | None,
        option(SCREEN, "Write a JSON summary to this file; - writes to stdout.", "FILE"),
    ] = None


@command
def extract(
    *,
    run: RunOptions,
    config: ExtractConfig,
    no_full: Annotated[bool, flag(STORED, "Do not store full feature maps.", "--no-full")] = False,
) -> None:
    """Extract RGB and pose features of every video into one HDF5 file.

    Interrupted? Run the same command again to resume: nothing that was committed is lost.
    """
    _require_hdf5_name(run.out)
    if no_full:
        config = replace(config, features=tuple(n for n in config.features if n != "full"))
    run = _with_sources(run)
    from .run import run_extraction

    raise typer.Exit(run_extraction(run, config))


OTHER_SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".pkl", ".csv", ".json", ".parquet")


def _require_hdf5_name(out: Path) -> None:
    """Raise :class:`ConfigError` if ``--out`` has the suffix of another kind of file."""
    if out.suffix.lower() in OTHER_SUFFIXES:
        raise ConfigError(
            f"--out {out}: features are written to one HDF5 file, so name it "
            f"{out.with_suffix('.h5')}; 'epam-extract export' then converts it to .npy, .npz, .pt "
            "or .parquet"
        )


def _with_sources(run: RunOptions) -> RunOptions:
    """The same options, with ``-`` among the sources taken as ``--list -``.

    Raises:
        ConfigError: no video is named.
    """
    sources, list_file = run.sources or [], run.list_file
    if "-" in sources and list_file is None:
        sources, list_file = [source for source in sources if source != "-"], Path("-")
    if not sources and list_file is None:
        raise ConfigError(
            "no videos are named: expected files, directories, globs or addresses, or --list FILE"
        )
    return replace(run, sources=sources, list_file=list_file)
