"""What a file of features holds: every array, every attribute, and what it means.

The one table of it. The writer, the checks, ``info``, the summary of a run, the estimate of the
disk space, the HTML report and README draw from it. Nothing here knows HDF5.

A video counts once its attribute ``complete`` is true. An id may contain "/": its group then lies
inside another one, which may be a video itself. ``h5["videos"][id]`` always works. One thing is
refused: an id that ends in the name of an array where its parent is a video too, such as ``a/rgb``
next to ``a``.

Every array has an attribute ``checksum``, the crc32 of its bytes in C order; of full maps, which
are most of the file, see :func:`store.checks.extend_checksum`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .config import (
    GRID_SIZE,
    NUM_KEYPOINTS,
    POSE_CHANNELS,
    POSE_FRAMES,
    RGB_CHANNELS,
    RGB_FRAMES,
    ExtractConfig,
)

SCHEMA_VERSION = 1
AXES = {"W": "windows", "M": "people", "T": "frames"}
"""What the letters among an array's axes stand for."""
DTYPES = {"f16": "<f2", "f32": "<f4"}
"""Of full maps, by the value of ``--dtype``."""


@dataclass(frozen=True)
class Array:
    """One of a video's arrays."""

    name: str
    axes: tuple[str | int, ...]
    """A letter of ``AXES``, or a length."""
    dtype: str
    """numpy's, of fixed byte order. Of full maps the option decides; here it is the default."""
    meaning: str
    feature: str | None = None
    """The value of ``--features`` that adds it; None: every file has it."""
    known_at_end: bool = False
    """Whether it depends on where the video ends, and is written then."""

    @property
    def item(self) -> tuple[int, ...]:
        """Shape of what there is per window, or per person and frame."""
        return tuple(length for length in self.axes if isinstance(length, int))

    @property
    def item_bytes(self) -> int:
        """Bytes of it, uncompressed."""
        return math.prod(self.item) * np.dtype(self.dtype).itemsize

    @property
    def dtype_name(self) -> str:
        """``float16`` and the like."""
        return np.dtype(self.dtype).name


@dataclass(frozen=True)
class Field:
    """Attributes of one meaning, or a column of the table of failures."""

    names: tuple[str, ...]
    kind: type
    """int, float, bool or str."""
    meaning: str
    required: bool = True
    """Whether every complete video has it, in files of earlier versions too."""


CELLS = (GRID_SIZE, GRID_SIZE)
ARRAYS = (
    Array("rgb_pooled", ("W", RGB_CHANNELS), "<f4", "pooled RGB features", "pooled"),
    Array("pose_pooled", ("W", POSE_CHANNELS), "<f4", "pooled pose features", "pooled"),
    Array("rgb", ("W", RGB_CHANNELS, RGB_FRAMES, *CELLS), "<f2", "RGB feature maps", "full"),
    Array("pose", ("W", POSE_CHANNELS, POSE_FRAMES, *CELLS), "<f2", "pose feature maps", "full"),
    Array(
        "rgb_tokens",
        ("W", RGB_FRAMES, RGB_CHANNELS),
        "<f4",
        "RGB features per frame, pooled over space",
        "tokens",
    ),
    Array(
        "pose_tokens",
        ("W", POSE_FRAMES, POSE_CHANNELS),
        "<f4",
        "pose features per frame, pooled over space",
        "tokens",
    ),
    Array(
        "attention",
        ("W", RGB_FRAMES, *CELLS),
        "<f2",
        "where the pose stream directs the RGB stream, 0 to 1",
        "attention",
    ),
    Array("frames", ("W", POSE_FRAMES), "<i4", "indices of the window's frames"),
    Array("times", ("W", 3), "<f8", "start, centre, end in seconds", known_at_end=True),
    Array("valid", ("W",), "<f4", "share of the window inside the video", known_at_end=True),
    Array("person", ("W",), "<f4", "share of the window's frames with a person"),
    Array("box", ("W", 4), "<i4", "RGB crop in pixels: x1, y1, x2, y2"),
    Array(
        "keypoints", ("M", "T", NUM_KEYPOINTS, 2), "<f4", "x, y in pixels, of M people in T frames"
    ),
    Array(
        "keypoint_scores",
        ("M", "T", NUM_KEYPOINTS),
        "<f2",
        "score of each keypoint, 0 where there is none",
    ),
)
"""Of each video, in the order in which they are written."""

ROWS = {array.name: array for array in ARRAYS if array.feature is None and array.axes[0] == "W"}
"""Those with a row per window that every file has."""
TRACKS = {array.name: array for array in ARRAYS if array.axes[0] == "M"}
"""Those of the keypoints: people by frames."""
AT_THE_END = tuple(array.name for array in ARRAYS if array.known_at_end)
"""Of the rows, those that depend on the video's end: written once it is known."""
FULL_MAPS = tuple(array.name for array in ARRAYS if array.feature == "full")
"""One chunk per window; compressed if asked for."""
POOLED = tuple(array.name for array in ARRAYS if array.feature == "pooled")
ARRAY_NAMES = frozenset(array.name for array in ARRAYS)
"""What a video's group may hold of its own; anything else in it is another video's folder."""

