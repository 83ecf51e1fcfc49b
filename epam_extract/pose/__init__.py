"""Where keypoints come from: rtmlib's networks over pieces of frames.

    boxes = detector(frames); keypoints = pose(frames, boxes)      two-stage, as rtmlib.Body
    keypoints = pose(frames)                                       one-stage (RTMO)

The numbers are rtmlib's: its settings, crop, NMS and decoding, with many pictures in one session
run. We depart from it, on purpose, in what it does with nobody in the picture (its RTMPose then
takes the whole picture for a person, its RTMO gives a person of zeros; here nobody is nobody),
with other classes (its YOLOX and RTMDet hand out chairs as people when a COCO model has them; here
class 0 only), and with scores (a SimCC maximum may pass 1; it becomes a heatmap's peak, so it is
clipped to [0, 1]).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import NUM_KEYPOINTS, PoseConfig
from ..errors import ConfigError, PoseModelError
from ..records import FramePiece, PoseTrack
from .boxes import Boxes, fill_between, fill_where_needed
from .linking import MEMORY_FRAMES, PersonLinker
from .models import Progress, download_models, ensure, list_models, model_files
from .networks import (
    DETECTORS,
    Network,
    gpu_provider_available,
    letterbox_ratio,
    open_network,
    put_letterbox,
    put_planes,
    yolox_grid,
)

__all__ = [
    "MEMORY_FRAMES",
    "PersonLinker",
    "PoseEstimator",
    "download_models",
    "gpu_provider_available",
    "draw_skeletons",
    "list_models",
    "open_pose_model",
]

log = logging.getLogger(__name__)

NMS_INSIDE_SCORE = (
    0.3  # rtmlib's YOLOX holds this, not its score_thr, against models that end in NMS
)
CROP_PADDING = 1.25  # of rtmlib's RTMPose.preprocess
PROBABLY_LOGITS = 2.0  # RTMPose's own maxima stay under it
BUNDLED_NOTE = (
    "pose model: the package's own small one, trained on synthetic people, for trying the tool; "
    "use --pose balanced for work"
)


People = tuple[np.ndarray, np.ndarray]
"""Keypoints (P, 17, 2) and scores (P, 17) of one frame, best person first."""


# ---------------------------------------------------------------- detector


def detect(
    network: Network, frames: Sequence[np.ndarray], *, score: float | None = None
) -> list[Boxes]:
    """Find people in RGB frames of one size; ``score`` None is rtmlib's threshold."""
    if not len(frames):
        return []
    ratio = letterbox_ratio(frames[0], network)

    def fill(index: int, out: np.ndarray) -> None:
        put_letterbox(frames[index], ratio, network.tables, out)

    found = []
    for where, outputs in network.run(len(frames), fill):
        for row in range(where.stop - where.start):
            found.append(_decode(network, [output[row] for output in outputs], ratio, score))
    return found


def _decode(
    network: Network, outputs: list[np.ndarray], ratio: float, score: float | None
) -> Boxes:
    """One picture's outputs to boxes: rtmlib's ``postprocess`` of YOLOX and RTMDet, with scores."""
    from rtmlib.tools.object_detection.post_processings import nms

    tool = network.tool
    least = getattr(tool, "score_thr", NMS_INSIDE_SCORE) if score is None else score
    raw = outputs[0]
    if raw.shape[-1] == 5:  # (D, 5), NMS inside
        if score is None and network.kind == "yolox":
            least = NMS_INSIDE_SCORE
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
        chosen = nms(boxes, scores, tool.nms_thr)
        boxes, scores = boxes[chosen].astype(np.float64), scores[chosen]
    usable = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, scores = boxes[usable], scores[usable]
    order = np.argsort(-scores, kind="stable")
    return Boxes(boxes[order], scores[order])


# ---------------------------------------------------------------- pose networks


