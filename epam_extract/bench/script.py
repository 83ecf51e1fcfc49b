"""The script that ``epam-extract bench`` compares with: what a user writes without this package.

decord and rtmlib's own classes frame by frame, heatmaps in numpy, the plain 5-D network four clips
at a time, ``.npy`` files, each library with its own defaults. Windows and boxes are those
of :func:`epam_extract.extract_features`, so that both give the same features. Nothing is slowed
down here, and none of the package's fast parts is used.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from .. import config
from ..clips import person_box, to_heatmap_pixels
from ..model import EPAMBackbone
from ..windows import plan_windows

BATCH = 4  # clips per network call

Models = Mapping[str, tuple[str, Path, tuple[int, int]]]
"""Role (``detector``, ``pose``) -> kind, ONNX file, input width and height."""
People = tuple[np.ndarray, np.ndarray]
"""Keypoints (M, 17, 2) and scores (M, 17) of one frame."""


def read_with_decord(path: Path) -> Iterator[np.ndarray]:
    """Every frame as (H, W, 3) uint8 RGB, in order, with decord's own number of threads."""
    import decord

    reader = decord.VideoReader(str(path))
    for _ in range(len(reader)):
        yield reader.next().asnumpy()


def read_with_pyav(path: Path) -> Iterator[np.ndarray]:
    """The same with PyAV, which picks how it uses threads."""
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


class PlainPose:
    """A loop over rtmlib's own classes, one picture or person per call, with its own threads."""

    def __init__(self, models: Models, device: str) -> None:
        import rtmlib

        makers = {"yolox": rtmlib.YOLOX, "rtmdet": rtmlib.RTMDet}
        makers |= {"simcc": rtmlib.RTMPose, "rtmo": rtmlib.RTMO}
        loaded: dict[str, Any] = {}
        for role, (kind, path, (width, height)) in models.items():
            size = (width, height) if kind == "simcc" else (height, width)  # rtmlib's two orders
            with contextlib.redirect_stdout(io.StringIO()):  # it prints when it loads
                loaded[role] = makers[kind](
                    str(path), model_input_size=size, backend="onnxruntime", device=device
                )
        self.detector, self.pose = loaded.get("detector"), loaded["pose"]

    def __call__(self, frame: np.ndarray) -> People:
        """People of one RGB frame."""
        picture = np.ascontiguousarray(frame[..., ::-1])
        if self.detector is None:
            return self.pose(picture)
        boxes = self.detector(picture)
        if not len(boxes):  # rtmlib would take the whole picture for a person
            return np.zeros((0, config.NUM_KEYPOINTS, 2)), np.zeros((0, config.NUM_KEYPOINTS))
        return self.pose(picture, bboxes=boxes)


def stacked(people: list[People]) -> tuple[np.ndarray, np.ndarray]:
    """Frames' people as (M, F, 17, 2) and (M, F, 17) float32, zeros where there is nobody."""
    most = max(len(scores) for _, scores in people)
    keypoints = np.zeros((most, len(people), config.NUM_KEYPOINTS, 2), np.float32)
    all_scores = np.zeros((most, len(people), config.NUM_KEYPOINTS), np.float32)
    for frame, (joints, scores) in enumerate(people):
        keypoints[: len(joints), frame] = np.where(scores[..., None] > 0, joints, 0)
        all_scores[: len(joints), frame] = np.clip(scores, 0, 1)
    return keypoints, all_scores


