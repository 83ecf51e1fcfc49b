"""Keypoints that people already have, in the formats they have them in: ``--keypoints``."""

from ...errors import KeypointsFailed
from .matching import Matches
from .source import KeypointFile, open_keypoints
from .video import VideoKeypoints

__all__ = ["KeypointFile", "KeypointsFailed", "Matches", "VideoKeypoints", "open_keypoints"]
