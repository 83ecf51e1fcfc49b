"""OpenPose's folders: ``<video>_000000000012_keypoints.json`` for every frame, from 0."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import KeypointsError
from .poses import Poses, coco_joints, flat_joints, stack

FILE_NAME = re.compile(r"(.+)_(\d{12})_keypoints\.json")

# Positions of COCO's 17 joints, from OpenPose's doc/02_output.md.
BODY_25 = [0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11]
COCO_18 = [0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10]
ORDERS = {25: BODY_25, 18: COCO_18}


def openpose_joints(people: Sequence[Any]) -> np.ndarray:
    """Flat lists of BODY_25 or COCO_18 -> (N, 17, 3) in COCO's order."""
    joints = flat_joints(people)
    order = ORDERS.get(joints.shape[1])
    return coco_joints(joints) if order is None else joints[:, order]


def openpose_poses(files: Sequence[tuple[int, Path]]) -> Poses:
    """Read the files of a video, each with its frame number."""
    numbers = sorted(number for number, _ in files)
    if numbers != list(range(len(numbers))):
        raise ValueError(
            f"{len(numbers)} files, of frames {numbers[0]} to {numbers[-1]}; expected one for "
            "every frame, from 0"
        )
    frames: list[int] = []
    persons: list[int] = []
    people: list[Any] = []
    for number, path in files:
        try:
            found = json.loads(path.read_bytes())["people"]
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise ValueError(
                f"{path.name} holds no 'people': it is cut, or not OpenPose's"
            ) from error
        for person in found:
            if person["pose_keypoints_2d"]:
                people.append(person["pose_keypoints_2d"])
                frames.append(number)
                persons.append(int(np.ravel(person.get("person_id", -1))[0]))
            elif person.get("pose_keypoints_3d"):
                raise KeypointsError("holds joints in space (3-D) and none in the picture")
    return stack(openpose_joints(people), frames, persons=persons, length=len(files))
