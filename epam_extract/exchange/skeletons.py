"""Keypoints as others write them, brought to COCO's 17: one reader per format.

A reader gets the parsed content and gives a :class:`Skeleton` for each video; it raises
``ValueError``, ``KeyError`` and the like for what does not fit, which becomes one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..config import NUM_KEYPOINTS

BODY_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)
COCO_18 = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)
FIRST_17_ARE_COCO = (17, 26, 68, 133, 136)  # COCO, Halpe-26 and -68, COCO-WholeBody, Halpe-136
SIDES = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COCO_NAMES = ["nose", *(f"{side}_{joint}" for joint in SIDES for side in ("left", "right"))]
People = Mapping[int, tuple[np.ndarray, np.ndarray]]
"""Frame -> keypoints (n, 17, 2) and scores (n, 17) of its people."""


@dataclass
class Skeleton:
    """The keypoints of one video."""

    keypoints: np.ndarray
    """(M, T, 17, 2) float32, in a picture of ``size``."""
    scores: np.ndarray
    """(M, T, 17) float32."""
    size: tuple[float, float] | None = None
    """Height and width of the picture they are in; (1, 1) where they are shares, None: the
    video's own."""
    whole: bool = True
    """Whether there is an entry for every frame; else frames without people may be left out."""
    linked: bool = True
    """Whether a row is one person; else each frame has its own order."""
    label: int | str | None = None
    splits: list[str] = field(default_factory=list)


