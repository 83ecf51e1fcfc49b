"""The HDF5 file of features: written in transactions, resumed after any end, read back.

:mod:`schema` lists what lies in it. Space that a dropped video leaves inside the file is not used
again; ``h5repack`` gives it back.
"""

from .feature_file import stored_states
from .feature_store import FeatureStore, StoredVideo
from .header import StoreHeader
from .stored_array import StoredArray
from .video_states import StoredFailure, StoredProgress, StoredVideos
from .writer import StoreWriter, drop_videos, require_no_links

__all__ = [
    "FeatureStore",
    "StoreHeader",
    "StoreWriter",
    "StoredArray",
    "StoredFailure",
    "StoredProgress",
    "StoredVideo",
    "StoredVideos",
    "drop_videos",
    "require_no_links",
    "stored_states",
]
