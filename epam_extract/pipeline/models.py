"""The models and keypoints of a run: loaded, announced, and described in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config import ExtractConfig
from ..exchange.keypoints import KeypointFile, open_keypoints
from ..pose import PoseEstimator, open_pose_model
from ..store import FeatureStore, StoreHeader
from .context import RunContext
from .device import pose_device
from .inference import LoadedBackbone, load_backbone


@dataclass(frozen=True)
class Models:
    """The models of a run."""

    weights: LoadedBackbone
    pose: PoseEstimator | None
    """None if all keypoints come from a file."""
    keypoints: KeypointFile | None
    config: ExtractConfig
    pose_source: Mapping[str, object]
    """Where keypoints come from, JSON-ready."""
    notes: tuple[str, ...]
    """What the user must know about them."""

    def header(self, compiled: str) -> StoreHeader:
        """The file's header; ``compiled`` is :attr:`BackboneRunner.compiled`."""
        identity = {**self.config.identity(), "compiled": compiled}
        return StoreHeader(identity, self.weights.identity, self.pose_source)

    def compiled_before(self, out: Path) -> str | None:
        """How the features in ``out`` were compiled; None if there is no file.

        Raises:
            StoreMismatch: they were made with other options or models.
        """
        if not out.exists():
            return None
        with FeatureStore(out) as before:
            compiled = str(before.config.get("compiled", ""))
            self.header(compiled).require_same(
                {name: str(value) for name, value in before.attributes.items()}, out
            )
        return compiled


def load_models(run: RunContext) -> Models:
    """Load weights, pose models and keypoints, and announce what the user must know about them.

    Raises:
        ConfigError, CheckpointError, PoseModelError, KeypointsError: one of them cannot be loaded.
    """
    config = run.config
    weights = load_backbone(config.weights)
    keypoints = open_keypoints(config.keypoints) if config.keypoints is not None else None
    pose = None
    if keypoints is None or config.keypoints_missing == "estimate":
        pose = open_pose_model(
            config.pose,
            device=pose_device(config, run.device, run.progress),
            threads=1,
            on_download=run.progress.download,
        )
    pose_source: dict[str, object] = {}
    for source in (pose, keypoints):
        if source is not None:
            pose_source |= source.source
    announced = (weights.announcement, pose.announcement if pose is not None else None)
    notes = tuple(note for note in announced if note)
    for note in notes:
        run.progress.message(note)
    return Models(weights, pose, keypoints, config, pose_source, notes)