def find_keypoints(
    network: Network, frames: Sequence[np.ndarray], found: Sequence[Boxes]
) -> list[People]:
    """Keypoints of each frame's boxes by a SimCC network; crops of all frames share runs."""
    from rtmlib.tools.pose_estimation.pre_processings import bbox_xyxy2cs, top_down_affine

    jobs = [(index, box) for index, here in enumerate(found) for box in here.boxes]
    placed = [bbox_xyxy2cs(box, padding=CROP_PADDING) for _, box in jobs]
    centers = np.array([center for center, _ in placed], np.float64).reshape(-1, 1, 2)
    scales = np.zeros_like(centers)
    size = (network.width, network.height)

    def fill(index: int, out: np.ndarray) -> None:
        center, scale = placed[index]
        crop, scales[index, 0] = top_down_affine(size, scale, center, frames[jobs[index][0]])
        put_planes(crop, network.tables, out)

    keypoints = np.zeros((len(jobs), NUM_KEYPOINTS, 2))
    scores = np.zeros((len(jobs), NUM_KEYPOINTS), np.float32)
    for where, (x, y) in network.run(len(jobs), fill):
        split = x.shape[-1] / network.width
        keypoints[where], scores[where] = network.tool.postprocess(
            (x, y), centers[where], scales[where], split
        )
    stops = np.cumsum([len(here.boxes) for here in found])
    return list(zip(np.split(keypoints, stops)[:-1], np.split(scores, stops)[:-1], strict=True))


def find_people(
    network: Network, frames: Sequence[np.ndarray], *, score: float | None = None
) -> list[People]:
    """Keypoints of everybody in RGB frames of one size, by a one-stage network (RTMO)."""
    from rtmlib.tools.object_detection.post_processings import nms

    if not len(frames):
        return []
    ratio = letterbox_ratio(frames[0], network)
    least = network.tool.score_thr if score is None else score

    def fill(index: int, out: np.ndarray) -> None:
        put_letterbox(frames[index], ratio, network.tables, out)

    people: list[People] = []
    for _, (found, joints) in network.run(len(frames), fill):
        for dets, joint in zip(found, joints, strict=True):
            # Filtered together: rtmlib before 0.0.16 applied the filtered boxes' NMS indices to
            # the keypoints of all boxes.
            kept = dets[:, 4] > least
            boxes, scores, joint = dets[kept, :4] / ratio, dets[kept, 4], joint[kept]
            chosen = nms(boxes, scores, network.tool.nms_thr)  # best first
            people.append((joint[chosen, :, :2] / ratio, joint[chosen, :, 2]))
    return people


# ---------------------------------------------------------------- the stage


class PoseEstimator:
    """The pose stage: :meth:`estimate` may run in many threads at once."""

    def __init__(
        self, config: PoseConfig, *, detector: Network | None, pose: Network, mode: str
    ) -> None:
        """``detector`` is None with a one-stage ``pose``; ``mode`` is what the file will say."""
        self._config = config
        self._detector = detector
        self._pose = pose
        self._told = False
        networks = {"detector": detector, "pose": pose}
        self.source: dict[str, object] = {
            "mode": mode,
            **{role: n.describe() for role, n in networks.items() if n is not None},
        }
        """JSON-ready identity of the models, for the file's ``pose_source``."""
        self.announcement: str | None = None
        """What a person must know about these models, or None."""
        if mode == "bundled":
            self.source["demo"] = True
            self.announcement = BUNDLED_NOTE

    def estimate(self, piece: FramePiece) -> PoseTrack:
        """Keypoints of everybody in a piece; a function of this piece alone.

        Returns:
            PoseTrack of F frames and as many people as the fullest frame has, the best detection
            first. Joints under ``keypoint_score`` have position and score 0.
        """
        frames = list(piece.frames)
        if self._detector is None:
            people = find_people(self._pose, frames, score=self._config.det_score)
        else:
            people = find_keypoints(self._pose, frames, self.boxes(piece))
        people = [self._cleaned(*here) for here in people]
        most = max((len(scores) for _, scores in people), default=0)
        keypoints = np.zeros((most, len(people), NUM_KEYPOINTS, 2), np.float32)
        scores = np.zeros((most, len(people), NUM_KEYPOINTS), np.float32)
        for frame, (joints, peaks) in enumerate(people):
            keypoints[: len(joints), frame] = joints
            scores[: len(joints), frame] = peaks
        return PoseTrack(keypoints, scores)

    def boxes(self, piece: FramePiece) -> list[Boxes]:
        """The detector's boxes for each frame of a piece; none at all with a one-stage network."""
        if self._detector is None or not len(piece.frames):
            return [Boxes(np.zeros((0, 4)), np.zeros(0))] * len(piece.frames)
        detector, every, count = self._detector, self._config.det_every, len(piece.frames)

        def look(frames: Sequence[int]) -> list[Boxes]:
            return detect(detector, [piece.frames[i] for i in frames], score=self._config.det_score)

        if isinstance(every, str):
            return fill_where_needed(look, count)
        looked = sorted({*range(0, count, every), count - 1})
        return fill_between(dict(zip(looked, look(looked), strict=True)), count)

    def _cleaned(self, keypoints: np.ndarray, scores: np.ndarray) -> People:
        """Scores in [0, 1], missing joints zeroed; people without joints out."""
        if scores.size and scores.max() > PROBABLY_LOGITS and not self._told:
            self._told = True
            log.warning(
                "%s: keypoint scores reach %.1f, so they are no probabilities; clipped to 1",
                self._pose.path.name,
                scores.max(),
            )
        there = np.isfinite(keypoints).all(-1) & (scores > 0)  # (P, 17), False for a NaN score
        there &= scores >= self._config.keypoint_score
        keypoints = np.where(there[..., None], keypoints, 0)
        scores = np.where(there, np.minimum(scores, 1), 0)
        somebody = np.flatnonzero(there.any(1))
        return keypoints[somebody], scores[somebody]


