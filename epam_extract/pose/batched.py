"""rtmlib's detection and keypoints for many pictures per network run.

Thresholds, NMS and the decoding of SimCC are rtmlib's. We differ from it, on purpose, in three
ways: a picture without people has none (rtmlib's RTMPose then takes the whole picture for a person,
its RTMO returns one of zeros); only class 0 is a person (rtmlib's YOLOX and RTMDet return every
class of a COCO model as people); and people keep their scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..config import NUM_KEYPOINTS
from .boxes import Boxes
from .onnx_network import OnnxNetwork, yolox_grid
from .preprocess import Crops, letterbox_ratio, put_letterbox, put_planes

SCORE_AFTER_NMS = 0.3  # rtmlib's for a YOLOX with NMS inside, whatever its score_thr says


class FoundPeople(NamedTuple):
    """K people in some frames, frame by frame, the best of each frame first."""

    frames: np.ndarray
    """(K,) int64: which frame each is in, ascending."""
    keypoints: np.ndarray
    """(K, 17, 2) float64, pixels of the frame."""
    scores: np.ndarray
    """(K, 17) float32"""


# ---------------------------------------------------------------- boxes


def detect(
    network: OnnxNetwork, frames: Sequence[np.ndarray], *, score: float | None = None
) -> list[Boxes]:
    """Find people in RGB frames of one size.

    Args:
        network: a YOLOX or RTMDet.
        frames: (H, W, 3) uint8 each.
        score: the lowest score of a person; None for rtmlib's.
    """
    if not len(frames):
        return []
    ratio = letterbox_ratio(frames[0], network)

    def fill(index: int, out: np.ndarray) -> None:
        put_letterbox(frames[index], ratio, network.tables, out)

    found = []
    for where, outputs in network.run(len(frames), fill):
        for row in range(where.stop - where.start):
            found.append(_boxes(network, [output[row] for output in outputs], ratio, score))
    return found


def _boxes(
    network: OnnxNetwork, outputs: list[np.ndarray], ratio: float, score: float | None
) -> Boxes:
    """Boxes from one picture's outputs: rtmlib's ``postprocess`` of YOLOX and RTMDet."""
    from rtmlib.tools.object_detection.post_processings import nms

    settings = network.settings
    least = settings.score_thr if score is None else score
    raw = outputs[0]
    if raw.shape[-1] == 5:  # (D, 5), NMS inside
        if score is None and network.kind == "yolox":
            least = SCORE_AFTER_NMS
        kept = raw[:, 4] > least
        if len(outputs) > 1:
            kept &= outputs[1] == 0  # COCO's first class, and a human detector's only one
        boxes, scores = raw[kept, :4] / ratio, raw[kept, 4]
    else:  # (A, 5 + classes): centre, log size, objectness, classes
        person = raw[:, 4] * raw[:, 5]
        kept = person > least
        cells, strides = yolox_grid(network.width, network.height)
        center = ((raw[kept, :2] + cells[kept]) * strides[kept]).astype(np.float32)
        half = (np.exp(raw[kept, 2:4]) * strides[kept]).astype(np.float32) / np.float32(2)
        boxes = np.concatenate([center - half, center + half], 1) / np.float32(ratio)
        scores = person[kept]
        chosen = nms(boxes, scores, settings.nms_thr)
        boxes, scores = boxes[chosen].astype(np.float64), scores[chosen]
    usable = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, scores = boxes[usable], scores[usable]
    order = np.argsort(-scores, kind="stable")
    return Boxes(boxes[order], scores[order])


# ---------------------------------------------------------------- keypoints


def find_keypoints(
    network: OnnxNetwork, frames: Sequence[np.ndarray], found: Sequence[Boxes]
) -> FoundPeople:
    """Keypoints of each frame's boxes by a SimCC network; crops of all frames share runs."""
    from rtmlib.tools.pose_estimation.post_processings import get_simcc_maximum

    counts = np.array([len(people.boxes) for people in found], np.int64)
    owners = np.repeat(np.arange(len(found)), counts)
    boxes = np.concatenate([people.boxes for people in found] or [np.zeros((0, 4))])
    crops = Crops.around(boxes, width=network.width, height=network.height)

    def fill(index: int, out: np.ndarray) -> None:
        put_planes(crops.cut(index, frames[owners[index]]), network.tables, out)

    keypoints = np.zeros((len(owners), NUM_KEYPOINTS, 2))
    scores = np.zeros((len(owners), NUM_KEYPOINTS), np.float32)
    for where, (x, y) in network.run(len(owners), fill):
        bins, scores[where] = get_simcc_maximum(x, y)
        keypoints[where] = bins / (x.shape[-1] / network.width)  # pixels of the crop
    scales = crops.scales[:, None].astype(np.float64)
    keypoints = keypoints / (network.width, network.height) * scales
    return FoundPeople(owners, keypoints + crops.centers[:, None] - scales / 2, scores)


def find_people(
    network: OnnxNetwork, frames: Sequence[np.ndarray], *, score: float | None = None
) -> FoundPeople:
    """Keypoints of everyone in RGB frames of one size, by a one-stage network (RTMO).

    ``score`` is the lowest of a person; None for rtmlib's.
    """
    from rtmlib.tools.object_detection.post_processings import nms

    owners = [np.zeros(0, np.int64)]
    keypoints = [np.zeros((0, NUM_KEYPOINTS, 2))]
    scores = [np.zeros((0, NUM_KEYPOINTS), np.float32)]
    ratio = letterbox_ratio(frames[0], network) if len(frames) else 1.0
    least = network.settings.score_thr if score is None else score

    def fill(index: int, out: np.ndarray) -> None:
        put_letterbox(frames[index], ratio, network.tables, out)

    for where, (found, joints) in network.run(len(frames), fill):
        for frame, dets, joint in zip(range(where.start, where.stop), found, joints, strict=True):
            # Filtered together: rtmlib before 0.0.16 applied the filtered boxes' NMS indices to
            # the keypoints of all boxes.
            kept = dets[:, 4] > least
            boxes, joint = dets[kept, :4] / ratio, joint[kept]
            chosen = nms(boxes, dets[kept, 4], network.settings.nms_thr)  # best first
            owners.append(np.full(len(chosen), frame))
            keypoints.append(joint[chosen, :, :2] / ratio)
            scores.append(joint[chosen, :, 2])
    return FoundPeople(*(np.concatenate(parts) for parts in (owners, keypoints, scores)))
