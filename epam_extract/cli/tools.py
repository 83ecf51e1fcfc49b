"""What is on this machine and how fast it is: ``weights``, ``models`` and ``bench``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..config import POSE_MODES, ExtractConfig, PoseConfig
from ..options import format_bytes
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
    from ..pipeline.installed_weights import VARIABLE, WHERE_FROM, list_installed, weights_folder
    from .tables import show, table

    found = list_installed()
    if found:
        rows = [
            (w.path.name, format_bytes(w.size), w.sha256[:12], "default" if w.default else "")
            for w in found
        ]
        columns = ("installed weights", "size", "sha256", "")
        show(table(columns, rows, fixed=columns[1:], styles={"": "green"}))
    else:
        say(f"no weights are installed. {WHERE_FROM}.")
        say("Install them with: epam-extract weights add FILE")
    say(f"folder: {weights_folder()}")
    if os.environ.get(VARIABLE):
        say(f"{VARIABLE}={os.environ[VARIABLE]} is set and overrides the installed default")


@weights_app.command("add")
@command
def weights_add(
    file: Annotated[Path, typer.Argument(show_default=False, help="EPAM-Net checkpoint.")],
) -> None:
    """Check a checkpoint, install it in your data folder and make it the default."""
    from ..model import EPAMBackbone, load_weights
    from ..pipeline.installed_weights import add_weights

    added = add_weights(file, check=lambda path: load_weights(EPAMBackbone(), path))
    say(f"installed as the default: {added.path}")


@models_app.command("list")
@command
def models_list() -> None:
    """List the pose models and whether they are on this machine."""
    from rich.text import Text

    from ..pose.model_files import list_models
    from .tables import show, table

    here, absent = Text("here", "green"), Text("not downloaded", "dim")
    rows = [(m.mode, m.role, m.path.name, here if m.present else absent) for m in list_models()]
    show(table(("mode", "role", "file", ""), rows, grouped=True))


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
    from ..pose.model_files import download_models
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
    from .tables import bench_report, show

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
