"""``epam-extract preview``: draw what the network sees of one video.

``scene`` finds the people, ``picture`` draws the PNG, ``film`` the video; ``timeline``,
``skeletons`` and ``drawing`` are shared.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import torch

from ...config import ExtractConfig
from ...errors import ConfigError, KeypointsFailed
from ...exchange.keypoints import VideoKeypoints, open_keypoints
from ...pipeline.device import pick_device
from ...pose import open_pose_model
from ...progress import SILENT, Progress
from ...records import Video
from ...video import probe
from ...video.encode import encode_video
from .film import draw_film
from .picture import draw_sheet, save_png
from .scene import build_scene, in_words

__all__ = ["draw_preview"]

KINDS = (".png", ".mp4")
SLOWEST = Fraction(1)  # frames per second of the film if the video has no rate


def draw_preview(
    video: Path, out: Path, config: ExtractConfig, *, progress: Progress = SILENT
) -> None:
    """Draw skeletons, window boxes, crops and heatmaps of ``video`` on a time line.

    A ``.png`` shows a few windows spread over the video, an ``.mp4`` every frame. An existing file
    is replaced once the new one is complete. Only ``windows``, ``pose``, ``keypoints``, ``crop``,
    ``decoder`` and ``device`` of ``config`` are used.

    Raises:
        ConfigError: ``out`` has another suffix, cannot be written, or is the video itself.
        ProbeError, DecodeError: the video cannot be read.
        PoseModelError: the pose models cannot be loaded.
        KeypointsError, KeypointsFailed: the given keypoints cannot be read or do not fit the video.
    """
    video, out = Path(video), Path(out)
    check_out(video, out)
    found = probe(video, video.stem, decoder=config.decoder)
    keypoints = keypoints_of(found, config, progress)
    if keypoints is not None and config.keypoints is not None:
        scene = build_scene(found, keypoints, config, models=config.keypoints.name)
    else:
        device = str(pick_device(config.device))
        pose = open_pose_model(config.pose, device=device, threads=1, on_download=progress.download)
        if pose.announcement:
            progress.message(pose.announcement)
        progress.message(f"{video}: finding people in {found.num_frames} frames")
        scene = build_scene(found, pose, config, models=in_words(pose))
    progress.message(f"{out}: drawing")
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.part")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one frame's heatmaps at a time are too small to share
    try:
        if out.suffix.lower() == ".png":
            save_png(unfinished, draw_sheet(scene))
        else:
            encode_video(unfinished, draw_film(scene), fps=found.fps or SLOWEST)
        unfinished.replace(out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        torch.set_num_threads(threads)
        unfinished.unlink(missing_ok=True)


def keypoints_of(video: Video, config: ExtractConfig, progress: Progress) -> VideoKeypoints | None:
    """The keypoints that a run would use, from ``config.keypoints``; None to estimate them.

    Raises:
        KeypointsError: the file cannot be read.
        KeypointsFailed: it has none for this video, or they do not fit it.
    """
    if config.keypoints is None:
        return None
    source = open_keypoints(config.keypoints)
    matches = source.match([video.id])
    progress.message(matches.report())
    if video.id in matches.reasons:
        if config.keypoints_missing == "estimate":
            return None
        raise KeypointsFailed(
            f"{matches.reasons[video.id]}; --keypoints-missing estimate estimates them"
        )
    keypoints = source.open(matches.found[video.id], height=video.height, width=video.width)
    keypoints.require_line(None)
    keypoints.require(video.num_frames)
    return keypoints


def check_out(video: Path, out: Path) -> None:
    """Raise :class:`ConfigError` unless a preview of ``video`` can be written to ``out``."""
    if out.suffix.lower() not in KINDS:
        raise ConfigError(
            f"--out {out}: expected a name ending in .png for a picture or .mp4 for a video"
        )
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a directory; expected the name of a file")
    if out.exists() and video.exists() and out.samefile(video):
        raise ConfigError(f"--out {out}: is the video itself; choose another name")
    if not os.access(out.parent, os.W_OK):
        raise ConfigError(f"--out {out}: the folder {out.parent} cannot be written to")
