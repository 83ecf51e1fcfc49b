"""MMPose's predictions for a video, from its inferencer or its demo.

The inferencer writes a list of frames, counted from 0; the demo a dict with this list under
``instance_info``, counted from 1. Both list every frame of the video.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .poses import Poses, coco_joints, require_coco_names, stack, with_scores


def is_inferencer(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and isinstance(content[0], dict)
        and {"frame_id", "instances"} <= content[0].keys()
    )


def is_demo(content: Any) -> bool:
    return isinstance(content, dict) and "instance_info" in content


def inferencer_poses(content: Any) -> Poses:
    return _poses(content, 0)


def demo_poses(content: Any) -> Poses:
    names = (content.get("meta_info") or {}).get("keypoint_id2name", {})
    require_coco_names([names[number] for number in sorted(names, key=int)])
    return _poses(content["instance_info"], 1)


def _poses(frames: list[dict[str, Any]], first: int) -> Poses:
    """``first`` is the number of the first frame."""
    numbers = [int(frame["frame_id"]) for frame in frames]
    if numbers != list(range(first, first + len(frames))):
        raise ValueError(
            f"frame_id goes from {min(numbers, default=0)} to {max(numbers, default=0)} in "
            f"{len(numbers)} frames; expected each once, in order, from {first}"
        )
    rows = [
        (index, person["keypoints"], person["keypoint_scores"])
        for index, frame in enumerate(frames)
        for person in frame["instances"]
    ]
    if not rows:
        return stack(np.zeros((0, 17, 3)), [], length=len(frames))
    indices, keypoints, scores = zip(*rows, strict=True)
    joints = with_scores(coco_joints(np.array(keypoints, np.float32)), np.array(scores, np.float32))
    return stack(joints, indices, length=len(frames))
