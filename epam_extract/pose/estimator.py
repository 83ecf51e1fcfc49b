"""The pose stage: frames in, everyone's keypoints out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..config import NUM_KEYPOINTS, PoseConfig
from ..errors import ConfigError, PoseModelError
from ..records import FramePiece, PoseTrack
from .batched import FoundPeople, detect, find_keypoints, find_people
from .boxes import Boxes, fill_between, fill_where_needed
from .download import OnDownload
from .model_files import ensure, model_files
from .onnx_network import DETECTORS, OnnxNetwork, open_network

log = logging.getLogger(__name__)

PROBABLY_LOGITS = 2.0  # RTMPose's own maxima stay below it
BUNDLED_NOTE = (
    "pose model: the package's own small one, trained on synthetic people, for trying the tool; "
    "use --pose balanced for work"
)


class PoseEstimator:
    """The pose stage; any number of threads may call :meth:`estimate` at once."""

    def __init__(
        self, config: PoseConfig, *, detector: OnnxNetwork | None, pose: OnnxNetwork, mode: str
    ) -> None:
        """``detector`` is None with a one-stage ``pose``; ``mode`` is what the file will say."""
        self._config = config
        self._detector = detector
        self._pose = pose
        self._warned = False
        networks = {"detector": detector, "pose": pose}
        self.source: dict[str, object] = {
            "mode": mode,
            **{role: n.describe() for role, n in networks.items() if n is not None},
        }
        """JSON-ready identity of the models, for the file's ``pose_source``."""
        self.announcement: str | None = None
        """What users must know about these models, or None."""
        if mode == "bundled":
            self.source["demo"] = True
            self.announcement = BUNDLED_NOTE

    def estimate(self, piece: FramePiece) -> PoseTrack:
        """Keypoints of everyone in a piece; depends on this piece alone.

        Returns:
            PoseTrack of F frames and as many people as the fullest frame has, the best detection
            first. Joints with a score below ``keypoint_score`` have position and score 0.
        """
        frames = list(piece.frames)
        if self._detector is None:
            found = find_people(self._pose, frames, score=self._config.det_score)
        else:
            found = find_keypoints(self._pose, frames, self.boxes(piece))
        found = self._cleaned(found)
        # Rows number the people of each frame, whose frames are in ascending order.
        rows = np.arange(len(found.frames)) - np.searchsorted(found.frames, found.frames)
        shape = (int(rows.max(initial=-1)) + 1, len(frames), NUM_KEYPOINTS)
        keypoints, scores = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
        keypoints[rows, found.frames] = found.keypoints
        scores[rows, found.frames] = found.scores
        return PoseTrack(keypoints, scores)

    def boxes(self, piece: FramePiece) -> list[Boxes]:
        """People's boxes in each frame of a piece; none with a one-stage network.

        The detector's own on the frames that ``det_every`` makes it look at, in between those of
        ``boxes.fill_between``.
        """
        if self._detector is None or not len(piece.frames):
            return [Boxes(np.zeros((0, 4)), np.zeros(0))] * len(piece.frames)
        detector, every, count = self._detector, self._config.det_every, len(piece.frames)

        def look(frames: Sequence[int]) -> list[Boxes]:
            return detect(detector, [piece.frames[i] for i in frames], score=self._config.det_score)

        if isinstance(every, str):
            return fill_where_needed(look, count)
        looked = sorted({*range(0, count, every), count - 1})
        return fill_between(dict(zip(looked, look(looked), strict=True)), count)

    def _cleaned(self, found: FoundPeople) -> FoundPeople:
        """Clip scores to [0, 1], zero missing joints, and drop people without joints.

        A SimCC maximum may exceed 1, and a score becomes the peak of a heatmap.
        """
        highest = found.scores.max(initial=0)
        if highest > PROBABLY_LOGITS and not self._warned:
            self._warned = True
            log.warning(
                "%s: keypoint scores reach %.1f, so they are not probabilities; clipped to 1",
                self._pose.path.name,
                highest,
            )
        present = np.isfinite(found.keypoints).all(-1) & (found.scores > 0)  # False for NaN scores
        present &= found.scores >= self._config.keypoint_score
        keypoints = np.where(present[..., None], found.keypoints, 0)
        scores = np.where(present, np.minimum(found.scores, 1), 0)
        people = present.any(1)
        return FoundPeople(found.frames[people], keypoints[people], scores[people])


def open_pose_model(
    config: PoseConfig,
    *,
    device: str = "cpu",
    threads: int = 1,
    on_download: OnDownload | None = None,
) -> PoseEstimator:
    """Load the models that ``config`` names, downloading them first if needed.

    Args:
        config: a mode, or local ONNX files.
        device: ``cpu``, ``cuda`` or ``cuda:N``, for both networks.
        threads: that onnxruntime uses for one call of ``estimate``.
        on_download: called with a file's name, its bytes so far and in total.

    Raises:
        ConfigError: ``det_every`` is set for a one-stage network.
        PoseModelError: a model cannot be obtained or read, is of the wrong kind, lacks its other
            half, or does not run on ``device``.
    """

    def load(
        path: Path, wanted: Sequence[str], option: str, size: tuple[int, int] | None = None
    ) -> OnnxNetwork:
        return open_network(
            path, wanted, option=option, input_size=size, device=device, threads=threads
        )

    detector = None
    if config.pose_model is None:
        mode = config.mode
        files = {file.role: file for file in model_files(mode)}
        for file in files.values():
            ensure(file, progress=on_download)
        option = f"--pose {mode}:"
        pose_file, detector_file = files["pose"], files.get("detector")
        wanted = ("rtmo",) if detector_file is None else ("simcc",)
        pose = load(pose_file.path, wanted, option, pose_file.input_size)
        if detector_file is not None:
            detector = load(detector_file.path, DETECTORS, option, detector_file.input_size)
    else:
        mode = "local"
        pose = load(config.pose_model, ("simcc", "rtmo"), "--pose-model")
        if config.det_model is not None:
            detector = load(config.det_model, DETECTORS, "--det-model")
        _require_halves(config, pose, detector)
    if detector is None and config.det_every != 1:
        raise ConfigError(
            f"--det-every {config.det_every} needs a detector; the one-stage network "
            f"{pose.path.name} finds people and keypoints in one"
        )
    return PoseEstimator(config, detector=detector, pose=pose, mode=mode)


def _require_halves(config: PoseConfig, pose: OnnxNetwork, detector: OnnxNetwork | None) -> None:
    """Refuse local files that do not fit together."""
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
