"""Training batches: frames from the shards, cropped, scaled, mirrored and recoloured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from epam_extract.demo import DETECTOR_SIZE, POSE_SIZE

from .dataset import HEIGHT, IGNORE, NONE, PEOPLE, USABLE, WIDTH, Shard, open_shards
from .surfaces import Array

MIRROR = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]  # left <-> right
MIRRORED_BOX = [2, 1, 0, 3]  # of x1, y1, x2, y2 or of left, top, right, bottom
RTMPOSE_MEAN = torch.tensor([123.675, 116.28, 103.53])  # as rtmlib applies them, to BGR
RTMPOSE_STD = torch.tensor([58.395, 57.12, 57.375])
PADDING = (114, 114, 114)  # rtmlib.YOLOX's, below and to the right
SMALL_SIZE = (128, 224)  # height, width of the pictures that the detector starts with
UPPER_BODY = slice(0, 13)
Batch = tuple[torch.Tensor, ...]


def recolour(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change light, contrast, tint, saturation and sharpness as cameras do."""
    u = rng.uniform
    if rng.random() < 0.8:
        ramp = np.arange(256, dtype=np.float32)[:, None]
        curve = 255 * (ramp / 255) ** u(0.7, 1.45) * u(0.65, 1.3)
        curve = curve * u(0.82, 1.18, 3) + u(-22, 22)
        table = curve.clip(0, 255).astype(np.uint8)[None]  # (1, 256, 3)
        image = np.asarray(cv2.LUT(image, table), np.uint8)
    if rng.random() < 0.3:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        keep = u(0, 1)
        image = np.asarray(cv2.addWeighted(image, keep, grey, 1 - keep, 0), np.uint8)
    chance = rng.random()
    if chance < 0.25:  # over-sharp, as a picture shrunk without filtering is
        soft = cv2.GaussianBlur(image, (0, 0), 1.0)
        more = u(0.3, 1.5)
        image = np.asarray(cv2.addWeighted(image, 1 + more, soft, -more, 0), np.uint8)
    elif chance < 0.4:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), u(0.4, 1.4)), np.uint8)
    elif chance < 0.47:  # moved while the shutter was open
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        if rng.random() < 0.7:
            kernel[length // 2] = 1 / length
        else:
            np.fill_diagonal(kernel, 1 / length)
        image = np.asarray(cv2.filter2D(image, -1, kernel), np.uint8)
    return image


def normalise(crops: torch.Tensor) -> torch.Tensor:
    """Do to uint8 crops (B, H, W, 3) what rtmlib.RTMPose does before the network."""
    return (crops - RTMPOSE_MEAN) / RTMPOSE_STD


class DetectorBatches(IterableDataset[Batch]):
    """Endless batches: images (B, H, W, 3) u8 BGR, keypoints, boxes and states of ``PEOPLE``."""

    def __init__(self, folder: Path, *, batch: int, seed: int, small: bool = False) -> None:
        self.folder, self.batch, self.seed = folder, batch, seed
        self.size = SMALL_SIZE if small else DETECTOR_SIZE

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        rng = np.random.default_rng(self.seed)
        shards = open_shards(self.folder)
        while True:
            samples = [self.sample(shards, rng) for _ in range(self.batch)]
            yield tuple(torch.from_numpy(np.stack(column)) for column in zip(*samples, strict=True))

    def sample(self, shards: list[Shard], rng: np.random.Generator) -> tuple[NDArray, ...]:
        """Return one augmented image and its labels."""
        u = rng.uniform
        shard = shards[rng.integers(len(shards))]
        row = int(rng.integers(len(shard.frames)))
        keypoints, boxes = shard.keypoints[row].copy(), shard.boxes[row].copy()
        state = shard.state[row].astype(np.int64)
        height, width = self.size
        fit = min(height / HEIGHT, width / WIDTH)
        if rng.random() < 0.4:  # the whole frame, as rtmlib would letterbox it
            scale, x, y = fit, 0.0, 0.0
        else:
            scale = fit * math.exp(u(math.log(0.6), math.log(1.9)))
            x = u(min(0, width - WIDTH * scale), max(0, width - WIDTH * scale))
            y = u(min(0, height - HEIGHT * scale), max(0, height - HEIGHT * scale))
            if scale < fit and rng.random() < 0.5:
                x = y = 0.0
        stretch = u(0.88, 1.14) if rng.random() < 0.5 else 1.0
        warp = np.array([[scale * stretch, 0, x], [0, scale, y]])
        warp[:, 2] += 0.5 * (warp[[0, 1], [0, 1]] - 1)  # pixel middles stay pixel middles
        mirrored = rng.random() < 0.5
        if mirrored:
            warp[0, 2] += (WIDTH - 1) * warp[0, 0]
            warp[0, 0] *= -1
        image = recolour(shard.frames[row], rng)  # before the padding, which keeps its grey
        image = np.asarray(
            cv2.warpAffine(
                image, warp, (width, height), flags=cv2.INTER_LINEAR, borderValue=PADDING
            ),
            np.uint8,
        )
        keypoints[..., :2] = keypoints[..., :2] * warp[[0, 1], [0, 1]] + warp[:, 2]
        boxes = boxes * np.tile(warp[[0, 1], [0, 1]], 2) + np.tile(warp[:, 2], 2)
        if mirrored:
            keypoints, boxes = keypoints[:, MIRROR], boxes[:, MIRRORED_BOX]
        whole = (np.diff(boxes[:, 0::2]) * np.diff(boxes[:, 1::2]))[:, 0].clip(1)
        boxes = boxes.clip(0, [width, height, width, height])
        sides = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], 1)
        share = sides.prod(1) / whole
        inside = (keypoints[..., :2] >= 0) & (keypoints[..., :2] <= [width - 1, height - 1])
        keypoints[..., 2] *= inside.all(-1)
        poor = (share < 0.35) | ((keypoints[..., 2] > 1).sum(1) < 5) | (sides[:, 1] < height / 12)
        state[(state == USABLE) & poor] = IGNORE
        state[(share <= 0.02) | (sides.min(1) < 2)] = NONE
        return image, keypoints.astype(np.float32), boxes.astype(np.float32), state