FILE_ATTRIBUTES = (
    Field(("schema_version",), int, f"{SCHEMA_VERSION}, the version of this layout"),
    Field(("tool", "created"), str, "name and version of what wrote it, and when"),
    Field(("config", "weights", "pose_source"), str, "what the numbers depend on, as JSON"),
    Field(("parts",), str, "of a file made by merge --link: its parts, as JSON", required=False),
    Field(("attributes_checksum",), int, "crc32 of the other attributes", required=False),
)
VIDEO_ATTRIBUTES = (
    Field(("fps_num", "fps_den"), int, "frames per second, as a fraction"),
    Field(("duration",), float, "seconds"),
    Field(("num_frames", "num_windows"), int, "frames decoded (T), windows (W)"),
    Field(("height", "width"), int, "of the frames, in pixels"),
    Field(("feat_stride",), float, "frames between windows"),
    Field(("window_frames",), float, "frames that a window covers"),
    Field(("offset_frames",), float, "frame at the centre of the first window"),
    Field(("source",), str, "path or address of the video's file"),
    Field(
        ("source_size", "source_mtime_ns"),
        int,
        "size and modification time of that file when it was read",
    ),
    Field(("label",), str, "of a labelled segment", required=False),
    Field(("segment_start", "segment_end"), float, "of a segment, in seconds", required=False),
    Field(("notes",), str, "damage and oddities found while reading it", required=False),
    Field(("person_share",), float, "mean of the array person", required=False),
    Field(("clipped",), int, "values beyond float16's range, which were clipped", required=False),
    Field(
        ("complete",),
        bool,
        "true once all of it is stored; until then ignore the video",
        required=False,
    ),
    Field(("attributes_checksum",), int, "crc32 of the other attributes", required=False),
)
FAILURE_COLUMNS = (
    Field(("id",), str, "of a video that failed"),
    Field(("stage", "message"), str, "where and why"),
    Field(("size", "mtime_ns"), int, "of its file: the video is tried again once these change"),
)


def window_arrays(config: Mapping[str, object]) -> dict[str, Array]:
    """Arrays with a row per window in a file of this configuration, by name.

    ``config`` is ``ExtractConfig.identity()``, of which ``features`` and ``stored_dtype`` count.
    Raises ValueError where it lacks one of them.
    """
    dtype = DTYPES.get(str(config.get("stored_dtype")))
    features = config.get("features")
    if dtype is None or not isinstance(features, Sequence) or isinstance(features, str):
        raise ValueError(f"config names no features, or no dtype of them: {dict(config)!r}"[:300])
    return {
        array.name: replace(array, dtype=dtype) if array.name in FULL_MAPS else array
        for array in ARRAYS
        if array.axes[0] == "W" and (array.feature is None or array.feature in features)
    }


def feature_arrays(config: Mapping[str, object]) -> dict[str, Array]:
    """Of :func:`window_arrays`, those that the network computes."""
    return {name: array for name, array in window_arrays(config).items() if name not in ROWS}


def video_arrays(config: Mapping[str, object]) -> dict[str, Array]:
    """All arrays of a video in a file of this configuration, by name."""
    return {**window_arrays(config), **TRACKS}


def shape_text(axes: Sequence[str | int]) -> str:
    """``(W, 432)``."""
    return f"({', '.join(map(str, axes))}{',' if len(axes) == 1 else ''})"


def kinds(fields: Iterable[Field], *, required: bool = False) -> dict[str, type]:
    """Name -> type of attributes; with ``required`` of those that are never missing."""
    return {
        name: field.kind
        for field in fields
        if field.required or not required
        for name in field.names
    }


def meaning(name: str) -> str:
    """What an array holds."""
    return next(array.meaning for array in ARRAYS if array.name == name)


def as_text() -> str:
    """The file as README shows it: a line per array and per meaning of attributes."""
    lines = ["attributes of the file"]
    lines += _columns((", ".join(field.names), field.meaning) for field in FILE_ATTRIBUTES)
    lines += ["/videos/<id>/: arrays of each video, of W windows, M people and T frames"]
    lines += _columns(
        (array.name, shape_text(array.axes), array.dtype_name, _with_option(array))
        for array in ARRAYS
    )
    lines += ["/videos/<id>/: attributes of each video"]
    lines += _columns((", ".join(field.names), field.meaning) for field in VIDEO_ATTRIBUTES)
    lines += ["/failures: a row per failed video"]
    lines += _columns((", ".join(field.names), field.meaning) for field in FAILURE_COLUMNS)
    return "\n".join(lines)


def _with_option(array: Array) -> str:
    extra = array.feature is not None and array.feature not in ExtractConfig.features
    return f"{array.meaning} (--features {array.feature})" if extra else array.meaning


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    listed = list(rows)
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in listed]
