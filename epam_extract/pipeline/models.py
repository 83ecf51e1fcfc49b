"""What a run computes with, once it is loaded, and what the file says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import ExtractConfig
from ..exchange.keypoints import KeypointFile
from ..pose import PoseEstimator, gpu_provider_available
from ..progress import Progress
from ..store import FeatureStore, StoreHeader
from .inference import LoadedBackbone


@dataclass(frozen=True)
class Models:
    """What a run computes with, loaded."""

    weights: LoadedBackbone
    pose: PoseEstimator | None
    """None where all keypoints come from a file."""
    keypoints: KeypointFile | None
    identity: Mapping[str, object]
    """``ExtractConfig.identity()``."""
    pose_source: Mapping[str, object]
    notes: tuple[str, ...]
    """What the user must know of them."""

    def header(self, compiled: str) -> StoreHeader:
        """What the file says of them; ``compiled`` is :attr:`Network.compiled`."""
        identity = {**self.identity, "compiled": compiled}
        return StoreHeader(identity, self.weights.identity, self.pose_source)

    def compiled_before(self, out: Path) -> str | None:
        """How the features that are in ``out`` were computed; None where there is no file.

        Raises:
            StoreMismatch: with other options or models.
        """
        if not out.exists():
            return None
        with FeatureStore(out) as before:
            compiled = str(before.config.get("compiled", ""))
            self.header(compiled).require_same(
                {name: str(value) for name, value in before.attributes.items()}, out
            )
        return compiled


def pose_device(config: ExtractConfig, device: torch.device, progress: Progress) -> str:
    """Where pose models run: the network's device, where onnxruntime can use it too.

    A GPU asked for by name is insisted on; the pose stage raises if it cannot be had.
    """
    if config.device == "auto" and device.type == "cuda" and not gpu_provider_available():
        progress.warning(
            "pose models run on the CPU: this onnxruntime has no GPU support "
            "(pip install onnxruntime-gpu)"
        )
        return "cpu"
    return str(device)
