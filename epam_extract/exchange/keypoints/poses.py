"""What every reader of keypoints returns, and how it gets into the pixels of the video."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ...config import NUM_KEYPOINTS
from ...errors import KeypointsError, KeypointsFailed
from ...records import PoseTrack

COCO_NAMES = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist"),
    *("right_wrist", "left_hip", "right_hip", "left_knee", "right_knee"),
    *("left_ankle", "right_ankle"),
)
COCO_FIRST = (17, 26, 133, 136)
"""Joints of the skeletons whose first 17 are COCO's: itself, Halpe-26, WholeBody, Halpe-136."""
OTHER_SKELETONS = {
    14: "CrowdPose's",
    15: "OpenPose's MPI",
    16: "MPII's",
    18: "OpenPose's COCO_18",
    20: "Kinect v1's",
    21: "a hand's",
    25: "NTU RGB+D's from Kinect, or OpenPose's BODY_25",
    32: "Human3.6M's",
    33: "MediaPipe's",
}
HIGHEST = 10.0  # no program's score is above it (AlphaPose's reach 6)
MARGIN = 0.25  # of the picture, that joints may be outside of it by
LONGEST = 10_000_000  # frames; a number of a frame beyond it has gone wrong
FARTHEST = 1e6  # pixels; a joint beyond it is a number gone wrong
MALFORMED = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""What content of another shape than expected makes Python and numpy raise."""


def reason(error: Exception) -> str:
    """What one of ``MALFORMED`` says, in a line."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{text} is missing" if isinstance(error, KeyError) else text


@dataclass(frozen=True)
class Poses:
    """The people of one video, as a file has them."""

    keypoints: np.ndarray
    """(M, T, 17, 2) of any float dtype."""
    scores: np.ndarray
    """(M, T, 17) of any float dtype, in any range."""
    size: tuple[float, float] | None = None
    """Height and width of the picture the coordinates are in; (1, 1) for shares of it. None: not
    stated, so the video's, unless all coordinates lie within 0..1."""
    whole: bool = True
    """Whether T is the video's length; False where frames without people may be left out."""
    linked: bool = True
    """Whether a row is one person; False where each frame has its own order."""
    fps: Fraction | None = None
    """Of the regular time line that T counts; None: the video's own frames."""


Annotation = Callable[[], Poses]
"""Reads the people of a video; raises what ``MALFORMED`` lists, too."""


@dataclass(frozen=True)
class Content:
    """What a file or folder holds."""

    format: str
    annotations: dict[str, Annotation]
    """By the name that the source has for the video."""
    named: bool = True
    """False where the names are only those of the files."""


def coco_joints(rows: np.ndarray, *, also: int | None = None) -> np.ndarray:
    """(..., V, C) -> (..., 17, C), for a skeleton that starts with COCO's 17 joints.

    Raises KeypointsError naming any other; ``also`` is one more number of joints to accept.
    """
    joints = rows.shape[-2]
    if joints not in COCO_FIRST and joints != also:
        whose = OTHER_SKELETONS.get(joints, "not known here")
        raise KeypointsError(
            f"holds skeletons of {joints} joints ({whose}); EPAM-Net's have COCO's 17. Halpe-26 "
            "and COCO-WholeBody-133 start with these and can be used"
        )
    return rows[..., :NUM_KEYPOINTS, :]


def require_coco_names(names: Sequence[object]) -> None:
    """Raise KeypointsError where a source names its joints, and not like COCO's first 17."""
    plain = [str(name).lower().replace(" ", "_") for name in names[:NUM_KEYPOINTS]]
    other = next((n for n, ours in zip(plain, COCO_NAMES, strict=False) if n != ours), None)
    if other is not None:
        place = plain.index(other)
        raise KeypointsError(
            f"holds another skeleton: its joint {place} is {other!r}, COCO's is "
            f"{COCO_NAMES[place]!r}"
        )


def with_scores(keypoints: np.ndarray, scores: Any) -> np.ndarray:
    """(..., 17, 2) with scores (..., V), or (..., 17, 3) without -> (..., 17, 3).

    Joints without any score have 1. Raises KeypointsError for joints in space.
    """
    numbers = keypoints.shape[-1]
    third = keypoints[..., 2] if numbers == 3 else None
    if numbers not in (2, 3) or (third is not None and (scores is not None or _deep(keypoints))):
        raise KeypointsError("holds joints in space (3-D); EPAM-Net's are x and y in the picture")
    if third is not None:
        return keypoints
    if scores is None:
        return np.concatenate([keypoints, np.ones_like(keypoints[..., :1])], -1)
    given = np.asarray(scores)
    if given.shape[:-1] != keypoints.shape[:-2] or given.shape[-1] < NUM_KEYPOINTS:
        raise ValueError(f"keypoints {keypoints.shape} with scores {given.shape}")
    return np.concatenate([keypoints, given[..., :NUM_KEYPOINTS, None]], -1)


def _deep(joints: np.ndarray) -> bool:
    """Whether the last of x, y and another number is no score.

    A score is never below 0 and mostly at most 1; one somewhat above still is none of metres,
    which all three would be in.
    """
    largest = [np.nanmax(joints[..., axis], initial=0) for axis in range(3)]
    below = np.nanmin(joints[..., 2], initial=0) < 0
    return bool(below or largest[2] > HIGHEST or (largest[2] > 1 and max(largest[:2]) < HIGHEST))


def flat_joints(people: Sequence[Any]) -> np.ndarray:
    """Lists of x, y, score, x, y, score, ... -> (N, V, 3) float32."""
    lengths = sorted({len(person) for person in people})
    if len(lengths) > 1 or (lengths and lengths[0] % 3):
        raise ValueError(f"people of {' and '.join(map(str, lengths))} numbers, expected 3 a joint")
    if not lengths:
        return np.zeros((0, NUM_KEYPOINTS, 3), np.float32)
    return np.array(people, np.float32).reshape(len(people), -1, 3)


