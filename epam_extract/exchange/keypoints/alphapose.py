"""AlphaPose's results and COCO's, which differ in how they refer to a picture.

Both are lists of people with ``keypoints`` x, y, score, x, ... AlphaPose refers to a picture by its
file name, ``12.jpg`` in a video, from 0; COCO by a number, here that of the frame.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from .openpose import openpose_joints
from .poses import Poses, coco_joints, flat_joints, stack

HALPE_68 = 68  # a skeleton that only AlphaPose has; its first 17 joints are COCO's


def is_list(content: Any) -> bool:
    """AlphaPose's list; it is empty for a video without people."""
    return isinstance(content, list) and (
        not content or (isinstance(content[0], dict) and isinstance(_picture(content[0]), str))
    )


def is_coco_results(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and isinstance(content[0], dict)
        and isinstance(_picture(content[0]), int)
    )


def is_by_picture(content: Any) -> bool:
    """PoseFlow's list of people per picture, or the ``--format open`` and ``cmu`` of AlphaPose."""
    first = next(iter(content.values()), None) if isinstance(content, dict) else None
    if isinstance(first, dict):
        return bool({"people", "bodies"} & first.keys())
    return isinstance(first, list) and all(isinstance(p, dict) and "keypoints" in p for p in first)


def _picture(person: dict[str, Any]) -> object:
    return person.get("image_id") if "keypoints" in person else None


def list_poses(content: Any) -> Poses:
    people = [person["keypoints"] for person in content]
    joints = coco_joints(flat_joints(people), also=HALPE_68)
    persons = [_person(person) for person in content]
    frames = frame_numbers([person["image_id"] for person in content])
    return stack(joints, frames, persons=persons)


def coco_results_poses(content: Any) -> Poses:
    """The id of a picture is the number of the frame, from 0."""
    joints = coco_joints(flat_joints([person["keypoints"] for person in content]))
    return stack(joints, [person["image_id"] for person in content])


def by_picture_poses(content: Any) -> Poses:
    pictures: list[str] = []
    people: list[Any] = []
    persons: list[int] = []
    openpose = isinstance(next(iter(content.values())), dict)
    for picture, found in content.items():
        if openpose:
            here = [p["pose_keypoints_2d"] for p in found.get("people", ())]
            here += [p["joints"] for p in found.get("bodies", ())]
            persons += [-1] * len(here)
        else:
            here = [person["keypoints"] for person in found]
            persons += [_person(person) for person in found]
        people += here
        pictures += [picture] * len(here)
    if openpose:
        joints = openpose_joints(people)
    else:
        joints = coco_joints(flat_joints(people), also=HALPE_68)
    return stack(joints, frame_numbers(pictures), persons=persons)


def frame_numbers(pictures: list[str]) -> np.ndarray:
    """Names of pictures -> indices of frames.

    ``12.jpg`` is how AlphaPose names the frames of a video, from 0. Names with zeros or words in
    front, ``img_00012.jpg``, are pictures of a folder, from 1 unless there is a 0.
    """
    stems = [PurePosixPath(picture).stem for picture in pictures]
    found = [re.search(r"(\d+)$", stem) for stem in stems]
    unnumbered = next((p for p, number in zip(pictures, found, strict=True) if not number), None)
    if unnumbered is not None:
        raise ValueError(f"the picture {unnumbered!r} has no number, so its frame is not known")
    numbers = np.array([int(number[1]) for number in found if number], np.int64)
    plain = all(str(n) == stem for n, stem in zip(numbers, stems, strict=True))
    return numbers if plain or (numbers == 0).any() else numbers - 1


def _person(person: dict[str, Any]) -> int:
    """A person's number from a tracker, -1 without one; it may be in nested lists."""
    given = np.ravel(person.get("idx", -1))
    return int(given[0]) if given.size == 1 else -1
