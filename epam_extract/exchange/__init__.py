"""Read annotations and keypoints; export features in the formats that training code reads."""

from .annotations import Annotations, Event, VideoAnnotation, read_annotations
from .export import FORMATS, Exported, export_features
from .keypoints import KeypointFile, Matches, open_keypoints

__all__ = [
    "FORMATS",
    "Annotations",
    "Event",
    "Exported",
    "KeypointFile",
    "Matches",
    "VideoAnnotation",
    "export_features",
    "open_keypoints",
    "read_annotations",
]