def from_people(people: People, length: int | None = None) -> Skeleton:
    """Frame by frame to arrays; without ``length`` the last frame with people ends them."""
    total = length if length is not None else max(people, default=-1) + 1
    most = max((len(points) for points, _ in people.values()), default=0)
    keypoints = np.zeros((most, total, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((most, total, NUM_KEYPOINTS), np.float32)
    for frame, (points, values) in people.items():
        keypoints[: len(points), frame] = points
        scores[: len(points), frame] = values
    return Skeleton(keypoints, scores, whole=length is not None, linked=False)


def coco(points: np.ndarray) -> np.ndarray:
    """The 17 of COCO from (..., V, 2 or 3); raises ValueError for other skeletons."""
    joints = points.shape[-2]
    if joints not in FIRST_17_ARE_COCO:
        name = "NTU's Kinect skeletons have" if joints == 25 else "these have"
        raise ValueError(f"{name} {joints} joints; expected COCO's 17, Halpe's or WholeBody's")
    return points[..., :NUM_KEYPOINTS, :]


def _split(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 17, 3) -> keypoints and scores."""
    return points[..., :2], points[..., 2]


# ------------------------------------------------------------------------------- dense formats


def pyskl(content: object) -> Iterator[tuple[str, Skeleton]]:
    """mmaction2's and PYSKL's pickles: a dict with annotations, a list of them, or one."""
    splits: Mapping[str, Iterable[str]] = {}
    if isinstance(content, Mapping) and "annotations" in content:
        splits, content = content.get("split", {}), content["annotations"]
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        raise ValueError("it holds no annotations")
    names: dict[str, list[str]] = {}
    for split, members in splits.items():
        for member in members:
            names.setdefault(str(member), []).append(str(split))
    for annotation in content:
        key = str(annotation["frame_dir"])
        if "keypoint" not in annotation:
            raise ValueError(f"{key} has no keypoints, which lie in files of their own")
        keypoints = np.asarray(annotation["keypoint"])
        if keypoints.shape[-1] == 3 and "keypoint_score" not in annotation:
            raise ValueError(f"{key} has 3-D joints; EPAM-Net takes 2-D keypoints")
        scores = np.asarray(annotation["keypoint_score"], np.float32)
        points = coco(keypoints)[..., :2].astype(np.float32)
        if points.ndim != 4 or scores.shape[:2] != points.shape[:2]:
            raise ValueError(f"{key}: keypoints {points.shape} with scores {scores.shape}")
        total = int(annotation.get("total_frames", points.shape[1]))
        if points.shape[1] != total:
            raise ValueError(f"{key}: {points.shape[1]} frames of keypoints for {total} frames")
        height, width = (float(value) for value in annotation["img_shape"])
        yield (
            key,
            Skeleton(
                points,
                scores[..., :NUM_KEYPOINTS],
                (height, width),
                label=annotation.get("label"),
                splits=names.get(key, []),
            ),
        )


def arrays(content: Mapping[str, np.ndarray], key: str) -> Iterator[tuple[str, Skeleton]]:
    """An .npz with ``keypoint(s)`` (M,T,17,2), (T,M,17,2) or (T,17,3), and scores."""
    named = {name.removesuffix("s"): array for name, array in content.items()}
    points = coco(np.asarray(named["keypoint"]))
    if points.ndim == 3:
        points = points[None]
    found = named.get("keypoint_score", named.get("score"))
    if points.shape[-1] == 3 and found is None:
        points, scores = points[..., :2], points[..., 2]
    elif found is None:
        raise ValueError("it has keypoints without scores")
    else:
        scores = np.asarray(found)[..., :NUM_KEYPOINTS].reshape(points.shape[:-1])
    total = int(named["total_frame"]) if "total_frame" in named else max(points.shape[:2])
    if points.shape[1] != total and points.shape[0] == total:
        points, scores = points.swapaxes(0, 1), scores.swapaxes(0, 1)
    size = tuple(float(v) for v in named["img_shape"]) if "img_shape" in named else None
    name = str(named["frame_dir"]) if "frame_dir" in named else key
    yield (
        name,
        Skeleton(
            points.astype(np.float32),
            scores.astype(np.float32),
            size,  # type: ignore[arg-type]
        ),
    )


# ----------------------------------------------------------------------- JSON, frame by frame


def mmpose(content: object, key: str) -> Iterator[tuple[str, Skeleton]]:
    """The inferencer's list counts frames from 0, the demo script's dict from 1."""
    first = 0
    if isinstance(content, Mapping):
        content, first = content["instance_info"], 1
    people = {}
    for entry in content:  # type: ignore[attr-defined]
        made = [
            (coco(np.array(one["keypoints"], float)), np.array(one["keypoint_scores"], float))
            for one in entry["instances"]
        ]
        people[int(entry["frame_id"]) - first] = (
            np.array([points for points, _ in made]).reshape(-1, NUM_KEYPOINTS, 2),
            np.array([scores[:NUM_KEYPOINTS] for _, scores in made]).reshape(-1, NUM_KEYPOINTS),
        )
    if people and (min(people) < 0 or max(people) != len(people) - 1):
        raise ValueError(f"frames {min(people)} to {max(people)} in {len(people)} entries")
    yield key, from_people(people, len(people))


def vitpose(content: Mapping[str, Any], key: str) -> Iterator[tuple[str, Skeleton]]:
    """easy_ViTPose: y comes first, and joints are named in ``skeleton``."""
    places = {str(name): int(number) for number, name in content["skeleton"].items()}
    order = [places[name] for name in COCO_NAMES]
    people = {}
    for frame, entry in enumerate(content["keypoints"]):
        found = [np.array(joints, float)[order] for joints in entry.values()]
        points = np.array(found).reshape(-1, NUM_KEYPOINTS, 3)
        people[frame] = (points[..., 1::-1], points[..., 2])
    yield key, from_people(people, len(people))


def ultralytics_json(content: Sequence[Any], key: str) -> Iterator[tuple[str, Skeleton]]:
    """``to_json()`` of every frame, in a list: pixels."""
    people = {}
    for frame, entry in enumerate(content):
        found = [
            np.stack([np.array(one["keypoints"][axis], float) for axis in ("x", "y", "visible")], 1)
            for one in entry
        ]
        people[frame] = _split(
            coco(np.array(found).reshape(len(found), -1, 3))
            if found
            else np.zeros((0, NUM_KEYPOINTS, 3))
        )
    yield key, from_people(people, len(people))


def rows_by_image(content: Sequence[Mapping[str, Any]], key: str) -> Iterator[tuple[str, Skeleton]]:
    """AlphaPose ("12.jpg" is frame 12) and COCO results (the image id is the frame)."""
    frames: dict[int, list[np.ndarray]] = {}
    for row in content:
        name = row["image_id"]
        frame = name if isinstance(name, int) else int(re.findall(r"\d+", Path(name).stem)[-1])
        points = np.array(row["keypoints"], float).reshape(-1, 3)
        frames.setdefault(frame, []).append(coco(points))
    yield key, from_people({frame: _split(np.array(rows)) for frame, rows in frames.items()})


# ------------------------------------------------------------------------- a file per frame


def openpose(frames: Mapping[int, Any]) -> Skeleton:
    """OpenPose's JSON per frame: BODY_25 or COCO_18, a missing joint is 0, 0, 0."""
    people = {}
    most = 0.0
    for frame, content in frames.items():
        found = []
        for person in content["people"]:
            points = np.array(person["pose_keypoints_2d"], float).reshape(-1, 3)
            orders = {25: BODY_25, 18: COCO_18}
            if len(points) not in orders:
                raise ValueError(f"{len(points)} joints; expected BODY_25 or COCO_18")
            found.append(points[list(orders[len(points)])])
        rows = np.array(found).reshape(-1, NUM_KEYPOINTS, 3)
        most = max(most, float(rows[..., :2].max(initial=0)))
        people[frame] = _split(rows)
    skeleton = from_people(people, max(people) + 1)
    skeleton.size = (1.0, 1.0) if 0 < most <= 1 else None
    return skeleton


def yolo(frames: Mapping[int, str]) -> Skeleton:
    """Ultralytics' labels: class, box, 17 x (x, y, score), then confidence and track, in shares."""
    people = {}
    for frame, text in frames.items():
        rows = [np.array(line.split(), float) for line in text.splitlines() if line.strip()]
        if any(len(row) not in (56, 57, 58) for row in rows):
            raise ValueError(f"frame {frame}: rows of {sorted({len(r) for r in rows})} columns")
        points = np.array([row[5:56] for row in rows]).reshape(-1, NUM_KEYPOINTS, 3)
        people[frame] = _split(points)
    skeleton = from_people(people)
    skeleton.size = (1.0, 1.0)
    return skeleton


JSON_READERS: dict[str, Callable[[Any, str], Iterator[tuple[str, Skeleton]]]] = {
    "mmpose": mmpose,
    "easy_vitpose": vitpose,
    "ultralytics": ultralytics_json,
    "alphapose": rows_by_image,
    "coco": rows_by_image,
}


def json_format(content: object) -> str:
    """Which format a JSON file is, by what is in it; raises ValueError for none of them."""
    if isinstance(content, Mapping):
        if "instance_info" in content:
            return "mmpose"
        if "skeleton" in content and "keypoints" in content:
            return "easy_vitpose"
    elif isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, Mapping) and "instances" in first:
            return "mmpose"
        if isinstance(first, Mapping) and "image_id" in first and "keypoints" in first:
            return "coco" if isinstance(first["image_id"], int) else "alphapose"
        if content and all(isinstance(entry, list) for entry in content):
            return "ultralytics"
    raise ValueError("this JSON is of no format that is known here")
