"""Who is who: each row of keypoints is one person over time.

A pose model handles each frame on its own and lists the best person first, so people would swap
rows whenever the order of their scores changes. :class:`PersonLinker` compares the people of a
frame with the rows so far, all 17 joints at once:

1. A row that was seen within the last ``MEMORY_FRAMES`` frames is moved on by one frame at its
   last speed.
2. The distance between a row and a person is the mean distance of the joints that both have,
   divided by the person's size. The closest pairs are matched first; pairs further apart than
   ``REACH`` are different people.
3. A person without a row takes the first free one: a row that was empty for ``MEMORY_FRAMES``
   frames. So there are never more rows than different people within that time.

The rows of the last ``MEMORY_FRAMES`` frames, as stored, are all that is known of the past.
Therefore a run that resumes from a file links exactly like one that was never interrupted, and
neither the length of pieces nor the number of workers matters.
"""

from __future__ import annotations

import numpy as np

from ..config import NUM_KEYPOINTS
from ..records import PoseTrack
from .boxes import pair_off

MEMORY_FRAMES = 48  # a person who is away for this long loses the row
REACH = 0.5  # the largest distance that is still the same person, in sizes of the person;
REACH_PER_FRAME = 0.02  # plus this for each frame that they are away,
FARTHEST = 1.0  # but at most this
SPEED_FRAMES = 4  # speed is measured over this many frames
SMALLEST = 4.0  # pixels; the size of a person with hardly any joints


class PersonLinker:
    """Links one video's people, piece by piece."""

    def __init__(self) -> None:
        self._keypoints = np.zeros((0, MEMORY_FRAMES, NUM_KEYPOINTS, 2), np.float32)
        self._there = np.zeros((0, MEMORY_FRAMES, NUM_KEYPOINTS), bool)

    @classmethod
    def resume(cls, keypoints: np.ndarray, scores: np.ndarray) -> PersonLinker:
        """Continue after the stored frames: ``keypoints`` (M, T, 17, 2) float32 and ``scores``
        (M, T, 17) of the last ``MEMORY_FRAMES`` frames, or of all where there are fewer."""
        linker = cls()
        linker._remember(keypoints, scores > 0)
        return linker

    def link(self, track: PoseTrack) -> PoseTrack:
        """The people of the next frames, each in their own row; empty rows have score 0.

        ``track`` holds each frame's people in any rows, with scores as they are stored. The result
        has rows up to the highest one in use.
        """
        there = track.keypoint_scores > 0  # (P, F, 17)
        present = np.any(there, axis=-1)  # (P, F)
        frames = there.shape[1]
        ahead = ((0, 0), (0, frames), (0, 0))
        keypoints = np.pad(self._keypoints, (*ahead, (0, 0)))  # (M, L + F, 17, 2)
        seen = np.pad(self._there, ahead)
        scores = np.zeros((len(seen), frames, NUM_KEYPOINTS), np.float32)
        for frame in np.flatnonzero(present.any(0)):
            who = np.flatnonzero(present[:, frame])
            past = slice(frame, frame + MEMORY_FRAMES)
            joints, known = track.keypoints[who, frame], there[who, frame]
            rows = _choose_rows(keypoints[:, past], seen[:, past], joints, known)
            if rows.max() >= len(seen):
                keypoints, seen, scores = (
                    _with_rows(array, rows.max() + 1) for array in (keypoints, seen, scores)
                )
            keypoints[rows, past.stop], seen[rows, past.stop] = joints, known
            scores[rows, frame] = track.keypoint_scores[who, frame]
        self._remember(keypoints, seen)
        used = _rows_used(seen[:, MEMORY_FRAMES:])
        return PoseTrack(keypoints[:used, MEMORY_FRAMES:], scores[:used])

    def _remember(self, keypoints: np.ndarray, there: np.ndarray) -> None:
        """Keep the last ``MEMORY_FRAMES`` frames, and the rows up to the last one in use."""
        keypoints, there = keypoints[:, -MEMORY_FRAMES:], there[:, -MEMORY_FRAMES:]
        rows, missing = _rows_used(there), MEMORY_FRAMES - there.shape[1]
        self._keypoints = np.pad(keypoints[:rows], ((0, 0), (missing, 0), (0, 0), (0, 0)))
        self._there = np.pad(there[:rows], ((0, 0), (missing, 0), (0, 0)))