def draw_heatmaps(keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(17, F, 56, 56) float32 as the original's GeneratePoseTarget draws them, joint by joint.

    ``keypoints`` (M, F, 17, 2) are in heatmap pixels.
    """
    people, frames, joints = scores.shape
    heatmaps = np.zeros((joints, frames, config.HEATMAP_SIZE, config.HEATMAP_SIZE), np.float32)
    reach = config.HEATMAP_CUT * config.HEATMAP_SIGMA
    for person, frame, joint in itertools.product(range(people), range(frames), range(joints)):
        peak = scores[person, frame, joint]
        if peak < config.MIN_KEYPOINT_SCORE:
            continue
        x, y = keypoints[person, frame, joint]
        left, right = max(int(x - reach), 0), min(int(x + reach) + 1, config.HEATMAP_SIZE)
        top, bottom = max(int(y - reach), 0), min(int(y + reach) + 1, config.HEATMAP_SIZE)
        if left >= right or top >= bottom:
            continue
        away = (np.arange(left, right) - x) ** 2 + (np.arange(top, bottom)[:, None] - y) ** 2
        patch = peak * np.exp(-away / (2 * config.HEATMAP_SIGMA**2))
        place = heatmaps[joint, frame, top:bottom, left:right]
        np.maximum(place, patch, out=place, casting="same_kind")
    return heatmaps


@dataclass
class Script:
    """Frames -> people -> windows -> crops and heatmaps -> network -> ``.npy``, one by one."""

    pose: Callable[[np.ndarray], People]
    backbone: EPAMBackbone
    """In eval mode, on ``device``."""
    device: torch.device
    windows: config.WindowConfig
    frames: int = field(default=0, init=False)
    """Frames read so far, over all videos."""

    def __call__(self, path: Path, folder: Path) -> None:
        """Write ``rgb.npy``, ``pose.npy`` (float16) and the pooled ones (float32) to ``folder``."""
        import decord

        total = len(decord.VideoReader(str(path)))
        windows = plan_windows(total, self.windows)
        held: dict[int, tuple[np.ndarray, People]] = {}
        clips: list[tuple[np.ndarray, np.ndarray]] = []
        batches: list[dict[str, np.ndarray]] = []
        row = 0
        for index, frame in enumerate(read_with_decord(path)):
            self.frames += 1
            held[index] = (frame, self.pose(frame))
            while row < len(windows) and windows[row].max() <= index:
                clips.append(self.clip([held[i] for i in windows[row].tolist()]))
                row += 1
                if len(clips) == BATCH:
                    batches.append(self.features(clips))
                    clips.clear()
            needed = windows[row].min() if row < len(windows) else index
            for old in [i for i in held if i < needed]:
                del held[old]
        if clips:
            batches.append(self.features(clips))
        folder.mkdir(parents=True, exist_ok=True)
        for name in batches[0]:
            np.save(folder / f"{name}.npy", np.concatenate([batch[name] for batch in batches]))

    def clip(self, frames: list[tuple[np.ndarray, People]]) -> tuple[np.ndarray, np.ndarray]:
        """RGB (16, 224, 224, 3) uint8 and heatmaps (17, 48, 56, 56) of a window's 48 frames."""
        height, width = frames[0][0].shape[:2]
        keypoints, scores = stacked([people for _, people in frames])
        x1, y1, x2, y2 = box = person_box(keypoints, height, width)
        crops = [frame[y1:y2, x1:x2] for frame, _ in frames[:: config.RGB_STEP]]
        rgb = np.stack([cv2.resize(crop, (config.RGB_SIZE, config.RGB_SIZE)) for crop in crops])
        return rgb, draw_heatmaps(to_heatmap_pixels(keypoints, box), scores)

    @torch.no_grad()
    def features(self, clips: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        """A batch of clips through the plain network, as it is stored."""
        rgb = torch.from_numpy(np.stack([clip[0] for clip in clips])).to(self.device).float()
        normal = (config.IMAGENET_MEAN, config.IMAGENET_STD)
        mean, std = (torch.tensor(values, device=self.device) for values in normal)
        rgb = ((rgb - mean) / std).permute(0, 4, 1, 2, 3)  # (N, 3, 16, 224, 224)
        heatmaps = torch.from_numpy(np.stack([clip[1] for clip in clips])).to(self.device)
        out_rgb, out_pose = self.backbone(rgb, heatmaps)
        return {
            "rgb": out_rgb.half().cpu().numpy(),
            "pose": out_pose.half().cpu().numpy(),
            "rgb_pooled": out_rgb.mean((2, 3, 4)).cpu().numpy(),
            "pose_pooled": out_pose.mean((2, 3, 4)).cpu().numpy(),
        }


def write_with_h5py(path: Path, videos: dict[str, dict[str, np.ndarray]]) -> None:
    """One group and one ``fsync`` per video; a crash in between can lose the file."""
    import h5py

    with h5py.File(path, "w") as h5:
        for video_id, arrays in videos.items():
            group = h5.create_group(f"videos/{video_id}")
            for name, array in arrays.items():
                chunks = (1, *array.shape[1:]) if array.ndim == 5 else None
                group.create_dataset(name, data=array, chunks=chunks)
            h5.flush()
            with path.open("rb") as file:
                os.fsync(file.fileno())
