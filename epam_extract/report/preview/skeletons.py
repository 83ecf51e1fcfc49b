"""Draw a frame with its skeletons and the window's box."""

from __future__ import annotations

import cv2
import numpy as np

from ...clips import Box
from ...config import MIN_KEYPOINT_SCORE
from ...pose import draw_skeletons
from .drawing import WINDOW, outline, put_light, resized

SURE_SCORE = 0.3  # joints of a lower score are drawn faintly, like their heatmaps
FAINT = 0.4
LARGER = 2  # factor by which skeletons are drawn larger, then scaled down


def people_panel(
    frame: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray,
    *,
    height: int,
    width: int,
    box: Box | None = None,
) -> np.ndarray:
    """A frame (H, W, 3) as a panel (height, width, 3), with skeletons and a box on it.

    ``keypoints`` (M, 17, 2) and ``box`` are in pixels of the frame, ``scores`` (M, 17).
    """
    panel = resized(frame, height, width)
    scale = np.array((width / frame.shape[1], height / frame.shape[0]), np.float32)
    put_skeletons(panel, np.nan_to_num(keypoints) * scale, scores)
    if box is not None:
        outline(panel, np.array(box) * np.tile(scale, 2), WINDOW)
    return panel


def put_skeletons(panel: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> None:
    """Draw rtmlib's skeletons on a panel; ``keypoints`` (M, 17, 2) are in its pixels.

    They are drawn on black and then overlaid: each of their colours has a channel of 255, so the
    brightest channel is their opacity.
    """
    there = scores >= MIN_KEYPOINT_SCORE
    if not there.any():
        return
    bone = max(round(panel.shape[0] * LARGER / 180), 2)
    low = np.maximum(np.floor(keypoints[there].min(0)) - bone, 0).astype(int)
    high = np.minimum(np.ceil(keypoints[there].max(0)) + bone, panel.shape[1::-1]).astype(int)
    if (high <= low).any():
        return
    around = panel[low[1] : high[1], low[0] : high[0]]
    height, width = around.shape[:2]
    ground = np.zeros((height * LARGER, width * LARGER, 3), np.uint8)
    moved = (keypoints - low) * LARGER
    light = draw_skeletons(ground, moved, scores, least=SURE_SCORE, width=bone)
    if (scores[there] < SURE_SCORE).any():
        faint = draw_skeletons(ground, moved, scores, least=MIN_KEYPOINT_SCORE, width=bone)
        light = np.maximum(light, (faint * FAINT).astype(np.uint8))
    put_light(around, resized(light, height, width))


def cropped(frame: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The (size, size, 3) crop of a frame, resized as ``clips.WindowFrames.clip`` does it."""
    x1, y1, x2, y2 = box
    return cv2.resize(frame[y1:y2, x1:x2], (size, size))
