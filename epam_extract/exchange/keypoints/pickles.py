"""Skeletons of mmaction2 and PYSKL, such as ``ntu60_2d.pkl``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import KeypointsError
from ..unpickle import load_pickle
from .poses import MALFORMED, Content, Poses, coco_joints, reason, stack, with_scores

EXPECTED = (
    "expected mmaction2's or PYSKL's skeletons: {'split': ..., 'annotations': [...]}, the list "
    "alone, or one annotation with 'frame_dir' and 'keypoint'"
)


def open_pickle(path: Path) -> Content:
    """Read a pickle; its annotations are converted when their video is opened.

    Raises KeypointsError for anything else, or if the first skeleton is not COCO's.
    """
    loaded = load_pickle(path)
    try:
        entries, named = _entries(loaded, path)
        by_name: dict[str, Mapping[str, Any]] = {}
        for entry in entries:
            if entry["frame_dir"] in by_name:
                raise ValueError(f"two annotations are called {entry['frame_dir']!r}")
            by_name[str(entry["frame_dir"])] = entry
        if by_name:
            _joints(next(iter(by_name.values())))
    except KeypointsError as error:
        raise KeypointsError(f"{path}: {error}") from error
    except MALFORMED as error:
        raise KeypointsError(f"{path}: {reason(error)}; {EXPECTED}") from error
    annotations = {name: functools.partial(_poses, entry) for name, entry in by_name.items()}
    return Content("pyskl", dict(annotations), named)


def _entries(loaded: Any, path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The annotations, and whether they are named."""
    if isinstance(loaded, dict) and "annotations" in loaded:
        return list(loaded["annotations"]), True
    if isinstance(loaded, dict) and "keypoint" in loaded:
        named = "frame_dir" in loaded
        return [{"frame_dir": path.stem, **loaded}], named
    if isinstance(loaded, list):
        return loaded, True
    raise ValueError(f"holds a {type(loaded).__name__}")


def _joints(entry: Mapping[str, Any]) -> np.ndarray:
    """(..., 17, 3) of an annotation: x, y and score."""
    if "keypoint" not in entry:
        raise KeypointsError(
            f"the annotation {entry['frame_dir']!r} has no 'keypoint'; those of Kinetics lie in "
            "files of their own and must be joined with their list first"
        )
    keypoints = np.asarray(entry["keypoint"])
    if keypoints.ndim not in (3, 4) or keypoints.dtype.kind not in "fiu":
        raise ValueError(f"'keypoint' is {keypoints.shape} {keypoints.dtype}")
    return with_scores(coco_joints(keypoints), entry.get("keypoint_score"))


def picture_size(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    """Height and width that an annotation states."""
    stated = next((entry[k] for k in ("img_shape", "original_shape") if k in entry), None)
    return None if stated is None else (float(stated[0]), float(stated[1]))


def _poses(entry: Mapping[str, Any]) -> Poses:
    joints = _joints(entry)
    if joints.ndim == 4:
        return Poses(joints[..., :2], joints[..., 2], picture_size(entry))
    if "frame_inds" not in entry:
        raise ValueError(f"'keypoint' is {np.shape(entry['keypoint'])}, expected (M, T, 17, 2)")
    # A row per person and frame, as for Kinetics. Some count frames from 1: the last one shows.
    frames = np.asarray(entry["frame_inds"], np.int64)
    length = int(entry["total_frames"]) if "total_frames" in entry else None
    from_one = int(length is not None and frames.min(initial=1) > 0 and length in frames)
    return stack(joints, frames - from_one, length=length, size=picture_size(entry))