def open_pose_model(
    config: PoseConfig,
    *,
    device: str = "cpu",
    threads: int = 1,
    on_download: Progress | None = None,
) -> PoseEstimator:
    """Load the models ``config`` names, downloading them first where that is needed.

    Args:
        config: a mode, or local ONNX files.
        device: ``cpu``, ``cuda`` or ``cuda:N``, for both networks.
        threads: of onnxruntime, for one call of ``estimate``.
        on_download: called with a file's name, its bytes so far and in all.

    Raises:
        PoseModelError: a model cannot be had or read, is of another kind, lacks its other half, or
            does not run on ``device``.
    """

    def load(path: Path, wanted: Sequence[str], option: str, size: Any = None) -> Network:
        return open_network(
            path, wanted, option=option, input_size=size, device=device, threads=threads
        )

    if config.pose_model is None:
        files = {file.role: file for file in model_files(config.mode)}
        one_stage = len(files) == 1
        for file in files.values():
            ensure(file, progress=on_download)
        option = f"--pose {config.mode}:"
        wanted = ("rtmo",) if one_stage else ("simcc",)
        pose = load(files["pose"].path, wanted, option, files["pose"].input_size)
        detector = None
        if not one_stage:
            detector_file = files["detector"]
            detector = load(detector_file.path, DETECTORS, option, detector_file.input_size)
        mode = config.mode
    else:
        pose = load(config.pose_model, ("simcc", "rtmo"), "--pose-model")
        mode = "local"
        detector = None
        if config.det_model is not None:
            detector = load(config.det_model, DETECTORS, "--det-model")
        if pose.kind == "simcc" and detector is None:
            raise PoseModelError(
                f"--pose-model {pose.path}: an RTMPose network finds keypoints in the boxes of a "
                "detector; pass a YOLOX or RTMDet file with --det-model"
            )
        if pose.kind == "rtmo" and detector is not None:
            raise PoseModelError(
                f"--pose-model {pose.path}: an RTMO network finds people itself; leave out "
                f"--det-model {config.det_model}"
            )
    if detector is None and config.det_every != 1:
        raise ConfigError(
            f"--det-every {config.det_every} needs a detector; the one-stage network "
            f"{pose.path.name} finds people and keypoints in one"
        )
    return PoseEstimator(config, detector=detector, pose=pose, mode=mode)


def draw_skeletons(
    picture: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray,
    *,
    least: float,
    width: int = 2,
) -> np.ndarray:
    """A copy of an RGB picture with rtmlib's skeleton of everybody in it.

    ``keypoints`` (M, 17, 2) in pixels of the picture, ``scores`` (M, 17): joints under ``least``
    and bones that lack an end are left out. ``width`` is a bone's, and a joint's radius.
    """
    from rtmlib.visualization import draw_skeleton

    return draw_skeleton(
        picture.copy(), keypoints, scores, kpt_thr=least, radius=width, line_width=width
    )