def stack(
    joints: np.ndarray,
    frames: Sequence[int] | np.ndarray,
    *,
    length: int | None = None,
    persons: Sequence[int] | None = None,
    size: tuple[float, float] | None = None,
) -> Poses:
    """Put one row per person and frame, ``joints`` (N, 17, 3), into rows of people.

    Args:
        frames: (N,) of each row, from 0.
        length: frames of the video, where the source says it; else up to the last with people.
        persons: (N,) who it is; negative where nobody knows, and then it is somebody new.

    A person keeps a row from first to last frame; a row whose person has left for good is
    given to the next, so that there are as many rows as there are people at a time.
    """
    index = np.array(frames, np.int64)
    stop = int(index.max(initial=-1)) + 1
    if index.min(initial=0) < 0 or stop > (LONGEST if length is None else length):
        within = f"{length} frames" if length is not None else "what a video can have"
        raise ValueError(f"people in frames {index.min()} to {stop - 1}, outside of {within}")
    who = np.full(len(index), -1, np.int64) if persons is None else np.array(persons, np.int64)
    rows = _rows(index, _distinct(index, who))
    people = int(rows.max(initial=-1)) + 1
    frame_count = stop if length is None else length
    dense = np.zeros((people, frame_count, NUM_KEYPOINTS, 3), np.float32)
    dense[rows, index] = joints
    whole, linked = length is not None, bool((who >= 0).all())
    return Poses(dense[..., :2], dense[..., 2], size, whole=whole, linked=linked)


def _distinct(frames: np.ndarray, persons: np.ndarray) -> np.ndarray:
    """Number people so that nobody is twice in a frame: a second one there is somebody new."""
    _, first = np.unique(np.stack([frames, persons]), axis=1, return_index=True)
    unknown = np.ones(len(frames), bool)
    unknown[first] = False
    unknown |= persons < 0
    start = int(persons.max(initial=0)) + 1
    return np.where(unknown, start + np.arange(len(frames)), persons)


def _rows(frames: np.ndarray, persons: np.ndarray) -> np.ndarray:
    """(N,) row of each: the lowest that is free from the person's first frame to the last."""
    ids, who = np.unique(persons, return_inverse=True)
    first = np.full(len(ids), np.iinfo(np.int64).max)
    last = np.full(len(ids), -1, np.int64)
    np.minimum.at(first, who, frames)
    np.maximum.at(last, who, frames)
    rows = np.zeros(len(ids), np.int64)
    free: list[int] = []
    taken: list[tuple[int, int]] = []  # until which frame, which row
    for person in np.argsort(first, kind="stable"):
        while taken and taken[0][0] < first[person]:
            heapq.heappush(free, heapq.heappop(taken)[1])
        rows[person] = heapq.heappop(free) if free else len(taken)
        heapq.heappush(taken, (int(last[person]), int(rows[person])))
    return rows[who]


def to_track(poses: Poses, *, height: int, width: int) -> PoseTrack:
    """Bring people into the pixels of their video, and mark what is missing.

    Scores are clipped to [0, 1]. A joint is missing, which is score 0, where its score is 0 or
    less, where any number is not finite, and at (0, 0), which is how all formats write it. Joints
    outside the picture are kept, as a pose model's own are: they widen no crop, for boxes are cut
    to the picture, and draw only what of them is inside.

    Raises:
        KeypointsFailed: the picture is turned by 90 degrees, or its size is not stated and most
            joints are far outside of it.
    """
    keypoints = np.array(poses.keypoints, np.float32)
    scores = np.array(poses.scores, np.float32)
    there = np.isfinite(keypoints).all(-1) & np.isfinite(scores) & (scores > 0)
    there &= (np.abs(keypoints) < FARTHEST).all(-1) & (keypoints != 0).any(-1)
    size = poses.size or _guessed_size(keypoints[there], height, width)
    if size != (height, width):
        keypoints *= _scale(size, height, width)
    return PoseTrack(
        np.where(there[..., None], keypoints, 0), np.where(there, np.minimum(scores, 1), 0)
    )


def _guessed_size(known: np.ndarray, height: int, width: int) -> tuple[float, float]:
    """The picture that joints (N, 2) are in where nobody says it: the video's, or (1, 1)."""
    if not len(known):
        return height, width
    if (np.abs(known) <= 1).all():
        return 1.0, 1.0
    picture = np.array([width, height])
    near = (known >= -MARGIN * picture).all(-1) & (known <= (1 + MARGIN) * picture).all(-1)
    if near.mean() < 0.5:
        (left, top), (right, bottom) = known.min(0), known.max(0)
        raise KeypointsFailed(
            f"most of its keypoints lie outside the picture of {width} x {height}: x from "
            f"{left:.0f} to {right:.0f}, y from {top:.0f} to {bottom:.0f}; expected pixels of this "
            "picture, or shares of it from 0 to 1"
        )
    return height, width


def _scale(size: tuple[float, float], height: int, width: int) -> np.ndarray:
    """(2,) float32: what x and y are multiplied with."""
    if min(size) <= 0:
        raise KeypointsFailed(f"its keypoints are said to be of a picture of {size[1]} x {size[0]}")
    turned = (size[0] - size[1]) * (height - width) < 0
    if turned:
        raise KeypointsFailed(
            f"its keypoints are of a picture of {size[1]:.0f} x {size[0]:.0f}, but the video shows "
            f"{width} x {height}: one of them is turned by 90 degrees"
        )
    return np.array([width / size[1], height / size[0]], np.float32)
