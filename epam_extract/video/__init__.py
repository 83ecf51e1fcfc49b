"""Find videos, here or at addresses, measure them, read their frames.

Order never depends on the file system, frames are exact and in order, and nothing a file does can
hang or crash the run: PyAV and decord work in processes of their own, watched and reused.
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
