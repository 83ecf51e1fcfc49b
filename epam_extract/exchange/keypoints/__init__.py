"""Read existing keypoints (``--keypoints``) in the formats of common tools."""

from ...errors import KeypointsFailed
from .matching import Matches
from .source import KeypointFile, open_keypoints
from .video import VideoKeypoints

__all__ = ["KeypointFile", "KeypointsFailed", "Matches", "VideoKeypoints", "open_keypoints"]
