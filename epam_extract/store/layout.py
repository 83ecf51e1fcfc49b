"""What lies where in the file of features: names, shapes, dtypes, checks. No HDF5 here.

The layout itself is described in :mod:`store`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import EpamExtractError, MachineError, StoreError, StoreMismatch, VideoError
from ..records import PoseTrack, RemoteFile, Video, VideoFailure, file_stamp, readable
from ..schema import FULL_MAPS, Array

LONGEST_ID = 1 << 14  # bytes; paths end at 4096, of which each may be escaped


@dataclass(frozen=True)
class StoreHeader:
    """What must be the same for every video of a file; JSON-ready."""

    config: Mapping[str, object]
    """``ExtractConfig.identity()``."""
    weights: Mapping[str, object]
    pose_source: Mapping[str, object]

    def as_json(self) -> dict[str, str]:
        """Attribute name -> JSON text."""
        parts = {"config": self.config, "weights": self.weights, "pose_source": self.pose_source}
        return {name: json.dumps(part, sort_keys=True, default=str) for name, part in parts.items()}

    def require_same(self, stored: Mapping[str, str], path: Path) -> None:
        """Raise StoreMismatch, naming every field that differs, unless ``stored`` is as we are."""
        lines = [
            f"{key}: {theirs} in the file, {ours} now"
            for key, ours, theirs in self.differences(stored)
        ]
        if lines:
            raise StoreMismatch(
                f"{path} was made with other settings ({'; '.join(lines)}). Use the file's "
                "settings to resume it, pass --overwrite to replace it, or choose another --out."
            )

    def differences(self, stored: Mapping[str, str]) -> list[tuple[str, object, object]]:
        """Every field that differs: its name, our value, and the one in ``stored``, as JSON."""
        found = []
        for name, text in self.as_json().items():
            theirs, ours = _flat(json.loads(stored[name]), name), _flat(json.loads(text), name)
            for key in sorted(ours.keys() | theirs.keys()):
                one, other = ours.get(key, "nothing"), theirs.get(key, "nothing")
                if one != other:
                    found.append((key, one, other))
        return found


def _flat(value: object, name: str) -> dict[str, object]:
    if isinstance(value, dict):
        return {
            k: v for key, part in value.items() for k, v in _flat(part, f"{name}.{key}").items()
        }
    return {name: value}


@dataclass(frozen=True)
class StoredProgress:
    """How far the file has a video, by what is committed."""

    complete: bool
    windows: int
    """Rows of features."""
    frames: int
    """Frames whose keypoints are there."""
    size: int
    """Bytes of the video's file when it was read, and its time of change."""
    mtime_ns: int
    label: str = ""
    """Of a complete one that has a label."""


@dataclass(frozen=True)
class StoredFailure:
    """A video that failed, as the file remembers it."""

    stage: str
    message: str
    size: int
    mtime_ns: int

    def same_file(self, size: int, mtime_ns: int) -> bool:
        """Whether the video's file is still the one that failed."""
        return (self.size, self.mtime_ns) == (size, mtime_ns)

    @classmethod
    def of(cls, failure: VideoFailure) -> StoredFailure:
        """With size and time of change of the file as it is now; 0 where it cannot be told."""
        size = mtime_ns = 0
        if isinstance(failure.path, RemoteFile):
            size, mtime_ns = failure.path.size, failure.path.mtime_ns
        elif failure.path is not None:
            with contextlib.suppress(OSError, ValueError):
                size, mtime_ns = file_stamp(failure.path)
        return cls(failure.stage, readable(failure.message), size, mtime_ns)


@dataclass
class Draft:
    """A video that is not complete: how far it is, and what waits for the next commit."""

    new: bool = False
    """Whether the file has nothing of it yet."""
    attributes: dict[str, object] = field(default_factory=dict)
    """That wait for the next commit."""
    windows: int = 0
    """Rows committed or waiting."""
    frames: int = 0
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)
    tracks: list[PoseTrack] = field(default_factory=list)
    checksums: dict[str, int] = field(default_factory=dict)
    """Of each array of rows, over those committed or waiting."""
    clipped: int = 0
    """Values clipped to the stored dtype's range."""
    finished: bool = False

    @property
    def waiting(self) -> int:
        """Bytes that the next commit writes."""
        rows = sum(part.nbytes for parts in self.rows.values() for part in parts)
        tracks = sum(t.keypoints.nbytes + t.keypoint_scores.nbytes for t in self.tracks)
        return rows + tracks

    @property
    def touched(self) -> bool:
        """Whether the next commit has anything to do here."""
        return bool(self.new or self.rows or self.tracks or self.finished)

    def written(self) -> None:
        """Forget what was committed."""
        self.new = False
        self.attributes, self.rows, self.tracks = {}, {}, []


def source_attributes(path: Path | RemoteFile, size: int, mtime_ns: int) -> dict[str, object]:
    """Which file a video is, and of when."""
    return {"source": readable(str(path)), "source_size": size, "source_mtime_ns": mtime_ns}


def video_attributes(
    video: Video, num_windows: int, grid: Mapping[str, float]
) -> dict[str, object]:
    """The attributes of a complete video's group, but for ``complete`` itself."""
    attributes: dict[str, object] = {
        **source_attributes(video.remote or video.path, video.size, video.mtime_ns),
        "fps_num": video.fps.numerator,
        "fps_den": video.fps.denominator,
        "duration": video.duration,
        "num_frames": video.num_frames,
        "num_windows": num_windows,
        "height": video.height,
        "width": video.width,
        "feat_stride": float(grid["feat_stride"]),
        "window_frames": float(grid["window_frames"]),
        "offset_frames": float(grid["offset_frames"]),
    }
    if video.notes:
        attributes["notes"] = "; ".join(video.notes)
    if video.segment is not None and video.segment.label:
        attributes["label"] = readable(video.segment.label)
    if video.segment is not None and not video.segment.whole:
        attributes["segment_start"] = video.segment.start
        attributes["segment_end"] = video.segment.end
    return attributes


