"""What the page shows of one video: frames, crops with attention, self-similarity."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..clips import Box
from ..config import RGB_FRAMES, RGB_SIZE, RGB_STEP
from ..errors import VideoError
from ..store import StoredVideo
from ..video import OpenView
from ..windows import rows_to_show
from .drawing import (
    SIDE,
    area_path,
    attention_picture,
    bone_paths,
    jpeg,
    self_similarity,
    similarity_picture,
)
from .summary import VideoSummary

MOMENTS = 12  # pictures along a video
CROPS = 4  # windows whose crop is shown
PICTURE_PIXELS = 128  # the longer side of a picture, and a side of a crop
STRIP_HEIGHT = 40.0
STEPS = 400  # most steps of a strip, 1.5 pixels each on a wide screen
MIDDLE = RGB_FRAMES // 2  # the RGB frame at a window's centre

Paths = list[tuple[str, str]]


@dataclass
class Moment:
    """A frame and its skeletons."""

    frame: int
    seconds: float
    bones: Paths
    picture: str | None = None
    """``data:`` URL; None without the video."""


@dataclass
class Crop:
    """What the network saw of one window, at its centre."""

    row: int
    frame: int
    seconds: float
    box: Box
    person: float
    bones: Paths
    """In pixels of the crop, 224 x 224."""
    attention: str | None
    """``data:`` URL of the map; None if the file has none."""
    low: float
    """Attention at which the overlay is transparent, and opaque: the range over the crops."""
    high: float
    when: str | None
    """Mean attention per RGB frame, as an SVG path of 160 x 20."""
    picture: str | None = None


@dataclass
class Details:
    """Everything in a video's block except its summary."""

    person: str
    """SVG path of 1000 x 40: share of frames with a person over time."""
    valid: str
    similarity: str | None
    """``data:`` URL; None without pooled features or with a single window."""
    moments: list[Moment]
    crops: list[Crop]
    notes: list[str] = field(default_factory=list)
    """What could not be shown, and why."""


def describe_video(video: StoredVideo, summary: VideoSummary, pooled: Sequence[str]) -> Details:
    """Everything about a video that the feature file itself can show."""
    edges = _edges(summary)
    places = np.linspace(0, summary.windows, min(STEPS, summary.windows) + 1).round().astype(int)
    return Details(
        person=_strip(summary.person, edges, places),
        valid=_strip(summary.valid, edges, places),
        similarity=_similarity(video, summary, pooled),
        moments=_moments(video, summary),
        crops=_crops(video, summary),
    )


def add_pictures(
    details: Details,
    summary: VideoSummary,
    path: Path,
    *,
    fps: Fraction | None = None,
    image_fps: Fraction | None = None,
) -> None:
    """Read the frames to show from the video's file.

    ``fps`` and ``image_fps`` are those of the run.

    Raises:
        VideoError: it cannot be read, or is not the video that the features were made from.
    """
    view = OpenView(path, summary.id, segment=summary.segment, fps=fps, image_fps=image_fps)
    with view:
        found = view.header
        if (found.frames, found.height, found.width) != (
            summary.frames,
            summary.height,
            summary.width,
        ):
            raise VideoError(
                f"{path} has {found.frames} frames of {found.width}x{found.height}, and the "
                f"features are of {summary.frames} frames of {summary.width}x{summary.height}"
            )
        _draw(details, summary, view)


def _draw(details: Details, summary: VideoSummary, view: OpenView) -> None:
    moments: dict[int, list[Moment]] = {}
    crops: dict[int, list[Crop]] = {}
    for moment in details.moments:
        moments.setdefault(moment.frame, []).append(moment)
    for crop in details.crops:
        crops.setdefault(crop.frame, []).append(crop)
    last = max([*moments, *crops])
    scale = PICTURE_PIXELS / max(summary.height, summary.width)
    size = (max(round(summary.width * scale), 1), max(round(summary.height * scale), 1))
    with closing(view.frames()) as pieces:
        for piece in pieces:
            for index, frame in enumerate(piece.images(), piece.start):
                for moment in moments.get(index, ()):
                    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
                    moment.picture = jpeg(small)
                for crop in crops.get(index, ()):
                    x1, y1, x2, y2 = crop.box
                    side = (PICTURE_PIXELS, PICTURE_PIXELS)
                    crop.picture = jpeg(cv2.resize(frame[y1:y2, x1:x2], side))
            if piece.start + len(piece) > last:
                return


