"""What every reader of keypoints returns, and its conversion to the pixels of the video."""

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
HIGHEST = 10.0  # above any program's scores (AlphaPose's reach 6)
MARGIN = 0.25  # of the picture, by which joints may lie outside it
LONGEST = 10_000_000  # frames; a larger frame number is an error
FARTHEST = 1e6  # pixels; a larger coordinate is an error
MALFORMED = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""What Python and numpy raise for content with an unexpected structure."""


def reason(error: Exception) -> str:
    """The message of one of ``MALFORMED``, in one line."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{text} is missing" if isinstance(error, KeyError) else text


@dataclass(frozen=True)
class Poses:
    """The people of one video, as stored in a file."""

    keypoints: np.ndarray
    """(M, T, 17, 2) of any float dtype."""
    scores: np.ndarray
    """(M, T, 17) of any float dtype, in any range."""
    size: tuple[float, float] | None = None
    """Height and width of the picture that coordinates refer to; (1, 1) for relative coordinates.
    None: not stated, so the video's, unless all coordinates are within 0..1."""
    whole: bool = True
    """Whether T is the video's length; False if trailing frames without people may be missing."""
    linked: bool = True
    """Whether a row is one person; False if each frame has its own order."""
    fps: Fraction | None = None
    """Rate of the regular frames that T counts; None: the video's own frames."""


Annotation = Callable[[], Poses]
"""Reads the people of a video; may also raise any of ``MALFORMED``."""


@dataclass(frozen=True)
class Content:
    """What a file or folder holds."""

    format: str
    annotations: dict[str, Annotation]
    """By the source's name for the video."""
    named: bool = True
    """False if the names are only file names."""


def coco_joints(rows: np.ndarray, *, also: int | None = None) -> np.ndarray:
    """(..., V, C) -> (..., 17, C), for a skeleton that starts with COCO's 17 joints.

    Raises KeypointsError for any other; ``also`` is another number of joints to accept.
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
    """Raise KeypointsError if a source names its joints differently from COCO's 17."""
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

    Joints without a score get 1. Raises KeypointsError for 3-D joints.
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
    """Whether the third number of the joints is a depth, not a score.

    A score is never below 0 and rarely above 1. If it is above 1 while x and y are small, all three
    are in metres.
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
    """Arrange ``joints`` (N, 17, 3), one per person and frame, into one row per person.

    Args:
        frames: (N,) frame of each, from 0.
        length: frames of the video, if the source states it; else up to the last with people.
        persons: (N,) identity of each; negative if unknown, which makes it a new person.

    A person keeps a row from first to last frame. A row is reused after its person has left, so
    that there are only as many rows as people at the same time.
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
    """Renumber people so that no number occurs twice in a frame; duplicates become new people."""
    _, first = np.unique(np.stack([frames, persons]), axis=1, return_index=True)
    unknown = np.ones(len(frames), bool)
    unknown[first] = False
    unknown |= persons < 0
    start = int(persons.max(initial=0)) + 1
    return np.where(unknown, start + np.arange(len(frames)), persons)


def _rows(frames: np.ndarray, persons: np.ndarray) -> np.ndarray:
    """(N,) row of each: the lowest one that is free from the person's first to last frame."""
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
    """Convert people to the pixels of their video, and mark missing joints.

    Scores are clipped to [0, 1]. A joint is missing (score 0) if its score is 0 or less, if a
    number is not finite, or if it is at (0, 0), which is how all formats write it. Joints outside
    the picture are kept, as those of a pose model are: boxes are clipped to the picture, and
    heatmaps show only what is inside.

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
    """The size that joints (N, 2) refer to if it is not stated: the video's, or (1, 1)."""
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
    """(2,) float32: factors for x and y."""
    if min(size) <= 0:
        raise KeypointsFailed(f"its keypoints are said to be of a picture of {size[1]} x {size[0]}")
    turned = (size[0] - size[1]) * (height - width) < 0
    if turned:
        raise KeypointsFailed(
            f"its keypoints are of a picture of {size[1]:.0f} x {size[0]:.0f}, but the video shows "
            f"{width} x {height}: one of them is turned by 90 degrees"
        )
    return np.array([width / size[1], height / size[0]], np.float32)
