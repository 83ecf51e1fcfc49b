"""What a run computes with, once it is loaded, and what the file says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .exchange.keypoints import KeypointFile
from .network import LoadedBackbone
from .pose import PoseEstimator
from .store import FeatureStore, StoreHeader


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
