"""The HDF5 file of features: written in transactions, resumed after any end, read back.

:mod:`schema` lists what lies in it. Space that a dropped video leaves inside the file is not used
again; ``h5repack`` gives it back.
"""

from .layout import StoredFailure, StoredProgress, StoreHeader
from .lazy import StoredArray
from .states import StoredVideos, stored_states
from .stored import FeatureStore, StoredVideo
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
