"""YOLO-pose: Ultralytics' label files, one per frame, and its JSON.

Ultralytics treats a joint under confidence 0.5 as missing: many versions set it to (0, 0) and keep
the confidence, others keep both. Here it is missing in either case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...config import NUM_KEYPOINTS
from ...errors import KeypointsError
from .poses import Poses, coco_joints, stack

FILE_NAME = re.compile(r"(.+)_(\d+)\.txt")
SURE = 0.5
BEFORE = 5  # columns before the joints: class; centre, width and height of the box


def is_frames(content: Any) -> bool:
    """A list with one entry per frame: ``Results.to_json()``, parsed or as text.

    Or ``Results.keypoints.data.tolist()``: 17 x (x, y, confidence) per person.
    """
    return isinstance(content, list) and bool(content) and isinstance(content[0], list | str)


def json_poses(content: Any) -> Poses:
    frames: list[int] = []
    persons: list[int] = []
    people: list[Any] = []
    for index, found in enumerate(content):
        for person in json.loads(found) if isinstance(found, str) else found:
            frames.append(index)
            if isinstance(person, list):
                people.append(person)
                persons.append(-1)
                continue
            joints = person["keypoints"]
            seen = joints.get("visible", [1.0] * len(joints["x"]))
            people.append(list(zip(joints["x"], joints["y"], seen, strict=True)))
            persons.append(int(person.get("track_id", -1)))
    rows = np.array(people, np.float32) if people else np.zeros((0, NUM_KEYPOINTS, 3), np.float32)
    return stack(_sure(coco_joints(rows)), frames, persons=persons, length=len(content))


def text_poses(files: Sequence[tuple[int, Path]]) -> Poses:
    """Read the label files of a video, each with its number, from 1.

    A frame without people has no file. Some versions append when run again, so a repeated line
    counts once.
    """
    frames: list[int] = []
    lines: list[list[float]] = []
    for number, path in files:
        for line in dict.fromkeys(path.read_text("utf-8").splitlines()):
            if line.strip():
                lines.append([float(value) for value in line.split()])
                frames.append(number - 1)
    joints, persons = _columns(lines)
    return stack(joints, frames, persons=persons, size=(1.0, 1.0))


def _columns(lines: Sequence[Sequence[float]]) -> tuple[np.ndarray, list[int]]:
    """Joints (N, 17, 3), and the identity of each person, -1 if unknown.

    After the joints there may be the person's confidence, a track number, or both. A single column
    is a track number if it is whole in all lines.
    """
    counts = {len(line) for line in lines}
    numbers = next((n for n in (3, 2) if _fits(counts, n * NUM_KEYPOINTS)), None)
    if numbers is None:
        raise KeypointsError(
            f"lines of {', '.join(map(str, sorted(counts)))} columns; YOLO-pose's with COCO's 17 "
            f"joints have {BEFORE + 3 * NUM_KEYPOINTS} to {BEFORE + 3 * NUM_KEYPOINTS + 2}"
        )
    end = BEFORE + numbers * NUM_KEYPOINTS
    joints = np.ones((len(lines), NUM_KEYPOINTS, 3), np.float32)
    joints[..., :numbers] = np.array([line[BEFORE:end] for line in lines], np.float32).reshape(
        len(lines), NUM_KEYPOINTS, numbers
    )
    single = [line[end] for line in lines if len(line) == end + 1]
    tracked = all(value == int(value) for value in single)
    persons = [
        int(line[-1]) if len(line) == end + 2 or (len(line) == end + 1 and tracked) else -1
        for line in lines
    ]
    return _sure(joints), persons


def _fits(counts: set[int], columns: int) -> bool:
    return all(BEFORE + columns <= count <= BEFORE + columns + 2 for count in counts)


def _sure(joints: np.ndarray) -> np.ndarray:
    joints[..., 2][joints[..., 2] < SURE] = 0
    return joints
