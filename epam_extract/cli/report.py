"""``epam-extract report``: an HTML page about a feature file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .command import command


@command
def report(
    file: Annotated[Path, typer.Argument(show_default=False, help="Feature file.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output page (.html).")],
    videos: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the videos, to show pictures of them."),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="ActivityNet JSON or CSV, to draw labelled segments.")
    ] = None,
) -> None:
    """Make an HTML page about a feature file, with suspicious videos first.

    The page works offline. It can be made while a run is still writing the file.
    """
    from ..exchange import read_annotations
    from ..progress.displays import open_progress
    from ..progress.logging_setup import logging_to
    from ..report import write_report

    progress = open_progress()
    with logging_to(progress, verbose=False, log_file=None), progress:
        write_report(
            file,
            out,
            videos=videos,
            annotations=None if annotations is None else read_annotations(annotations),
            progress=progress,
        )
    typer.echo(out)
