"""easy_ViTPose's ``<video>_result.json``: per frame, a dict of people; y comes before x."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import KeypointsError
from .poses import COCO_NAMES, Poses, stack


def is_vitpose(content: Any) -> bool:
    return isinstance(content, dict) and {"keypoints", "skeleton"} <= content.keys()


def vitpose_poses(content: Any) -> Poses:
    place = {name: int(number) for number, name in content["skeleton"].items()}
    lacking = [name for name in COCO_NAMES if name not in place]
    if lacking:
        raise KeypointsError(
            f"its skeleton of {len(place)} joints has no {', '.join(lacking[:3])}; EPAM-Net's "
            "have COCO's 17"
        )
    frames = content["keypoints"]
    rows = [
        (index, int(person), joints)
        for index, people in enumerate(frames)
        for person, joints in people.items()
    ]
    joints = np.array([row[2] for row in rows], np.float32).reshape(len(rows), len(place), 3)
    order = [place[name] for name in COCO_NAMES]
    return stack(
        joints[:, order][..., [1, 0, 2]],
        [row[0] for row in rows],
        persons=[row[1] for row in rows],
        length=len(frames),
    )
