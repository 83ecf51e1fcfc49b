"""What the commands share: options that several have, and how errors end a command."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import typer

from ..config import CROPS, DECODERS, GRIDS, POSE_MODES, PRECISIONS
from ..errors import ConfigError, EpamExtractError

WEIGHTS, POSE, WINDOWS = "Weights", "Pose", "Windows"
STORED, SPEED, AGAIN, SCREEN = "What is stored", "Speed", "Running again", "Screen"
MACHINES = "Many machines"
Number = int | None
File = Path | None


def option(
    panel: str, help: str, *names: str, metavar: str | None = None, envvar: str | None = None
) -> Any:
    """An option under one of the headings of ``--help``; ``envvar`` is for what a site sets."""
    return typer.Option(*names, help=help, metavar=metavar, envvar=envvar, rich_help_panel=panel)


def flag(panel: str | None, help: str, *names: str) -> Any:
    """An option without a value."""
    return typer.Option(*names, help=help, metavar=" ", rich_help_panel=panel)


def choice(
    panel: str, values: tuple[str, ...], help: str = "", *, envvar: str | None = None
) -> Any:
    """An option that takes one of ``values``, which the config dataclasses check."""

    def complete(start: str) -> list[str]:
        return [value for value in values if value.startswith(start)]

    return typer.Option(
        help=f"{', '.join(values)}{'; ' if help else ''}{help}.",
        metavar="NAME",
        envvar=envvar,
        autocompletion=complete,
        rich_help_panel=panel,
    )


Demo = Annotated[
    bool,
    flag(WEIGHTS, "Use random weights and the bundled pose model; downloads nothing.", "--demo"),
]
Pose = Annotated[str, choice(POSE, POSE_MODES)]
DetModel = Annotated[File, option(POSE, "Local person detector, an ONNX file: YOLOX or RTMDet.")]
PoseModel = Annotated[
    File, option(POSE, "Local pose network, an ONNX file: RTMPose, or RTMO without a detector.")
]
DetScore = Annotated[
    float | None, option(POSE, "Minimum detection score. Default: the model's own.")
]
KeypointScore = Annotated[float, option(POSE, "Minimum keypoint score.")]
MaxPersons = Annotated[
    Number,
    option(
        POSE,
        "Use at most this many people per window: those seen longest and clearest. Default: all.",
    ),
]
DetEvery = Annotated[
    str,
    option(
        POSE,
        "Detect people on every K-th frame and interpolate in between; auto: wherever needed.",
        metavar="K",
    ),
]
Keypoints = Annotated[
    File,
    option(
        POSE, "Read keypoints from this file or folder instead of estimating them.", metavar="PATH"
    ),
]
KeypointsMissing = Annotated[
    str, option(POSE, "What to do with videos it lacks: fail or estimate.", metavar="NAME")
]
Grid = Annotated[str, choice(WINDOWS, GRIDS)]
Stride = Annotated[int, option(WINDOWS, "Frames from one window to the next.")]
FrameInterval = Annotated[int, option(WINDOWS, "Frames from one frame of a window to the next.")]
Crop = Annotated[
    str, choice(WINDOWS, CROPS, "crop around the people of each window or of the whole video")
]
NoFull = Annotated[bool, flag(STORED, "Do not store full feature maps.", "--no-full")]
Fps = Annotated[
    float | None,
    option(WINDOWS, "Place windows on a regular time line of F frames per second.", metavar="F"),
]
Precision = Annotated[str, choice(SPEED, PRECISIONS)]
Device = Annotated[
    str, option(SPEED, "auto, cpu, cuda or cuda:N.", metavar="NAME", envvar="EPAM_DEVICE")
]
Decoder = Annotated[str, choice(SPEED, DECODERS, envvar="EPAM_DECODER")]


def say(text: str, *, color: str | None = None, err: bool = False) -> None:
    """Print a sentence on one line, whatever names are in it."""
    from ..progress import escaped

    typer.secho(escaped(text), fg=color, err=err)


@contextmanager
def one_line_errors(*, verbose: bool = False, summary_to: str | None = None) -> Iterator[None]:
    """Turn what goes wrong on purpose into a line on stderr and an exit status."""
    try:
        yield
    except EpamExtractError as error:
        from .run import status_of, write_json

        if verbose and not isinstance(error, ConfigError):
            _trace(error)
        message = str(error)
        say(f"error: {message}", color="red", err=True)
        status = status_of(error)
        if not isinstance(error, ConfigError):
            kind = type(error).__name__
            outcome = {"error": kind, "message": message, "exit_status": status}
            try:
                write_json(summary_to, outcome)
            except EpamExtractError as again:
                typer.secho(f"error: {again}", fg="red", err=True)
        raise typer.Exit(status) from None
    except KeyboardInterrupt:
        typer.secho("interrupted", fg="yellow", err=True)
        raise typer.Exit(130) from None
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except OSError as error:  # such as `> /dev/full`
        name = error.filename or "the output"
        say(f"error: {name}: {error.strerror or error}", color="red", err=True)
        raise typer.Exit(1) from None
    except Exception as error:
        if verbose:
            _trace(error)
        message = (
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. This was not foreseen; "
            f"what was committed stays. {_report_of(error)}"
        )
        say(f"error: {message}", color="red", err=True)
        raise typer.Exit(1) from None


def _trace(error: Exception) -> None:
    for line in "".join(traceback.format_exception(error)).splitlines():
        say(line, err=True)


def _report_of(error: Exception) -> str:
    """Write down where an error came from; return the sentence that says where that is."""
    try:
        folder = platformdirs.user_log_path("epam-extract", appauthor=False, ensure_exists=True)
        report = folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        report.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        return "Run it again with -v to see where it happened, and please report it."
    return f"The log {report} says where it happened; please report it."


CONTRADICTIONS = {
    ("demo", "pose_model"): "--demo brings its own pose model",
    ("demo", "det_model"): "--demo brings its own pose model",
    ("pose", "pose_model"): "--pose names a pair of models, --pose-model a file of your own",
    ("pose", "det_model"): "--pose names a pair of models, --det-model a file of your own",
    ("overwrite", "retry_failed"): "a new file has no failed videos to retry",
    ("quiet", "verbose"): "one says less, the other more",
    ("ray", "shard"): "--ray hands the videos out itself",
    ("ray", "dry_run"): "a plan needs no workers",
}


def refuse_contradictions(context: typer.Context) -> None:
    """Raise :class:`ConfigError` where options that were given exclude each other.

    Those of a ``--config`` file count too, unless one of the command line overrides them.
    """

    def source(name: str) -> str:
        found = context.get_parameter_source(name)
        return "" if found is None else found.name

    def given(name: str) -> bool:
        return source(name) in ("COMMANDLINE", "DEFAULT_MAP")

    def given_with(name: str, other: str) -> bool:
        overridden = (source(name), source(other)) == ("DEFAULT_MAP", "COMMANDLINE")
        return given(name) and not overridden

    values = context.params
    for (one, other), why in CONTRADICTIONS.items():
        if given(one) and given(other):
            names = [f"--{name.replace('_', '-')}" for name in (one, other)]
            raise ConfigError(f"{' and '.join(names)} contradict each other: {why}")
    if values.get("demo") and given("pose") and values["pose"] != "bundled":
        raise ConfigError(
            f"--demo and --pose {values['pose']} contradict each other: the demo's is "
            "--pose bundled; use --random-weights SEED for other pose models"
        )
    if values.get("grid") == "single" and (
        given_with("stride", "grid") or given_with("frame_interval", "grid")
    ):
        raise ConfigError(
            "--grid single makes one window of the whole video: leave out --stride and "
            "--frame-interval"
        )
    if (
        values.get("no_full")
        and given_with("features", "no_full")
        and "full" in values["features"].split(",")
    ):
        raise ConfigError("--no-full and --features with full contradict each other: choose one")
    if values.get("plan") is not None and not (values["dry_run"] or values["shard"]):
        raise ConfigError("--plan goes with --dry-run, to write it, or with --shard I/N, to use it")
    for name in ("gpus_per_worker", "cpus_per_worker"):
        if values.get(name) is not None:
            if values["ray"] is None:
                raise ConfigError(f"--{name.replace('_', '-')} goes with --ray")
            if values[name] <= 0:
                raise ConfigError(f"--{name.replace('_', '-')} must be more than 0")
    gpus = values.get("gpus_per_worker")
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"--gpus-per-worker must be a whole number or below 1, got {gpus:g}")
    if values.get("quiet") and values["progress"] in ("rich", "plain", "tqdm"):
        raise ConfigError(f"--quiet and --progress {values['progress']} contradict each other")


OTHER_SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".pkl", ".csv", ".json", ".parquet")


def require_hdf5_name(out: Path) -> None:
    """Raise :class:`ConfigError` where ``--out`` asks for another kind of file than is written."""
    if out.suffix.lower() in OTHER_SUFFIXES:
        raise ConfigError(
            f"--out {out}: the features go into one HDF5 file, so name it {out.with_suffix('.h5')};"
            f" 'epam-extract export' then makes .npy, .npz, .pt or .parquet files of it"
        )


def det_every_of(text: str) -> int | str:
    """``--det-every``: a number, or ``auto``; anything else is left for the config to refuse."""
    return int(text) if text.lstrip("-").isdigit() else text
