"""JSON files of keypoints; the program that wrote them is recognised from their content."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import KeypointsError
from . import alphapose, coco, mmpose, ultralytics, vitpose
from .poses import MALFORMED, Content, Poses, reason

ONE_VIDEO: dict[str, tuple[Callable[[Any], bool], Callable[[Any], Poses]]] = {
    "mmpose demo": (mmpose.is_demo, mmpose.demo_poses),
    "mmpose inferencer": (mmpose.is_inferencer, mmpose.inferencer_poses),
    "easy_vitpose": (vitpose.is_vitpose, vitpose.vitpose_poses),
    "alphapose": (alphapose.is_list, alphapose.list_poses),
    "alphapose by picture": (alphapose.is_by_picture, alphapose.by_picture_poses),
    "coco results": (alphapose.is_coco_results, alphapose.coco_results_poses),
    "ultralytics json": (ultralytics.is_frames, ultralytics.json_poses),
}
"""Name of a format -> a test of a file's content, and how to read its people."""


def open_json(path: Path) -> Content:
    """Parse a JSON file of one video, or COCO's of many.

    Raises KeypointsError if it is damaged or from an unknown program.
    """
    try:
        content = json.loads(path.read_bytes())
        if coco.is_coco(content):
            return Content("coco", coco.coco_videos(content, path.stem))
        for name, (matches, poses) in ONE_VIDEO.items():
            if matches(content):
                annotation = functools.partial(_same, poses(content))
                return Content(name, {path.stem: annotation}, named=False)
    except KeypointsError as error:
        raise KeypointsError(f"{path}: {error}") from error
    except OSError as error:
        raise KeypointsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MALFORMED as error:
        raise KeypointsError(f"{path}: no keypoints in JSON: {reason(error)}") from error
    if isinstance(content, dict) and "people" in content:
        raise KeypointsError(f"{path}: one frame of OpenPose's; give the folder of all frames")
    raise KeypointsError(
        f"{path}: JSON, but not of {', '.join([*ONE_VIDEO, 'coco'])}; expected one of these"
    )


def _same(people: Poses) -> Poses:
    return people
