"""Person box, crop, resize: frames and keypoints -> what the network sees of a window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .config import (
    BOX_MIN_SIZE,
    BOX_PADDING,
    HEATMAP_SIZE,
    NUM_KEYPOINTS,
    POSE_FRAMES,
    RGB_FRAMES,
    RGB_SIZE,
    RGB_STEP,
    WindowConfig,
)
from .records import Clip, ClipBatch, FramePiece, PoseTrack, concatenate
from .windows import earliest_frame, plan_windows, whole_windows

Box = tuple[int, int, int, int]


def person_box(keypoints: np.ndarray, height: int, width: int) -> Box:
    """The square box (x1, y1, x2, y2) around everybody in ``keypoints`` (M, F, 17, 2).

    The tight box of all joints that are neither NaN nor 0, grown to 1.25 times its size, made
    square, cut to the picture, integer. A tight box under 10 px either way, or nobody at all, means
    the whole picture. Source: PoseCompact of PYSKL with padding 0.25 and hw_ratio 1.
    """
    return grown_box(tight_box(keypoints), height, width)


def tight_box(keypoints: np.ndarray) -> np.ndarray:
    """(2, 2) float64: least x, y and greatest x, y of the joints there are; inf where none is."""
    there = (keypoints != 0) & ~np.isnan(keypoints)  # (M, F, 17, 2)
    axes = tuple(range(keypoints.ndim - 1))
    low = np.min(keypoints, axis=axes, where=there, initial=np.inf)
    high = np.max(keypoints, axis=axes, where=there, initial=-np.inf)
    return np.stack([low, high]).astype(np.float64)


def grown_box(tight: np.ndarray, height: int, width: int) -> Box:
    """The box around a tight box (2, 2): padded, square, cut to the picture, integer."""
    whole = (0, 0, width, height)
    low, high = tight
    if not np.isfinite(tight).all() or (high - low).min() < BOX_MIN_SIZE:
        return whole
    center = (low + high) / 2
    half = ((high - low) / 2 * (1 + BOX_PADDING)).max()
    x1, y1 = (int(v) for v in np.maximum(center - half, 0))
    x2, y2 = (int(v) for v in np.minimum(center + half, (width, height)))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else whole


def union_boxes(boxes: Iterable[np.ndarray]) -> np.ndarray:
    """The tight box around tight boxes, as (2, 2) float64."""
    stacked = np.stack([np.array([[np.inf] * 2, [-np.inf] * 2]), *boxes])
    return np.stack([stacked[:, 0].min(0), stacked[:, 1].max(0)])


@dataclass(frozen=True)
class Cut:
    """Everything one clip is cut from; :meth:`clip` does the work, in any thread."""

    video_id: str
    window: int
    indices: np.ndarray
    """(48,) int64: the window's frames in the video."""
    frames: tuple[np.ndarray, ...]
    """16 x (H, W, 3) uint8 RGB, whole frames."""
    track: PoseTrack
    """(M, 48): the window's keypoints in source pixels."""
    video_box: Box | None
    """Crop RGB to this box of the whole video; None crops to the window's own, like heatmaps."""

    def clip(self) -> Clip:
        """Crop, resize with OpenCV's bilinear as the original's crops were, and move keypoints.

        Frames that the window repeats (edges) are resized once.
        """
        height, width = self.frames[0].shape[:2]
        keypoints = np.nan_to_num(self.track.keypoints)
        window_box = person_box(keypoints, height, width)
        x1, y1, x2, y2 = box = self.video_box or window_box
        rgb = np.empty((RGB_FRAMES, RGB_SIZE, RGB_SIZE, 3), np.uint8)
        for i, frame in enumerate(self.frames):
            if i and frame is self.frames[i - 1]:
                rgb[i] = rgb[i - 1]
            else:
                cv2.resize(frame[y1:y2, x1:x2], (RGB_SIZE, RGB_SIZE), dst=rgb[i])
        return Clip(
            video_id=self.video_id,
            window=self.window,
            frames=self.indices,
            rgb=rgb,
            keypoints=to_heatmap_pixels(keypoints, window_box),
            keypoint_scores=self.track.keypoint_scores,
            box=box,
            person=float((self.track.keypoint_scores > 0).any((0, 2)).mean()),
        )


