"""EPAM-Net features of whole video collections, and the backbone that makes them.

The names in ``__all__`` load on first use, so importing the package is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "EPAMBackbone": "model",
    "X3DTemporalShift": "model",
    "X3DTemporalShiftPose": "model",
    "CBAMSpatialEfficientTemporalAttention": "model",
    "load_heads": "model",
    "load_weights": "model",
    "fuse": "model.fast",
    "extract_features": "pipeline.run",
    "ExtractConfig": "config",
    "WindowConfig": "config",
    "PoseConfig": "config",
    "WeightsConfig": "config",
    "FeatureStore": "store",
    "Summary": "progress.records",
    "EpamExtractError": "errors",
    "ConfigError": "errors",
    "CheckpointError": "errors",
    "PoseModelError": "errors",
    "VideoError": "errors",
    "StoreError": "errors",
    "MachineError": "errors",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from .config import ExtractConfig, PoseConfig, WeightsConfig, WindowConfig
    from .errors import (
        CheckpointError,
        ConfigError,
        EpamExtractError,
        MachineError,
        PoseModelError,
        StoreError,
        VideoError,
    )
    from .model import (
        CBAMSpatialEfficientTemporalAttention,
        EPAMBackbone,
        X3DTemporalShift,
        X3DTemporalShiftPose,
        load_heads,
        load_weights,
    )
    from .model.fast import fuse
    from .pipeline.run import extract_features
    from .progress.records import Summary
    from .store import FeatureStore


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
