"""Stand-ins for videos, pose models and the network, and runs compared.

The numbers of the models depend on every pixel and keypoint they are given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
from make_videos import number_of

from epam_extract.config import PIECE_FRAMES, ExtractConfig, WeightsConfig, WindowConfig
from epam_extract.pipeline.inference import LoadedBackbone
from epam_extract.progress import Progress
from epam_extract.records import ClipBatch, FeatureBatch, FramePiece, PoseTrack, Video, file_stamp
from epam_extract.video.decode import Header

CONFIG = ExtractConfig(weights=WeightsConfig(random_seed=0), windows=WindowConfig(stride=8))
POOLED = replace(CONFIG, features=("pooled",))


class StandInVideo:
    """``frames`` pictures that ``make`` gives by the piece: (start) -> (16, H, W, 3)."""

    def __init__(
        self, path: Path, video_id: str, *, frames: int, make: Callable[[int], np.ndarray]
    ) -> None:
        self.path, self.id, self.stamp = path, video_id, file_stamp(path)
        self.video: Video | None = None
        self._make = make
        self.header = Header(Fraction(25), frames, 64, 96)

    def __enter__(self) -> StandInVideo:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def piece_start(self, frame: int, step: int) -> int:
        return frame // step * step

    def frames(self, start: int) -> Iterator[FramePiece]:
        length = self.header.frames
        for at in range(start, length, PIECE_FRAMES):
            yield FramePiece(at, self._make(at))
        stamps = np.arange(length) / 25.0
        self.video = Video(self.id, self.path, length, Fraction(25), 64, 96, stamps)


class StopAfter(Progress):
    """Asks the run to stop once more than so many frames are through."""

    def __init__(self, frames: int, stop: threading.Event) -> None:
        self.left, self.stop = frames, stop

    def advance(self, frames: int) -> None:
        self.left -= frames
        if self.left < 0:
            self.stop.set()


def people(piece: FramePiece) -> PoseTrack:
    """Two people whose joints follow the frame's number; one of them in every other frame."""
    numbers = np.float32([number_of(frame) for frame in piece.frames])
    joints = np.arange(17, dtype=np.float32)
    x = 20 + joints * 2 + numbers[:, None] % 9
    y = 10 + joints + numbers[:, None] % 7
    one = np.stack([x, y], axis=-1)  # (F, 17, 2)
    keypoints = np.stack([one, one * np.float32(0.5)])
    scores = np.full((2, len(numbers), 17), 0.75, np.float32)
    scores[1, numbers % 2 == 1] = 0
    keypoints[1, numbers % 2 == 1] = 0
    return PoseTrack(keypoints, scores)


class StandInPose:
    announcement = None

    def __init__(self) -> None:
        self.source = {"stand_in": True}
        self.pieces: list[int] = []

    def estimate(self, piece: FramePiece) -> PoseTrack:
        self.pieces.append(piece.start)
        return people(piece)


class StandInNetwork:
    """Cheap, and a pure function of each row."""

    calls: ClassVar[list[int]] = []
    compiled = ""

    def __init__(self, backbone, config, *, device, compile=False, on_halved=None) -> None:
        self.config = config
        self.calls.clear()

    def __call__(self, batch: ClipBatch) -> FeatureBatch:
        self.calls.append(len(batch.rows))
        rows: dict[str, list[np.ndarray]] = {}
        for rgb, keypoints in zip(batch.rgb, batch.keypoints[: len(batch.rows)], strict=False):
            joints = sum(person.sum() for person in keypoints)  # the same with padding
            seen = rgb.mean((1, 2, 3), dtype=np.float64) + joints / 1000
            row = {
                "rgb_pooled": np.resize(seen, 432).astype(np.float32),
                "pose_pooled": np.resize(seen * 2, 216).astype(np.float32),
            }
            if "full" in self.config.features:
                row["rgb"] = np.resize(seen, (432, 16, 7, 7)).astype(np.float16)
                row["pose"] = np.resize(seen, (216, 48, 7, 7)).astype(np.float16)
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
        return FeatureBatch(batch.rows, {name: np.stack(values) for name, values in rows.items()})


def no_backbone(weights: WeightsConfig) -> LoadedBackbone:
    return LoadedBackbone(None, {"random_seed": weights.random_seed}, None)  # type: ignore[arg-type]


def contents(path: Path) -> dict[str, np.ndarray | bytes]:
    """Every dataset and attribute under /videos, by name."""
    found: dict[str, np.ndarray | bytes] = {}

    def visit(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]
        for key, value in item.attrs.items():
            found[f"{name}@{key}"] = np.asarray(value)

    with h5py.File(path, "r") as file:
        file["videos"].visititems(visit)
    return found


def failures(path: Path) -> np.ndarray:
    """The table of failures."""
    with h5py.File(path) as h5:
        return h5["failures"][()]


def assert_same(one: Path, other: Path) -> None:
    mine, theirs = contents(one), contents(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
