"""The commands that look into a file: ``preview``, ``info`` and ``verify``."""

from __future__ import annotations

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
    FrameInterval,
    Grid,
    KeypointScore,
    MaxPersons,
    Pose,
    PoseModel,
    Stride,
    one_line_errors,
    refuse_contradictions,
)


def preview(
    context: typer.Context,
    video: Annotated[Path, typer.Argument(show_default=False, help="The video.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Picture (.png) or video (.mp4) to make.")
    ],
    demo: Demo = False,
    pose: Pose = PoseConfig.mode,
    det_model: DetModel = None,
    pose_model: PoseModel = None,
    det_score: DetScore = PoseConfig.det_score,
    keypoint_score: KeypointScore = PoseConfig.keypoint_score,
    max_persons: MaxPersons = PoseConfig.max_persons,
    det_every: DetEvery = PoseConfig.det_every,
    grid: Grid = WindowConfig.grid,
    stride: Stride = WindowConfig.stride,
    frame_interval: FrameInterval = WindowConfig.frame_interval,
    crop: Crop = ExtractConfig.crop,
    device: Device = ExtractConfig.device,
    decoder: Decoder = ExtractConfig.decoder,
) -> None:
    """Draw what the network sees of a video: skeletons, window box, crop and heatmaps."""
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
                det_every=det_every,
            ),
            crop=crop,
            device=device,
            decoder=decoder,
        )
        from ..displays import logging_to, open_progress
        from ..preview import draw_preview

        with open_progress() as progress, logging_to(progress, verbose=False, log_file=None):
            draw_preview(video, out, config, progress=progress)
        typer.echo(out)