def _rows_used(there: np.ndarray) -> int:
    """Rows of (M, T, 17) up to the last that has a joint anywhere."""
    return int(np.flatnonzero(there.any((1, 2))).max(initial=-1)) + 1


def _with_rows(array: np.ndarray, rows: int) -> np.ndarray:
    """``array`` with rows of zeros added, ``rows`` in total."""
    return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


def _choose_rows(
    keypoints: np.ndarray, there: np.ndarray, people: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """The row of each person (P, 17, 2) whose joints ``known`` (P, 17) are there: (P,) int64.

    ``keypoints`` (M, L, 17, 2) and ``there`` (M, L, 17) are the rows so far.
    """
    rows = np.full(len(people), -1)
    seen = np.any(there, axis=-1)  # (M, L)
    held = np.flatnonzero(seen.any(1))
    if len(held):
        expected, joints, unseen = _expected(keypoints[held], there[held], seen[held])
        distance = _distances(expected, joints, people, known)  # (rows held, P)
        reach = np.minimum(REACH + REACH_PER_FRAME * (unseen - 1), FARTHEST)
        distance = np.where(distance <= reach[:, None], distance, np.inf)
        for row, person in pair_off(-distance, -FARTHEST):
            rows[person] = held[row]
    new = rows < 0
    if new.any():
        free: np.ndarray = np.ones(len(seen) + len(new), bool)
        free[held] = False
        rows[new] = np.flatnonzero(free)[: new.sum()]
    return rows


def _expected(
    keypoints: np.ndarray, there: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each row's person should be now: joints (M, 17, 2), which there are (M, 17), and how
    many frames ago they were last seen (M,), 1 for the frame before.

    People are moved on by one frame at most: guessing where a hidden person has gone caused more
    swaps than it prevented.
    """
    row = np.arange(len(seen))
    last = seen.shape[1] - 1 - seen[:, ::-1].argmax(1)  # (M,)
    unseen = seen.shape[1] - last
    back = np.maximum(last[:, None] - np.arange(SPEED_FRAMES, -1, -1), 0)  # (M, S + 1)
    first = back[row, seen[row[:, None], back].argmax(1)]  # earliest sight shortly before
    both = there[row, last] & there[row, first]  # (M, 17)
    moved = ((keypoints[row, last] - keypoints[row, first]) * both[..., None]).sum(1)
    speed = moved / np.maximum(both.sum(1) * (last - first), 1)[:, None]  # (M, 2) pixels per frame
    return keypoints[row, last] + speed[:, None], there[row, last], unseen


def _distances(
    rows: np.ndarray, there: np.ndarray, people: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Mean distance of the joints that a row and a person share, by the larger one's size: (M, P);
    infinite where they share none."""
    common = there[:, None] & known[None]  # (M, P, 17)
    apart = rows[:, None] - people[None]
    apart = np.hypot(apart[..., 0], apart[..., 1])  # (M, P, 17)
    count = common.sum(-1)
    size = np.maximum(_sizes(rows, there)[:, None], _sizes(people, known)[None])
    mean = (apart * common).sum(-1) / np.maximum(count, 1)
    return np.where(count > 0, mean / size, np.inf)


def _sizes(keypoints: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The longer side of the box around each person's joints, in pixels: (P,)."""
    where = there[..., None]
    low = keypoints.min(1, where=where, initial=np.inf)
    high = keypoints.max(1, where=where, initial=-np.inf)
    return np.maximum((high - low).max(1), SMALLEST)
