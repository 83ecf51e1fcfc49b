"""The commands that look into a file: ``preview``, ``info`` and ``verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..config import ExtractConfig, PoseConfig, WindowConfig
from .common import (
    Crop,
    Decoder,
    Demo,
    DetEvery,
    DetModel,
    DetScore,
    Device,
    File,
    FrameInterval,
    Grid,
    Keypoints,
    KeypointScore,
    KeypointsMissing,
    MaxPersons,
    Pose,
    PoseModel,
    Stride,
    det_every_of,
    flag,
    one_line_errors,
    refuse_contradictions,
    say,
)


def preview(
    context: typer.Context,
    video: Annotated[Path, typer.Argument(show_default=False, help="Video file.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Output picture (.png) or video (.mp4).")
    ],
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
    crop: Crop = ExtractConfig.crop,
    device: Device = ExtractConfig.device,
    decoder: Decoder = ExtractConfig.decoder,
) -> None:
    """Draw what the network sees: skeletons, window box, crop and heatmaps."""
    with one_line_errors():
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
                det_every=det_every_of(det_every),
            ),
            keypoints=keypoints,
            keypoints_missing=keypoints_missing,
            crop=crop,
            device=device,
            decoder=decoder,
        )
        from ..progress.displays import open_progress
        from ..progress.logging_setup import logging_to
        from ..report.preview import draw_preview

        progress = open_progress()
        with logging_to(progress, verbose=False, log_file=None), progress:
            draw_preview(video, out, config, progress=progress)
        typer.echo(out)


def info(
    file: Annotated[Path, typer.Argument(show_default=False, help="Feature file.")],
    *,
    as_json: Annotated[bool, flag(None, "Print JSON instead of tables.", "--json")] = False,
) -> None:
    """Show what a feature file contains, even while a run is writing it."""
    with one_line_errors():
        from ..store.in_child import look
        from .info_table import ROWS, info_report
        from .tables import show

        contents = look("describe", file, most_rows=None if as_json else ROWS)
        if as_json:
            typer.echo(json.dumps(contents, indent=2))
        else:
            show(info_report(contents))


def verify(
    file: Annotated[Path, typer.Argument(show_default=False, help="Feature file.")],
    *,
    videos: Annotated[
        File, typer.Option(metavar="DIR", help="Also check that these videos are unchanged.")
    ] = None,
    repair: Annotated[
        bool, flag(None, "Remove damaged videos; the next run redoes only those.", "--repair")
    ] = False,
    as_json: Annotated[bool, flag(None, "Print JSON instead of a table.", "--json")] = False,
) -> None:
    """Check a feature file and list the problems of each video.

    Exits with status 1 if there are any, or if any remain after --repair.
    """
    with one_line_errors():
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
        problems = [Problem(**problem) for problem in found]
        if not problems:
            say(f"{file}: all is well")
            return
        bad = len({problem.video_id for problem in problems if problem.video_id})
        what = plural(bad, "video") if bad else "the file itself"
        say(f"{file}: something is wrong with {what}")
        show(problem_table([(p.video_id or "(file)", p.array, p.message) for p in problems]))
        if repair:
            say(
                f"dropped {plural(len(dropped), 'video')}: "
                "run the command that made the file again to do just those"
            )
        elif any(problem.droppable for problem in problems):
            say("--repair drops them, so that the next run does just those")
    raise typer.Exit(1 if left else 0)
