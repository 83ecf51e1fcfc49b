"""The HDF5 file of features: written in transactions, gone on with after any end, read back.

::

    attrs: schema_version, tool, created; config, weights, pose_source (JSON); in a file made by
           merge --link also parts (JSON), which :mod:`links` describes
    /videos/<id>/rgb_pooled  (W,432) f32         pose_pooled (W,216) f32
                /rgb         (W,432,16,7,7) f16  pose (W,216,48,7,7) f16   one chunk a window
                /rgb_tokens  (W,16,432) f32      pose_tokens (W,48,216) f32
                /attention   (W,16,7,7) f16      what RGB features were multiplied by, less one
                /frames      (W,48) i32          times (W,3) f64: start, centre, end in seconds
                /valid (W,) f32   person (W,) f32   box (W,4) i32
                /keypoints   (M,T,17,2) f32      keypoint_scores (M,T,17) f16; row m is one person
      attrs: fps_num, fps_den, duration, num_frames, num_windows, height, width, feat_stride,
             window_frames, offset_frames, source, source_size, source_mtime_ns, notes,
             person_share, clipped, complete; of parts label, segment_start, segment_end
      every array: checksum, the crc32 of its bytes in C order (of rgb and pose: see run_on)
    /failures: a row a failed video: id, stage, message, size, mtime_ns

A video counts once ``complete`` is true. An id may contain "/": its group then lies in another
one, which may be a video itself. ``h5["videos"][id]`` always works; the one thing refused is an id
that ends in the name of an array where its parent is a video too, such as ``a`` beside ``a/rgb``.

Space that a dropped video leaves inside the file is not used again; ``h5repack`` gives it back.
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