class PoseBatches(IterableDataset[Batch]):
    """Endless batches: crops (B, 128, 96, 3) uint8 BGR, keypoints (B, 17, 3) in them.

    ``small`` is not for crops, and does nothing.
    """

    def __init__(self, folder: Path, *, batch: int, seed: int, small: bool = False) -> None:
        self.folder, self.batch, self.seed = folder, batch, seed

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        rng = np.random.default_rng(self.seed)
        shards = open_shards(self.folder)
        usable = [np.argwhere(shard.state == USABLE) for shard in shards]
        while True:
            samples = []
            for _ in range(self.batch):
                which = int(rng.integers(len(shards)))
                row, person = usable[which][rng.integers(len(usable[which]))]
                samples.append(self.sample(shards[which], int(row), int(person), rng))
            yield tuple(torch.from_numpy(np.stack(column)) for column in zip(*samples, strict=True))

    def sample(
        self, shard: Shard, row: int, person: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Array]:
        """Return one person's augmented crop and the keypoints in it."""
        keypoints, box = shard.keypoints[row, person].copy(), shard.boxes[row, person]
        width, height = POSE_SIZE
        if rng.random() < 0.12:  # a box around the upper body alone
            shown = keypoints[UPPER_BODY][keypoints[UPPER_BODY, 2] > 0, :2]
            if len(shown) >= 6:
                box = np.concatenate([shown.min(0), shown.max(0)])
        middle = (box[:2] + box[2:]) / 2
        size = (box[2:] - box[:2]).clip(4)
        middle = middle + rng.normal(0, 0.06, 2) * size
        tall = max(size[1], size[0] * height / width) * 1.25  # rtmlib pads boxes by 1.25
        scale = height / (tall * math.exp(rng.normal(0, 0.12)))
        angle = rng.normal(0, 0.12 if rng.random() < 0.85 else 0.45)
        c, s = scale * math.cos(angle), scale * math.sin(angle)
        warp = np.array([[c, -s, 0], [s, c, 0]])
        mirrored = rng.random() < 0.5
        if mirrored:
            warp[0] *= -1
        warp[:, 2] = np.array([width / 2, height / 2]) - warp[:, :2] @ middle
        crop = cv2.warpAffine(shard.frames[row], warp, (width, height), flags=cv2.INTER_LINEAR)
        keypoints[:, :2] = keypoints[:, :2] @ warp[:, :2].T + warp[:, 2]
        if mirrored:
            keypoints = keypoints[MIRROR]
        inside = (keypoints[:, :2] >= 0) & (keypoints[:, :2] < [width - 0.5, height - 0.5])
        keypoints[:, 2] *= inside.all(-1)
        return recolour(np.asarray(crop, np.uint8), rng), keypoints.astype(np.float32)


__all__ = ["MIRROR", "MIRRORED_BOX", "PEOPLE", "DetectorBatches", "PoseBatches"]
