"""EPAM-Net's backbone. Needs torch alone, so the folder can be copied into another project
(with ``errors.py`` beside it).
"""

from .checkpoint import weights_identity
from .epam import (
    ATTENTION_TYPES,
    CBAMSpatialEfficientTemporalAttention,
    EPAMBackbone,
    SpatialTemporalAttention,
)
from .heads import EPAMHeads, load_heads
from .weights import load_stream_weights, load_weights, random_weights
from .x3d import X3DTemporalShift, X3DTemporalShiftPose

__all__ = [
    "ATTENTION_TYPES",
    "CBAMSpatialEfficientTemporalAttention",
    "EPAMBackbone",
    "EPAMHeads",
    "SpatialTemporalAttention",
    "X3DTemporalShift",
    "X3DTemporalShiftPose",
    "load_heads",
    "load_stream_weights",
    "load_weights",
    "random_weights",
    "weights_identity",
]