def _edges(summary: VideoSummary) -> np.ndarray:
    """(W + 1,) edges between windows, halfway between their centres, on a scale of 0 to 1000."""
    centers = summary.times[:, 1]
    inner = (centers[1:] + centers[:-1]) / 2
    ends = [summary.start, summary.start + summary.seconds]
    edges = np.concatenate([ends[:1], inner, ends[1:]])
    share = (edges - summary.start) / max(summary.seconds, 1e-9)
    return np.maximum.accumulate(share.clip(0, 1)) * 1000


def _strip(values: np.ndarray, edges: np.ndarray, places: np.ndarray) -> str:
    """A step plot of row means between ``places``, since a long video has more rows than pixels."""
    means = np.add.reduceat(values, places[:-1]) / np.diff(places)
    return area_path(means, edges[places], height=STRIP_HEIGHT)


def _similarity(video: StoredVideo, summary: VideoSummary, pooled: Sequence[str]) -> str | None:
    """Self-similarity; rows of a long video are averaged into ``SIDE`` groups."""
    if not pooled or summary.windows < 2:
        return None
    side = min(SIDE, summary.windows)
    group = np.arange(summary.windows) * side // summary.windows
    counts = np.bincount(group, minlength=side)[:, None]
    means = []
    for name in pooled:
        sums = np.zeros((side, video[name].shape[1]))
        at = 0
        for block in video[name].blocks():
            np.add.at(sums, group[at : at + len(block)], block)
            at += len(block)
        means.append(sums / counts)
    return similarity_picture(self_similarity(np.concatenate(means, axis=1)))


def _moments(video: StoredVideo, summary: VideoSummary) -> list[Moment]:
    count = min(MOMENTS, summary.frames)
    frames = ((np.arange(count) + 0.5) * summary.frames / count).astype(int)
    keypoints, scores = video.people_at(frames)
    seconds = summary.start + (np.arange(count) + 0.5) / count * summary.seconds
    return [
        Moment(int(frame), float(second), bone_paths(keypoints[:, i], scores[:, i]))
        for i, (frame, second) in enumerate(zip(frames, seconds, strict=True))
    ]


def _crops(video: StoredVideo, summary: VideoSummary) -> list[Crop]:
    rows = rows_to_show(summary.person * summary.valid, CROPS)
    frames = video["frames"][rows, MIDDLE * RGB_STEP]
    boxes = video["box"][rows]
    people = video.people_at(frames)
    maps = None
    if "attention" in video:
        maps = video["attention"][rows]
    low, high = 0.0, 1.0
    if maps is not None:
        low, high = float(maps[:, MIDDLE].min()), float(maps[:, MIDDLE].max())
    found = []
    for i, (row, frame, box) in enumerate(zip(rows, frames, boxes, strict=True)):
        keypoints, scores = (array[:, i] for array in people)
        corner, size = box[:2], np.maximum(box[2:] - box[:2], 1)
        inside = (keypoints - corner) * (RGB_SIZE / size)
        x1, y1, x2, y2 = (int(value) for value in box)
        found.append(
            Crop(
                row=row,
                frame=int(frame),
                seconds=float(summary.times[row, 1]),
                box=(x1, y1, x2, y2),
                person=float(summary.person[row]),
                bones=bone_paths(inside, scores),
                attention=None
                if maps is None
                else attention_picture(maps[i, MIDDLE], low=low, high=high),
                low=low,
                high=high,
                when=None if maps is None else _when(maps[i]),
            )
        )
    return found


def _when(attention: np.ndarray) -> str:
    means = attention.astype(np.float32).mean((1, 2))
    share = (means - means.min()) / max(float(np.ptp(means)), 1e-6)
    edges = np.linspace(0, 160, len(means) + 1)
    return area_path(0.1 + 0.9 * share, edges, height=20.0)
