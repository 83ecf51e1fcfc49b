"""Features out, in the files that those who train on them read; annotations in."""

from .annotations import Annotations, Event, VideoAnnotation, read_annotations
from .export import FORMATS, Exported, export_features

__all__ = [
    "FORMATS",
    "Annotations",
    "Event",
    "Exported",
    "VideoAnnotation",
    "export_features",
    "read_annotations",
]
