"""From frames and keypoints to clips: person box, crop, resize."""

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
    """The square box (x1, y1, x2, y2) around all people in ``keypoints`` (M, F, 17, 2).

    The tight box of all joints that are neither NaN nor 0, enlarged to 1.25 times its size, made
    square, clipped to the picture, integer. If there are no people, or the tight box is under 10 px
    wide or high, the box is the whole picture.
    Source: PoseCompact of PYSKL with padding 0.25 and hw_ratio 1.
    """
    return grown_box(tight_box(keypoints), height, width)


def tight_box(keypoints: np.ndarray) -> np.ndarray:
    """(2, 2) float64: lowest x, y and highest x, y of the joints present; infinite if none is."""
    present = (keypoints != 0) & ~np.isnan(keypoints)  # (M, F, 17, 2)
    axes = tuple(range(keypoints.ndim - 1))
    low = np.min(keypoints, axis=axes, where=present, initial=np.inf)
    high = np.max(keypoints, axis=axes, where=present, initial=-np.inf)
    return np.stack([low, high]).astype(np.float64)


def grown_box(tight: np.ndarray, height: int, width: int) -> Box:
    """A tight box (2, 2), padded, made square, clipped to the picture, integer."""
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
    """The tight box (2, 2) float64 that encloses all of ``boxes``, each (2, 2)."""
    stacked = np.stack([np.array([[np.inf] * 2, [-np.inf] * 2]), *boxes])
    return np.stack([stacked[:, 0].min(0), stacked[:, 1].max(0)])


@dataclass(frozen=True)
class WindowFrames:
    """The frames and keypoints of one window; :meth:`clip` makes a clip of them, in any thread."""

    video_id: str
    window: int
    indices: np.ndarray
    """(48,) int64: the window's frames in the video."""
    frames: tuple[np.ndarray, ...]
    """16 whole frames, each (H, W, 3) uint8 RGB."""
    track: PoseTrack
    """(M, 48): the window's keypoints, in source pixels."""
    video_box: Box | None
    """RGB is cropped to this box of the whole video; None: to the window's own box, as heatmaps
    are."""

    def clip(self) -> Clip:
        """Crop and resize the frames (bilinear, with OpenCV, as the original) and shift keypoints.

        Frames that the window repeats at the ends of the video are resized once.
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
    """Source pixels to heatmap pixels of ``box``: (..., 2) float32. Coordinates of 0 stay 0."""
    origin = np.array(box[:2], np.float32)
    scale = HEATMAP_SIZE / (np.array(box[2:], np.float32) - origin)
    return np.where(keypoints != 0, keypoints - origin, 0).astype(np.float32) * scale


def keep_persons(keypoint_scores: np.ndarray, count: int | None) -> np.ndarray:
    """Rows of scores (M, F, 17) with a person in them, ascending, at most ``count``.

    Rows with the largest sum of scores are kept; of equal ones, the lower row.
    """
    total = keypoint_scores.sum((1, 2), dtype=np.float64)  # (M,)
    best = np.argsort(-total, kind="stable")[:count]
    return np.sort(best[total[best] > 0])


def seen_in(track: PoseTrack, frames: np.ndarray, max_persons: int | None) -> PoseTrack:
    """The part (M, F) of a track in these frames (F,), limited as in :func:`keep_persons`."""
    scores = track.keypoint_scores[:, frames]
    rows = keep_persons(scores, max_persons)
    return PoseTrack(track.keypoints[rows][:, frames], scores[rows])


class WindowCutter:
    """Cuts one video into windows, each as soon as its last frame has arrived.

    Only pieces that a later window needs are held, which is about one window.

    Args:
        video_id: the video.
        config: the grid of windows.
        first: row of the first window to cut.
        windows: (W, 48) int64, all windows of the video, if its length is known; otherwise they
            follow from ``config``, and :meth:`finish` cuts those at the end.
        video_box: see :attr:`WindowFrames.video_box`.
        max_persons: limit of the people in a window.
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

    def add(self, piece: FramePiece, track: PoseTrack) -> list[WindowFrames]:
        """Take the next piece, in order; return the windows that it completes."""
        self._held.append((piece, track))
        self._end = piece.start + len(piece)
        if self._windows is None:
            ready = whole_windows(self._end, self._config, first=self._row)
        else:
            left = self._windows[self._row :]
            ready = left[: np.searchsorted(left.max(1), self._end)]
        complete = self._cut(ready)
        if self._windows is None:
            needed = earliest_frame(self._row, self._config)
        else:
            needed = int(self._windows[self._row :].min(initial=self._end))
        while len(self._held) > 1 and self._held[1][0].start <= needed:
            self._held.popleft()  # not the last: windows past the end repeat its last frame
        return complete

    def finish(self) -> list[WindowFrames]:
        """The video has ended: return the windows that extend past its last frame."""
        if self._windows is not None or not self._end:
            return []
        return self._cut(plan_windows(self._end, self._config)[self._row :])

    def _cut(self, windows: np.ndarray) -> list[WindowFrames]:
        rows = range(self._row, self._row + len(windows))
        self._row = rows.stop
        if not rows:
            return []
        start = self._held[0][0].start
        frames = [frame for piece, _ in self._held for frame in piece.images()]
        track = concatenate([track for _, track in self._held])
        return [
            WindowFrames(
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
    """Stack clips into a batch of exactly ``size``; missing clips and people are zeros."""
    people = max(len(clip.keypoints) for clip in clips)
    rgb = np.zeros((size, RGB_FRAMES, RGB_SIZE, RGB_SIZE, 3), np.uint8)
    keypoints = np.zeros((size, people, POSE_FRAMES, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((size, people, POSE_FRAMES, NUM_KEYPOINTS), np.float32)
    for i, clip in enumerate(clips):
        rgb[i] = clip.rgb
        keypoints[i, : len(clip.keypoints)] = clip.keypoints
        scores[i, : len(clip.keypoints)] = clip.keypoint_scores
    return ClipBatch(tuple(clip.row for clip in clips), rgb, keypoints, scores)
