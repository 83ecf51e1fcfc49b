"""What is on this machine and how fast it is: ``weights``, ``models`` and ``bench``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..config import POSE_MODES, ExtractConfig, PoseConfig
from .command import Only, command, flag
from .messages import say

weights_app = typer.Typer(help="List the installed weights, or install some.")
models_app = typer.Typer(help="List the pose models, or download them.", no_args_is_help=True)


@weights_app.callback(invoke_without_command=True)
@command
def weights(context: typer.Context) -> None:
    """List the installed weights, or install some."""
    if context.invoked_subcommand is not None:
        return
    from ..pipeline.installed import VARIABLE, WHERE_FROM, folder, installed
    from ..progress.reports import show, weights_table

    found = installed()
    if found:
        show(weights_table([(w.path, w.size, w.sha256, w.default) for w in found]))
    else:
        say(f"no weights are installed. {WHERE_FROM}.")
        say("Install them with: epam-extract weights add FILE")
    say(f"folder: {folder()}")
    if os.environ.get(VARIABLE):
        say(f"{VARIABLE}={os.environ[VARIABLE]} is set and overrides the installed default")


@weights_app.command("add")
@command
def weights_add(
    file: Annotated[Path, typer.Argument(show_default=False, help="EPAM-Net checkpoint.")],
) -> None:
    """Check a checkpoint, install it in your data folder and make it the default."""
    from ..model import EPAMBackbone, load_weights
    from ..pipeline.installed import add

    added = add(file, check=lambda path: load_weights(EPAMBackbone(), path))
    say(f"installed as the default: {added.path}")


@models_app.command("list")
@command
def models_list() -> None:
    """List the pose models and whether they are on this machine."""
    from ..pose.models import list_models
    from ..progress.reports import models_table, show

    rows = [(m.mode, m.role, m.path, m.present) for m in list_models()]
    show(models_table(rows))


@models_app.command("download")
@command
def models_download(
    modes: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODES", show_default=False, help=", ".join(POSE_MODES)),
    ] = None,
) -> None:
    """Download the models of these modes (default: balanced) into rtmlib's cache.

    To use them on a machine without a connection, copy the folder that is printed.
    """
    from ..pose.models import download_models
    from ..progress.displays import open_progress

    with open_progress() as progress:
        paths = download_models(modes or [PoseConfig.mode], progress=progress.download)
    for path in paths:
        typer.echo(path)


@command
def bench(
    *,
    videos: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Videos to measure with. Default: the sample videos."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Approximate duration.")] = 60.0,
    config: Annotated[
        ExtractConfig,
        Only(
            "demo pose det_model pose_model precision device",
            defaults=(("pose", "bundled"),),  # nothing to download
        ),
    ],
    stand_in: Annotated[
        bool,
        flag(None, "Measure networks as large as --pose has, with random weights.", "--stand-in"),
    ] = False,
    as_json: Annotated[bool, flag(None, "Print JSON instead of a table.", "--json")] = False,
) -> None:
    """Measure how fast this machine decodes, estimates poses, runs the network and writes.

    The results are compared with a plain script. No weights are needed.
    """
    from ..bench import report_json, run_bench
    from ..progress.reports import bench_report, show

    report = run_bench(
        videos or [],
        config,
        seconds=seconds,
        stand_in=stand_in,
        on_part=lambda part: say(f"measuring: {part}", err=True),
    )
    if as_json:
        typer.echo(report_json(report))
    else:
        show(bench_report(report))
