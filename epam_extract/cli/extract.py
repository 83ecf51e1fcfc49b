"""``epam-extract extract``: its options, and which of them exclude each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config import (
    COMPRESSIONS,
    FEATURES,
    STORED_DTYPES,
    ExtractConfig,
    PoseConfig,
    WeightsConfig,
    WindowConfig,
    parse_bytes,
)
from ..errors import ConfigError
from .common import (
    AGAIN,
    MACHINES,
    SCREEN,
    SPEED,
    STORED,
    WEIGHTS,
    Crop,
    Decoder,
    Demo,
    DetEvery,
    DetModel,
    DetScore,
    Device,
    File,
    Fps,
    FrameInterval,
    Grid,
    Keypoints,
    KeypointScore,
    KeypointsMissing,
    MaxPersons,
    NoFull,
    Number,
    Pose,
    PoseModel,
    Precision,
    Stride,
    choice,
    det_every_of,
    flag,
    one_line_errors,
    option,
    refuse_contradictions,
    require_hdf5_name,
)
from .options_file import use_file


def extract(
    context: typer.Context,
    *,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEOS",
            show_default=False,
            help="Files, directories (searched recursively), quoted globs, or addresses of these.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Output HDF5 file; created, or resumed if it exists."),
    ],
    list_file: Annotated[
        File,
        typer.Option(
            "--list", metavar="FILE", help="Text file with one video per line; - reads stdin."
        ),
    ] = None,
    config_file: Annotated[
        File,
        typer.Option(
            "--config",
            metavar="FILE",
            callback=use_file,
            is_eager=True,
            help="Read options from a TOML file, or reuse those of an earlier run (.h5).",
        ),
    ] = None,
    segments: Annotated[
        File,
        typer.Option(
            "--segments",
            metavar="PATH",
            help="Do only the parts of videos that this file or folder names, each as a video.",
        ),
    ] = None,
    image_fps: Annotated[
        float | None,
        typer.Option(metavar="F", help="Read folders of numbered pictures as videos of this rate."),
    ] = ExtractConfig.image_fps,
    weights: Annotated[
        File,
        option(WEIGHTS, "EPAM-Net checkpoint. Default: $EPAM_WEIGHTS, then the installed one."),
    ] = None,
    rgb_weights: Annotated[
        File, option(WEIGHTS, "Single-stream checkpoint that replaces the RGB stream of --weights.")
    ] = None,
    pose_weights: Annotated[
        File,
        option(WEIGHTS, "Single-stream checkpoint that replaces the pose stream of --weights."),
    ] = None,
    random_weights: Annotated[
        Number,
        option(WEIGHTS, "Use random weights with this seed, to try the tool.", metavar="SEED"),
    ] = None,
    demo: Demo = False,
    pose: Pose = PoseConfig.mode,
    det_model: DetModel = None,
    pose_model: PoseModel = None,
    det_score: DetScore = PoseConfig.det_score,
    keypoint_score: KeypointScore = PoseConfig.keypoint_score,
    max_persons: MaxPersons = PoseConfig.max_persons,
    det_every: DetEvery = str(PoseConfig.det_every),
    keypoints: Keypoints = ExtractConfig.keypoints,
    keypoints_missing: KeypointsMissing = ExtractConfig.keypoints_missing,
    grid: Grid = WindowConfig.grid,
    stride: Stride = WindowConfig.stride,
    frame_interval: FrameInterval = WindowConfig.frame_interval,
    fps: Fps = ExtractConfig.fps,
    crop: Crop = ExtractConfig.crop,
    features: Annotated[
        str, option(STORED, f"Comma-separated, from {', '.join(FEATURES)}.", metavar="NAMES")
    ] = ",".join(ExtractConfig.features),
    no_full: NoFull = False,
    dtype: Annotated[str, choice(STORED, STORED_DTYPES, "type of full feature maps")] = (
        ExtractConfig.stored_dtype
    ),
    compression: Annotated[
        str, choice(STORED, COMPRESSIONS, "compression of full feature maps")
    ] = (ExtractConfig.compression),
    precision: Precision = ExtractConfig.precision,
    device: Device = ExtractConfig.device,
    batch_size: Annotated[
        Number, option(SPEED, "Clips per network call. Default: by device.")
    ] = ExtractConfig.batch_size,
    workers: Annotated[
        Number,
        option(SPEED, "Videos read in parallel. Default: by device.", envvar="EPAM_WORKERS"),
    ] = ExtractConfig.workers,
    max_memory: Annotated[
        str | None,
        option(SPEED, "Most for one video's pictures, as 8GB; else what there is.", metavar="SIZE"),
    ] = None,
    compile_network: Annotated[
        str, option(SPEED, "auto, on, off; compile the network.", "--compile", metavar="NAME")
    ] = ExtractConfig.compile,
    decoder: Decoder = ExtractConfig.decoder,
    fetch_ahead: Annotated[
        str, option(SPEED, "Disk space for videos fetched from addresses.", metavar="SIZE")
    ] = "20GB",
    overwrite: Annotated[
        bool, flag(AGAIN, "Replace the output file instead of resuming it.", "--overwrite")
    ] = False,
    retry_failed: Annotated[
        bool, flag(AGAIN, "Process only the videos that failed before.", "--retry-failed")
    ] = False,
    dry_run: Annotated[
        bool, flag(AGAIN, "Show what would be done, and exit.", "--dry-run")
    ] = False,
    shard: Annotated[
        str | None,
        option(
            MACHINES,
            "Process part I of N, counted from 0; auto takes both from SLURM and others.",
            metavar="I/N",
        ),
    ] = None,
    plan: Annotated[
        File,
        option(
            MACHINES, "Plan that balances the parts: written with --dry-run, used with --shard."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        option(
            MACHINES,
            "Spread the run over the Ray cluster at this address, or over this machine's GPUs and "
            "cores where none follows.",
            metavar="[ADDRESS]",
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        option(MACHINES, "GPUs of each worker of --ray, 1 or a fraction.", metavar="N"),
    ] = None,
    cpus_per_worker: Annotated[
        Number, option(MACHINES, "Cores of each worker of --ray.", metavar="N")
    ] = None,
    progress: Annotated[
        str, option(SCREEN, "auto, rich, plain, tqdm, json, none.", metavar="NAME")
    ] = "auto",
    quiet: Annotated[
        bool, flag(SCREEN, "Show only warnings and failures.", "--quiet", "-q")
    ] = False,
    verbose: Annotated[bool, flag(SCREEN, "Show more detail.", "--verbose", "-v")] = False,
    log_file: Annotated[File, option(SCREEN, "Append a detailed log to this file.")] = None,
    summary_json: Annotated[
        str | None,
        option(SCREEN, "Write a JSON summary to this file; - writes to stdout.", metavar="FILE"),
    ] = None,
) -> None:
    """Extract RGB and pose features of every video into one HDF5 file.

    Interrupted? Run the same command again to resume: nothing that was committed is lost.
    """
    with one_line_errors(verbose=verbose, summary_to=summary_json):
        refuse_contradictions(context)
        require_hdf5_name(out)
        config = ExtractConfig(
            windows=WindowConfig(grid=grid, stride=stride, frame_interval=frame_interval),
            pose=PoseConfig(
                mode="bundled" if demo else pose,
                det_model=det_model,
                pose_model=pose_model,
                det_score=det_score,
                keypoint_score=keypoint_score,
                max_persons=max_persons,
                det_every=det_every_of(det_every),
            ),
            weights=WeightsConfig(
                file=weights,
                rgb_file=rgb_weights,
                pose_file=pose_weights,
                random_seed=random_weights,
                demo=demo,
            ),
            keypoints=keypoints,
            keypoints_missing=keypoints_missing,
            fps=fps,
            image_fps=image_fps,
            crop=crop,
            features=chosen_features(features, no_full=no_full),
            precision=precision,
            stored_dtype=dtype,
            compression=compression,
            decoder=decoder,
            device=device,
            batch_size=batch_size,
            workers=workers,
            max_memory=(
                None if max_memory is None else parse_bytes("--max-memory", max_memory, like="8GB")
            ),
            fetch_ahead=parse_bytes("--fetch-ahead", fetch_ahead, like="20GB"),
            compile=compile_network,
        )
        sources, list_file = where_videos_are(sources or [], list_file)
        from .run import run_extraction

        status = run_extraction(
            sources,
            out,
            config,
            list_file=list_file,
            segments=segments,
            overwrite=overwrite,
            retry_failed=retry_failed,
            dry_run=dry_run,
            shard=shard,
            plan=plan,
            ray=ray,
            gpus_per_worker=gpus_per_worker,
            cpus_per_worker=cpus_per_worker,
            progress=progress,
            quiet=quiet,
            verbose=verbose,
            log_file=log_file,
            summary_to=summary_json,
        )
    raise typer.Exit(status)


def chosen_features(names: str, *, no_full: bool) -> tuple[str, ...]:
    """``"pooled, full"`` as a tuple, each name once."""
    features = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    return tuple(name for name in features if not (no_full and name == "full"))


def where_videos_are(sources: list[str], list_file: Path | None) -> tuple[list[str], Path | None]:
    """The sources and the list file; a source ``-`` means ``--list -``.

    Raises:
        ConfigError: nothing is named.
    """
    if "-" in sources and list_file is None:
        sources, list_file = [source for source in sources if source != "-"], Path("-")
    if not sources and list_file is None:
        raise ConfigError(
            "no videos are named: expected files, directories, globs or addresses, or --list FILE"
        )
    return sources, list_file