def attributes_checksum(attributes: Mapping[str, object]) -> int:
    """crc32 of all attributes but this one: JSON with sorted keys, as ``json.dumps`` writes it."""
    covered = {k: value for k, value in attributes.items() if k != "attributes_checksum"}
    return zlib.crc32(json.dumps(covered, sort_keys=True).encode())


def check_id(video_id: str) -> None:
    """Raise VideoError unless the id can be a path inside an HDF5 file, and below a folder."""
    wrong = id_problem(video_id)
    if wrong:
        raise unstorable(wrong)


def id_problem(video_id: str) -> str | None:
    """What is wrong with an id, None if nothing is."""
    try:
        length = len(video_id.encode())
    except UnicodeEncodeError:
        shown = video_id.encode(errors="backslashreplace").decode()
        return f"{shown}: its name is not valid UTF-8; rename the file"
    parts = video_id.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or "\0" in video_id:
        return (
            f"{video_id!r}: not a name that HDF5 can hold: it is a path of names, none of them "
            "empty or of dots alone; rename the file or its folder"
        )
    if length > LONGEST_ID:
        return f"{video_id[:40]}...: a name of {length} bytes, at most {LONGEST_ID} are stored"
    return None


def check_rows(
    video_id: str, arrays: Mapping[str, np.ndarray], expected: Mapping[str, Array]
) -> dict[str, np.ndarray]:
    """``arrays`` as they go to disk, in the order of ``expected``.

    Raises VideoError where one is missing or unknown, has another shape or holds NaN or infinity.
    """
    if arrays.keys() != expected.keys():
        raise unstorable(
            f"{video_id}: expected the arrays {', '.join(expected)}, got {', '.join(arrays)}"
        )
    length = len(next(iter(arrays.values())))
    result = {}
    for name, spec in expected.items():
        array, shape = arrays[name], (length, *spec.item)
        if array.shape != shape:
            raise unstorable(f"{video_id}: {name} has shape {array.shape}, expected {shape}")
        with np.errstate(over="ignore"):
            result[name] = np.ascontiguousarray(array, dtype=spec.dtype)
        if not finite(result[name]):
            raise unstorable(
                f"{video_id}: {name} holds NaN, or values beyond the range of "
                f"{spec.dtype_name}; --dtype f32 has more range, --precision float32 "
                "computes with more"
            )
    return result


def unstorable(message: str) -> VideoError:
    """A VideoError of the stage ``write``."""
    error = VideoError(message)
    error.stage = "write"
    return error


CACHE_BYTES = 1 << 18  # looked at twice, so better still in the cache the second time
EXPONENT = {2: 0x7C00, 4: 0x7F800000, 8: 0x7FF0000000000000}  # the bits that mark NaN and infinity


def finite(array: np.ndarray) -> bool:
    """Whether no value is NaN or infinite; 20 times as fast as numpy's isfinite for f16."""
    if array.dtype.kind != "f" or not array.size:
        return True
    width = array.dtype.itemsize
    bits, sign = EXPONENT[width], 1 << (8 * width - 1)
    flat = np.ascontiguousarray(array).reshape(-1)
    step = CACHE_BYTES // width
    return all(
        part.view(f"<i{width}").max() < bits and part.view(f"<u{width}").max() < sign | bits
        for part in (flat[start : start + step] for start in range(0, flat.size, step))
    )


def run_on(checksum: int, name: str, rows: np.ndarray) -> int:
    """The checksum of an array, going on from ``checksum`` over its next rows.

    It is the crc32 of the bytes in C order. Of full maps, which are most of the file, it is the
    crc32 of the sums of each window's 64-bit words, as little-endian 64-bit numbers: crc32 alone
    would cost a third of the writing.
    """
    rows = np.ascontiguousarray(rows)
    if name in FULL_MAPS and rows.size:
        rows = rows.reshape(len(rows), -1).view("<u8").sum(1, dtype="<u8")
    return zlib.crc32(rows.data, checksum)


MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EFBIG, errno.ENODEV}


def explain(error: OSError, path: Path) -> EpamExtractError:
    """One sentence for an error of the operating system while ``path`` is written or opened."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            f"{path}: the disk is full ({reason}); everything committed stays. Free some space, "
            "or use another disk for a file with less in it (--no-full, --compression, larger "
            "--stride), then run the same command again."
        )
    if error.errno in MACHINE_ERRORS:
        return MachineError(
            f"{path}: the disk failed ({reason}); everything committed stays. Once it is well, run "
            "the same command again."
        )
    where = path.parent
    sentences = {
        errno.EISDIR: f"{path}: is a directory; name a file, such as {path / 'feats.h5'}",
        errno.EROFS: f"{path}: its file system is read-only; choose another output file",
        errno.EACCES: f"{path}: you may not write there; change the permissions of the file or of "
        f"{where}, or choose another output file",
        errno.ENOTDIR: f"{path}: {where} is not a directory; choose another output file",
        errno.ENAMETOOLONG: f"{path}: the name is too long for this file system",
        errno.ENOENT: f"{path}: there is no such file",
    }
    sentences[errno.EPERM] = sentences[errno.EACCES]
    sentences[errno.EEXIST] = sentences[errno.ENOTDIR]  # of making the folder
    return StoreError(sentences.get(error.errno or 0, f"{path}: {reason}"))
