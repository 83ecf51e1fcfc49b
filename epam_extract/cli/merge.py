"""``epam-extract merge``: joins the parts of a run into one file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from .command import command, flag

TELL_SECONDS = 5.0


@command
def merge(
    out: Annotated[
        Path, typer.Argument(show_default=False, help="Output file; created, or resumed.")
    ],
    parts: Annotated[list[Path], typer.Argument(show_default=False, help="Feature files.")],
    *,
    link: Annotated[
        bool,
        flag(None, "Link to the parts, which must stay where they are; copy nothing.", "--link"),
    ] = False,
) -> None:
    """Copy the videos of several feature files, made with the same settings, into one.

    Run the same command again to resume an interrupted merge. With --link, the output shows the
    videos of parts in its own folder or below until one of them changes; merge again to update it.
    Exits with status 3 if a part is missing or a video is incomplete.
    """
    from ..cluster.shards import missing_parts
    from ..options import format_bytes
    from ..progress import plural
    from ..store.in_child import look
    from ..store.merge import merge_parts
    from ..store.merge_linked import link_parts
    from .outcome import DONE, SOME_FAILED

    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            typer.echo(f"merged {format_bytes(done)} of about {format_bytes(total)}", err=True)

    for file in [*parts, *([out] if out.is_file() and not link else [])]:
        look("survey", file)  # in another process: HDF5 can crash on a damaged file
    done = link_parts(out, parts) if link else merge_parts(out, parts, on_bytes=tell)
    failed = f", {plural(done.failures, 'video')} failed" if done.failures else ""
    typer.echo(f"{out}: {plural(done.videos, 'video')}, {done.copied:,} of them new{failed}")
    missing = missing_parts(parts)
    for names, what in (
        (missing, "missing: run its command, then merge again"),
        (done.incomplete, "not complete in its part, so left out: run that part again"),
    ):
        for name in names:
            typer.echo(f"{name}: {what}", err=True)
    raise typer.Exit(SOME_FAILED if missing or done.incomplete else DONE)
