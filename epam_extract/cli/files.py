"""The commands that look at one file: ``preview``, ``info`` and ``verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..config import ExtractConfig
from .command import Only, command, flag
from .messages import say


@command
def preview(
    video: Annotated[Path, typer.Argument(show_default=False, help="Video file.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Output picture (.png) or video (.mp4).")
    ],
    config: Annotated[
        ExtractConfig,
        Only(
            "demo pose det_model pose_model det_score keypoint_score max_persons det_every "
            "keypoints keypoints_missing grid stride frame_interval crop device decoder"
        ),
    ],
) -> None:
    """Draw what the network sees: skeletons, window box, crop and heatmaps."""
    from ..progress.displays import open_progress
    from ..progress.logging_setup import logging_to
    from ..report.preview import draw_preview

    progress = open_progress()
    with logging_to(progress, verbose=False, log_file=None), progress:
        draw_preview(video, out, config, progress=progress)
    typer.echo(out)


@command
def info(
    file: Annotated[Path, typer.Argument(show_default=False, help="Feature file.")],
    *,
    as_json: Annotated[bool, flag(None, "Print JSON instead of tables.", "--json")] = False,
) -> None:
    """Show what a feature file contains, even while a run is writing it."""
    from ..store.in_child import look
    from .info_table import ROWS, info_report
    from .tables import show

    contents = look("describe", file, most_rows=None if as_json else ROWS)
    if as_json:
        typer.echo(json.dumps(contents, indent=2))
    else:
        show(info_report(contents))


@command
def verify(
    file: Annotated[Path, typer.Argument(show_default=False, help="Feature file.")],
    *,
    videos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also check that these videos are unchanged.")
    ] = None,
    repair: Annotated[
        bool, flag(None, "Remove damaged videos; the next run redoes only those.", "--repair")
    ] = False,
    as_json: Annotated[bool, flag(None, "Print JSON instead of a table.", "--json")] = False,
) -> None:
    """Check a feature file and list the problems of each video.

    Exits with status 1 if there are any, or if any remain after --repair.
    """
    from ..progress import plural
    from ..store.in_child import look
    from ..store.verify import Problem
    from .info_table import UNCOVERED
    from .tables import problem_table, show

    folder = None if videos is None else str(videos)
    answer = look("verify", file, videos=folder)
    found = answer["problems"]
    dropped = look("repair", file, problems=found) if repair and found else []
    problems = [Problem(**problem) for problem in found]
    left = [problem for problem in problems if not (repair and problem.droppable)]
    if as_json:
        typer.echo(json.dumps({**answer, "dropped": dropped, "left": len(left)}, indent=2))
        raise typer.Exit(1 if left else 0)
    if answer["uncovered"]:
        say(f"{file}: {UNCOVERED}")
    if not problems:
        say(f"{file}: all is well")
        return
    bad = len({problem.video_id for problem in problems if problem.video_id})
    what = plural(bad, "video") if bad else "the file itself"
    say(f"{file}: something is wrong with {what}")
    show(problem_table([(p.video_id or "(file)", p.array, p.message) for p in problems]))
    if repair:
        say(
            f"removed {plural(len(dropped), 'video')}: "
            "run the command that made the file again to process only those"
        )
    elif any(problem.droppable for problem in problems):
        say("--repair removes them; the next run then processes only those")
    raise typer.Exit(1 if left else 0)