def to_heatmap_pixels(keypoints: np.ndarray, box: Box) -> np.ndarray:
    """Source pixels -> heatmap pixels of ``box``: (..., 2) float32. Coordinates of 0 stay 0."""
    origin = np.array(box[:2], np.float32)
    scale = HEATMAP_SIZE / (np.array(box[2:], np.float32) - origin)
    return np.where(keypoints != 0, keypoints - origin, 0).astype(np.float32) * scale


def keep_persons(keypoint_scores: np.ndarray, count: int | None) -> np.ndarray:
    """The rows of scores (M, F, 17) that have a person, ascending, at most ``count`` of them.

    Those with the largest sum of scores are kept: seen longest and surest. Equal ones: lower rows.
    """
    total = keypoint_scores.sum((1, 2), dtype=np.float64)  # (M,)
    best = np.argsort(-total, kind="stable")[:count]
    return np.sort(best[total[best] > 0])


def seen_in(track: PoseTrack, frames: np.ndarray, max_persons: int | None) -> PoseTrack:
    """What a window of these frames (F,) sees of a track: (M, F), see :func:`keep_persons`."""
    scores = track.keypoint_scores[:, frames]
    rows = keep_persons(scores, max_persons)
    return PoseTrack(track.keypoints[rows][:, frames], scores[rows])


class WindowCutter:
    """Cuts windows out of the frames of one video, as soon as their last frame is there.

    ``video_id`` names the video, ``first`` is the first row to cut. ``windows`` (W, 48) are given
    where the video's length is known; otherwise they follow from ``config`` and the end is found
    by :meth:`finish`. Only pieces that a window to come still needs are held: about one window.
    ``max_persons`` limits the people that a window sees.
    """

    def __init__(
        self,
        video_id: str,
        config: WindowConfig,
        *,
        first: int = 0,
        windows: np.ndarray | None = None,
        video_box: Box | None = None,
        max_persons: int | None = None,
    ) -> None:
        self._video_id, self._config, self._video_box = video_id, config, video_box
        self._max_persons = max_persons
        self._windows = windows
        self._row = first
        self._end = 0
        self._held: deque[tuple[FramePiece, PoseTrack]] = deque()

    def add(self, piece: FramePiece, track: PoseTrack) -> list[Cut]:
        """Take the next piece, in order; return what it completes."""
        self._held.append((piece, track))
        self._end = piece.start + len(piece)
        if self._windows is None:
            ready = whole_windows(self._end, self._config, first=self._row)
        else:
            left = self._windows[self._row :]
            ready = left[: np.searchsorted(left.max(1), self._end)]
        cuts = self._cut(ready)
        if self._windows is None:
            needed = earliest_frame(self._row, self._config)
        else:
            needed = int(self._windows[self._row :].min(initial=self._end))
        while len(self._held) > 1 and self._held[1][0].start <= needed:
            self._held.popleft()  # never the last one: windows past the end repeat its last frame
        return cuts

    def finish(self) -> list[Cut]:
        """The video has ended: the windows that reach past its last frame."""
        if self._windows is not None or not self._end:
            return []
        return self._cut(plan_windows(self._end, self._config)[self._row :])

    def _cut(self, windows: np.ndarray) -> list[Cut]:
        rows = range(self._row, self._row + len(windows))
        self._row = rows.stop
        if not rows:
            return []
        start = self._held[0][0].start
        frames = [frame for piece, _ in self._held for frame in piece.images()]
        track = concatenate([track for _, track in self._held])
        return [
            Cut(
                video_id=self._video_id,
                window=row,
                indices=window,
                frames=tuple(frames[i - start] for i in window[::RGB_STEP]),
                track=seen_in(track, window - start, self._max_persons),
                video_box=self._video_box,
            )
            for row, window in zip(rows, windows, strict=True)
        ]


def collate(clips: Sequence[Clip], size: int) -> ClipBatch:
    """Stack clips to a batch of exactly ``size``; missing clips and people are zeros."""
    people = max(len(clip.keypoints) for clip in clips)
    rgb = np.zeros((size, RGB_FRAMES, RGB_SIZE, RGB_SIZE, 3), np.uint8)
    keypoints = np.zeros((size, people, POSE_FRAMES, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((size, people, POSE_FRAMES, NUM_KEYPOINTS), np.float32)
    for i, clip in enumerate(clips):
        rgb[i] = clip.rgb
        keypoints[i, : len(clip.keypoints)] = clip.keypoints
        scores[i, : len(clip.keypoints)] = clip.keypoint_scores
    return ClipBatch(tuple(clips), rgb, keypoints, scores)
