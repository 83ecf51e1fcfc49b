"""Find videos, local or remote, measure them and read their frames.

The order never depends on the file system, frames are exact and in order, and no file can hang or
crash the run: PyAV and decord run in separate processes, which are watched and reused.
"""

from .decode import Header
from .find import SUFFIXES, FoundVideo, find_videos
from .frames import OpenVideo, probe, read_frames, read_header
from .views import OpenView, open_video
from .worker_pool import close_workers

__all__ = [
    "SUFFIXES",
    "FoundVideo",
    "Header",
    "OpenVideo",
    "OpenView",
    "close_workers",
    "find_videos",
    "open_video",
    "probe",
    "read_frames",
    "read_header",
]
