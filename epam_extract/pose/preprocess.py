"""Frames and crops as the networks take them: rtmlib's numbers at a fraction of the time.

rtmlib computes ``(picture - mean) / std`` in float64; here a table of 256 float32 values per
channel holds the results. Where rtmlib places one crop at a time, :class:`Crops` places them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .onnx_network import PAD_VALUE, OnnxNetwork

CROP_PADDING = 1.25  # of rtmlib's RTMPose.preprocess


def put_planes(rgb: np.ndarray, tables: np.ndarray, out: np.ndarray) -> None:
    """Write an RGB picture (h, w, 3) uint8 into B, G, R planes ``out`` (3, h, w) float32."""
    for channel, plane in zip((2, 1, 0), cv2.split(rgb), strict=True):
        cv2.LUT(plane, tables[channel], dst=out[channel])


def letterbox_ratio(frame: np.ndarray, network: OnnxNetwork) -> float:
    """What rtmlib scales a picture (h, w, 3) by to fit it into the network's input."""
    height, width = frame.shape[:2]
    if (height, width) == (network.height, network.width):
        return 1.0
    return min(network.height / height, network.width / width)


def put_letterbox(rgb: np.ndarray, ratio: float, tables: np.ndarray, out: np.ndarray) -> None:
    """rtmlib's ``preprocess`` of YOLOX, RTMDet and RTMO: shrink, put top left, pad with 114."""
    if ratio != 1.0:
        size = (max(int(rgb.shape[1] * ratio), 1), max(int(rgb.shape[0] * ratio), 1))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    height, width = rgb.shape[:2]
    out[:, height:] = tables[:, PAD_VALUE, None, None]
    out[:, :height, width:] = tables[:, PAD_VALUE, None, None]
    put_planes(rgb, tables, out[:, :height, :width])


@dataclass(frozen=True)
class Crops:
    """Where the crops of N boxes lie: rtmlib's ``preprocess`` of RTMPose, for all at once."""

    width: int
    height: int
    """Of a crop, in pixels of the network's input."""
    centers: np.ndarray
    """(N, 2) x and y in pixels of the frame."""
    scales: np.ndarray
    """(N, 2) width and height in pixels of the frame."""
    anchors: np.ndarray
    """(N, 3, 2) float32: three points of each crop in pixels of the frame."""
    targets: np.ndarray
    """(3, 2) float32: the same points in pixels of the network's input."""

    @classmethod
    def around(cls, boxes: np.ndarray, *, width: int, height: int) -> Crops:
        """Padded crops with the input's proportions around ``boxes`` (N, 4) x1, y1, x2, y2."""
        low, high = boxes[:, :2], boxes[:, 2:]
        centers = (low + high) * 0.5
        across, down = ((high - low) * CROP_PADDING).T
        ratio = width / height
        scales = np.where(
            (across > down * ratio)[:, None],
            np.stack([across, across / ratio], axis=1),
            np.stack([down * ratio, down], axis=1),
        )
        middle = np.array([[width * 0.5, height * 0.5]])
        return cls(
            width,
            height,
            centers,
            scales,
            anchors=_anchors(centers, scales[:, 0]),
            targets=_anchors(middle, np.array([width]))[0],
        )

    def cut(self, index: int, frame: np.ndarray) -> np.ndarray:
        """Crop ``index`` out of ``frame`` (H, W, 3) uint8: (height, width, 3), black outside."""
        matrix = cv2.getAffineTransform(self.anchors[index], self.targets)
        return cv2.warpAffine(frame, matrix, (self.width, self.height), flags=cv2.INTER_LINEAR)


def _anchors(centers: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The points by which rtmlib's ``get_warp_matrix`` places a crop, rounded as it rounds them:
    the centre, half a width above it, and half a width to the left of that: (N, 3, 2) float32."""
    points = np.empty((len(centers), 3, 2), np.float32)
    points[:, 0] = points[:, 1] = centers
    points[:, 1, 1] = centers[:, 1] + widths.astype(np.float64) * -0.5
    points[:, 2, 0] = points[:, 1, 0] - (points[:, 0, 1] - points[:, 1, 1])
    points[:, 2, 1] = points[:, 1, 1]
    return points
