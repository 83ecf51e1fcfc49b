"""People's boxes, and those of frames between two detections (``--det-every``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

SAME_PERSON_IOU = 0.1  # the smallest overlap of one person's boxes a few frames apart

# How far a box's edge may be from where a straight line has it, as a share of the box's longer
# side. Between detections more than CLOSE frames apart a small error is worth another detection;
# nearer, only one that the padding of a crop does not absorb. Measured on 1080p and 288p videos:
# keypoints within 1 px (median) of detection on every frame, at no more than a third of its calls.
SMALL_MOVE, LARGE_MOVE = 0.02, 0.16
CLOSE = 8  # frames
CLOSEST = 3  # frames; detections that are nearer to each other gain little


@dataclass(frozen=True)
class Boxes:
    """People found in one frame, best first."""

    boxes: np.ndarray
    """(P, 4) x1, y1, x2, y2 in pixels of the frame; float32 or float64 as rtmlib has it."""
    scores: np.ndarray
    """(P,)"""


def fill_where_needed(
    detect: Callable[[Sequence[int]], Sequence[Boxes]], num_frames: int
) -> list[Boxes]:
    """Boxes of every frame, detecting only where a straight line would be wrong.

    The first and the last frame come first, then the one in the middle. If people there are not
    where the line between the two detections has them (they moved differently, came or left, or
    the scene changed), both halves are treated in the same way.

    Args:
        detect: finds people on the frames with the given numbers.
        num_frames: how many frames there are, at least one.
    """
    outer = sorted({0, num_frames - 1})
    found = dict(zip(outer, detect(outer), strict=True))
    spans = [(0, num_frames - 1)]
    while spans := [(start, stop) for start, stop in spans if stop - start >= CLOSEST]:
        middles = [(start + stop) // 2 for start, stop in spans]
        halves = []
        for (start, stop), middle, boxes in zip(spans, middles, detect(middles), strict=True):
            part = (middle - start) / (stop - start)
            ends = found[start], found[stop]
            pairs = match(ends[0].boxes, ends[1].boxes)
            same = len(pairs) == len(ends[0].scores) == len(ends[1].scores)
            move = LARGE_MOVE if stop - start <= CLOSE else SMALL_MOVE
            if not (same and _agree(_between(*ends, pairs, part), boxes, move)):
                halves += [(start, middle), (middle, stop)]
            found[middle] = boxes
        spans = halves
    return fill_between(found, num_frames)


def _agree(expected: Boxes, boxes: Boxes, move: float) -> bool:
    """Whether all people, and no others, are where they were expected.

    ``move`` is how far an edge may be from there, as a share of the box's longer side.
    """
    pairs = match(expected.boxes, boxes.boxes)
    if not len(pairs) == len(expected.scores) == len(boxes.scores):
        return False
    first, second = (expected.boxes[[p for p, _ in pairs]], boxes.boxes[[q for _, q in pairs]])
    sides = (second[:, 2:] - second[:, :2]).max(1)
    return bool((np.abs(first - second).max(1) <= move * sides).all())


def fill_between(found: dict[int, Boxes], num_frames: int) -> list[Boxes]:
    """Boxes of every frame from those of some frames, including the first and the last.

    Boxes of two neighbouring detections that overlap most belong to one person and move on a
    straight line; a person who is only in one of them stays for the half next to it.

    Raises:
        ValueError: the first or the last frame is missing.
    """
    filled = [found[0]]
    for start, stop in itertools.pairwise(sorted(found)):
        if stop - start > 1:
            pairs = match(found[start].boxes, found[stop].boxes)
            for frame in range(start + 1, stop):
                part = (frame - start) / (stop - start)
                filled.append(_between(found[start], found[stop], pairs, part))
        filled.append(found[stop])
    if len(filled) != num_frames:
        raise ValueError(f"found: expected frames 0 and {num_frames - 1}, got {sorted(found)}")
    return filled


def match(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Pair boxes (P, 4) and (Q, 4), largest intersection over union first."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)  # (P, Q)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (first, second)]
    overlap = common / np.maximum(area[0][:, None] + area[1][None] - common, 1e-9)
    return pair_off(overlap, SAME_PERSON_IOU)


def pair_off(similarity: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Pair rows and columns of ``similarity`` (P, Q), the most similar first; none below ``least``.

    Ties are resolved by row, then by column.
    """
    pairs: list[tuple[int, int]] = []
    rows, columns = set(range(similarity.shape[0])), set(range(similarity.shape[1]))
    for index in np.argsort(-similarity, axis=None, kind="stable"):
        row, column = divmod(int(index), similarity.shape[1])
        if similarity[row, column] < least:
            break
        if row in rows and column in columns:
            pairs.append((row, column))
            rows.remove(row)
            columns.remove(column)
    return pairs


def _between(first: Boxes, second: Boxes, pairs: list[tuple[int, int]], part: float) -> Boxes:
    """Boxes at ``part`` (0 to 1) of the way from ``first`` to ``second``, best first."""
    a, b = [row for row, _ in pairs], [column for _, column in pairs]
    boxes = (1 - part) * first.boxes[a] + part * second.boxes[b]
    scores = (1 - part) * first.scores[a] + part * second.scores[b]
    near, taken = (first, a) if part <= 0.5 else (second, b)
    alone = [index for index in range(len(near.scores)) if index not in taken]
    boxes = np.concatenate([boxes, near.boxes[alone]])
    scores = np.concatenate([scores, near.scores[alone]])
    order = np.argsort(-scores, kind="stable")
    return Boxes(boxes[order], scores[order])
