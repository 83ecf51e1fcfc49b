"""``.npz`` files of keypoints and scores, written by the user's own code."""

from __future__ import annotations

import functools
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ...errors import KeypointsError
from .pickles import picture_size
from .poses import MALFORMED, Content, Poses, coco_joints, reason, with_scores

KEYPOINTS = ("keypoint", "keypoints")
SCORES = ("keypoint_score", "keypoint_scores", "scores", "score")
EXPECTED = (
    "expected an .npz with 'keypoints' (M, T, 17, 2) or (T, M, 17, 2) and 'scores' of the same "
    "shape without the last axis, or one person's (T, 17, 3)"
)


def open_npz(path: Path) -> Content:
    """Open an .npz of one video. Its name is ``frame_dir``, else that of the file.

    Whether people or frames come first follows from ``total_frames``; without it the longer axis is
    that of frames.

    Raises KeypointsError for anything else.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if not set(KEYPOINTS) & set(file.files):
                raise ValueError(f"holds {', '.join(file.files) or 'nothing'}")
            named = "frame_dir" in file.files
            name = str(file["frame_dir"]) if named else path.stem
    except OSError as error:
        raise KeypointsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (*MALFORMED, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise KeypointsError(f"{path}: {reason(error)}; {EXPECTED}") from error
    return Content("npz", {name: functools.partial(_poses, path)}, named=named)


def _poses(path: Path) -> Poses:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files if name in (*KEYPOINTS, *SCORES)}
            shapes = ("img_shape", "original_shape")
            size = picture_size({name: file[name] for name in shapes if name in file.files})
            total = int(file["total_frames"]) if "total_frames" in file.files else None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{error}; {EXPECTED}") from error
    keypoints = next(held[name] for name in KEYPOINTS if name in held)
    scores = next((held[name] for name in SCORES if name in held), None)
    if keypoints.ndim == 3:  # one person
        keypoints, scores = (
            keypoints[None],
            None if scores is None else scores.reshape(1, len(keypoints), -1),
        )
    if keypoints.ndim != 4:
        raise ValueError(f"keypoints are {keypoints.shape}; {EXPECTED}")
    joints = with_scores(coco_joints(keypoints), scores)
    people, frames = joints.shape[:2]
    if frames != total and (people == total or (total is None and people > frames)):
        joints = joints.swapaxes(0, 1)  # they were (T, M)
    return Poses(joints[..., :2], joints[..., 2], size)
