"""``epam-extract extract``: its options, and which of them exclude each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config import (
    COMPRESSIONS,
    CROPS,
    DECODERS,
    FEATURES,
    GRIDS,
    POSE_MODES,
    PRECISIONS,
    STORED_DTYPES,
    ExtractConfig,
    PoseConfig,
    WeightsConfig,
    WindowConfig,
)
from ..errors import ConfigError
from .common import (
    AGAIN,
    POSE,
    SCREEN,
    SPEED,
    STORED,
    WEIGHTS,
    WINDOWS,
    File,
    Number,
    choice,
    flag,
    one_line_errors,
    option,
)


def extract(
    context: typer.Context,
    *,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEOS...",
            show_default=False,
            help="Files, directories (searched recursively) or quoted globs.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="HDF5 file to make, or to go on with.")],
    list_file: Annotated[
        File,
        typer.Option("--list", metavar="FILE", help="Text file of videos, one a line; - is stdin."),
    ] = None,
    weights: Annotated[
        File, option(WEIGHTS, "EPAM-Net checkpoint; else $EPAM_WEIGHTS, else the installed one.")
    ] = None,
    rgb_weights: Annotated[
        File, option(WEIGHTS, "Single-stream checkpoint to replace the RGB stream of --weights.")
    ] = None,
    pose_weights: Annotated[
        File, option(WEIGHTS, "Single-stream checkpoint to replace the pose stream of --weights.")
    ] = None,
    random_weights: Annotated[
        Number, option(WEIGHTS, "Random weights from this seed, to try the tool.", metavar="SEED")
    ] = None,
    demo: Annotated[
        bool, flag(WEIGHTS, "Random weights, bundled pose model: needs no download.", "--demo")
    ] = False,
    pose: Annotated[str, choice(POSE, POSE_MODES)] = PoseConfig.mode,
    det_model: Annotated[File, option(POSE, "Local ONNX person detector: YOLOX, RTMDet.")] = None,
    pose_model: Annotated[
        File, option(POSE, "Local ONNX pose network: RTMPose, or RTMO alone.")
    ] = None,
    det_score: Annotated[
        float | None, option(POSE, "Least score of a person; else the model's own.")
    ] = PoseConfig.det_score,
    keypoint_score: Annotated[
        float, option(POSE, "Least score of a keypoint.")
    ] = PoseConfig.keypoint_score,
    max_persons: Annotated[
        Number, option(POSE, "Keep this many of a frame, the best-scored; else all.")
    ] = PoseConfig.max_persons,
    det_every: Annotated[
        int, option(POSE, "Detect people on every K-th frame, interpolate between.", metavar="K")
    ] = PoseConfig.det_every,
    grid: Annotated[str, choice(WINDOWS, GRIDS)] = WindowConfig.grid,
    stride: Annotated[int, option(WINDOWS, "Frames between windows.")] = WindowConfig.stride,
    frame_interval: Annotated[
        int, option(WINDOWS, "Frames between the frames of a window.")
    ] = WindowConfig.frame_interval,
    crop: Annotated[str, choice(WINDOWS, CROPS, "whose people the box is around")] = (
        ExtractConfig.crop
    ),
    features: Annotated[
        str, option(STORED, f"Any of {','.join(FEATURES)}.", metavar="NAMES")
    ] = ",".join(ExtractConfig.features),
    no_full: Annotated[bool, flag(STORED, "No full feature maps.", "--no-full")] = False,
    dtype: Annotated[str, choice(STORED, STORED_DTYPES, "of full feature maps")] = (
        ExtractConfig.stored_dtype
    ),
    compression: Annotated[str, choice(STORED, COMPRESSIONS, "of full feature maps")] = (
        ExtractConfig.compression
    ),
    precision: Annotated[str, choice(SPEED, PRECISIONS)] = ExtractConfig.precision,
    device: Annotated[str, option(SPEED, "auto, cpu, cuda or cuda:N.", metavar="NAME")] = (
        ExtractConfig.device
    ),
    batch_size: Annotated[
        Number, option(SPEED, "Clips per network call; else by device.")
    ] = ExtractConfig.batch_size,
    workers: Annotated[
        Number, option(SPEED, "Videos read at the same time; else by device.")
    ] = ExtractConfig.workers,
    compile_network: Annotated[
        str, option(SPEED, "auto, on, off: torch.compile the network.", "--compile", metavar="NAME")
    ] = ExtractConfig.compile,
    decoder: Annotated[str, choice(SPEED, DECODERS)] = ExtractConfig.decoder,
    overwrite: Annotated[bool, flag(AGAIN, "Start the file anew.", "--overwrite")] = False,
    retry_failed: Annotated[
        bool, flag(AGAIN, "Do the videos that failed before, and only those.", "--retry-failed")
    ] = False,
    dry_run: Annotated[bool, flag(AGAIN, "Say what would be done, and stop.", "--dry-run")] = False,
    progress: Annotated[
        str, option(SCREEN, "auto, rich, plain, tqdm, json, none.", metavar="NAME")
    ] = "auto",
    quiet: Annotated[bool, flag(SCREEN, "Warnings and failures only.", "--quiet", "-q")] = False,
    verbose: Annotated[bool, flag(SCREEN, "Say more.", "--verbose", "-v")] = False,
    log_file: Annotated[File, option(SCREEN, "Append all there is to say to this file.")] = None,
    summary_json: Annotated[
        str | None, option(SCREEN, "Write the outcome as JSON; - is stdout.", metavar="FILE")
    ] = None,
) -> None:
    """Extract RGB and pose features of every video into one HDF5 file.

    The file is whole at any time: run the same command again to go on after an interruption.
    """
    with one_line_errors(verbose=verbose, summary_to=summary_json):
        refuse_contradictions(context)
        config = ExtractConfig(
            windows=WindowConfig(grid=grid, stride=stride, frame_interval=frame_interval),
            pose=PoseConfig(
                mode="bundled" if demo else pose,
                det_model=det_model,
                pose_model=pose_model,
                det_score=det_score,
                keypoint_score=keypoint_score,
                max_persons=max_persons,
                det_every=det_every,
            ),
            weights=WeightsConfig(
                file=weights,
                rgb_file=rgb_weights,
                pose_file=pose_weights,
                random_seed=random_weights,
                demo=demo,
            ),
            crop=crop,
            features=chosen_features(features, no_full=no_full),
            precision=precision,
            stored_dtype=dtype,
            compression=compression,
            decoder=decoder,
            device=device,
            batch_size=batch_size,
            workers=workers,
            compile=compile_network,
        )
        sources, list_file = where_videos_are(sources or [], list_file)
        from ..runner import run_extraction

        status = run_extraction(
            sources,
            out,
            config,
            list_file=list_file,
            overwrite=overwrite,
            retry_failed=retry_failed,
            dry_run=dry_run,
            progress=progress,
            quiet=quiet,
            verbose=verbose,
            log_file=log_file,
            summary_to=summary_json,
        )
    raise typer.Exit(status)


CONTRADICTIONS = {
    ("demo", "pose_model"): "--demo brings its own pose model",
    ("demo", "det_model"): "--demo brings its own pose model",
    ("pose", "pose_model"): "--pose names a pair of models, --pose-model a file of your own",
    ("pose", "det_model"): "--pose names a pair of models, --det-model a file of your own",
    ("overwrite", "retry_failed"): "a file started anew has no failed videos to try again",
    ("quiet", "verbose"): "one says less, the other more",
}


def refuse_contradictions(context: typer.Context) -> None:
    """Raise :class:`ConfigError` where options given on the command line exclude each other."""

    def given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    values = context.params
    for (one, other), why in CONTRADICTIONS.items():
        if given(one) and given(other):
            names = [f"--{name.replace('_', '-')}" for name in (one, other)]
            raise ConfigError(f"{' and '.join(names)} contradict each other: {why}")
    if values["demo"] and given("pose") and values["pose"] != "bundled":
        raise ConfigError(
            f"--demo and --pose {values['pose']} contradict each other: the demo's is "
            "--pose bundled; use --random-weights SEED for other pose models"
        )
    if values["grid"] == "single" and (given("stride") or given("frame_interval")):
        raise ConfigError(
            "--grid single makes one window of the whole video: leave out --stride and "
            "--frame-interval"
        )
    if values["no_full"] and given("features") and "full" in values["features"].split(","):
        raise ConfigError("--no-full and --features with full contradict each other: choose one")
    if values["quiet"] and values["progress"] in ("rich", "plain", "tqdm"):
        raise ConfigError(f"--quiet and --progress {values['progress']} contradict each other")


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
            "no videos are named: expected files, directories or globs, or --list FILE"
        )
    return sources, list_file
