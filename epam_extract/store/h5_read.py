"""Reading the HDF5 file: groups of videos, attributes, arrays in blocks, failures."""

from __future__ import annotations

import contextlib
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from ..config import COMPRESSIONS
from ..errors import EpamExtractError, StoreError
from ..schema import ARRAY_NAMES, FILE_ATTRIBUTES, SCHEMA_VERSION, kinds, window_arrays
from .checks import id_problem
from .h5_objects import (
    address,
    attribute_names,
    child,
    children,
    find,
    find_array,
    get_attribute,
    get_attributes,
    get_text,
    open_child,
)
from .video_states import StoredFailure, StoredProgress

BLOCK_BYTES = 8 << 20  # read at a time where an array may be larger than memory
FAILURES_AT_ONCE = 64  # rows of their table, read at a time
SIGNATURE = b"\x89HDF\r\n\x1a\n"
END_ADDRESS = {0: 40, 1: 44, 2: 28, 3: 28}  # where a superblock of this version states the end
# What h5py raises on a damaged file.
BROKEN = (
    *(OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError),
    AttributeError,
)

log = logging.getLogger(__name__)


class Missing(KeyError):
    """What was asked for is not in the file, and the file is fine."""


@contextlib.contextmanager
def as_store_error(path: Path, *, whole: bool = False) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into a StoreError; ``whole``: while opening it."""
    try:
        yield
    except (EpamExtractError, Missing):
        raise
    except BROKEN as error:
        what = first_line(error)
        if whole:
            raise StoreError(
                f"{path}: is damaged as a whole and cannot be read ({what}). Restore it from a "
                "copy, or delete it and run again."
            ) from error
        raise StoreError(
            f"{path}: a part of it is damaged ({what}). epam-extract verify lists the videos "
            "concerned, and --repair drops them; or restore the file from a copy."
        ) from error


def hdf5_length(head: bytes, *, path: Path) -> int:
    """The length of an HDF5 file as its first bytes state it, which is what :mod:`journal` needs.

    Raises StoreError where they are no HDF5 superblock.
    """
    version = head[8]
    if head[:8] != SIGNATURE or version not in END_ADDRESS:
        raise StoreError(
            f"{path}: is not an HDF5 file; expected a feature file, or another name for the output"
        )
    at = END_ADDRESS[version]
    return int.from_bytes(head[at : at + 8], "little")


def video_group(h5: h5py.File, video_id: str) -> h5py.Group | None:
    """The group of a video, complete or not; None if it does not exist."""
    group = find(h5, f"videos/{video_id}")
    return group if isinstance(group, h5py.Group) and is_video(group) else None


def is_video(group: h5py.Group) -> bool:
    """Whether this is a video's group, not just a folder of videos."""
    return h5py.h5a.exists(group.id, b"complete")


def has_checksum(holder: h5py.Group) -> bool:
    """Whether the attributes of a video, or of the file, have a checksum."""
    return h5py.h5a.exists(holder.id, b"attributes_checksum")


def walk_videos(
    h5: h5py.File, *, damaged: dict[str, str] | None = None
) -> Iterator[tuple[str, h5py.Group, bool]]:
    """Every video: its id, its group, and whether it is complete. Groups may be nested.

    What cannot be opened is skipped; ``damaged`` gets its id and the reason. Each group is visited
    once, even if it contains itself.
    """
    seen = {address(h5, "videos")}
    folders = [("", videos_group(h5), False)]
    while folders:
        prefix, folder, own = folders.pop()
        try:
            found = children(folder, but=ARRAY_NAMES if own else ())
        except BROKEN as error:
            note_damage(damaged, prefix.rstrip("/"), error)
            continue
        for name, kind, where in found:
            video_id = prefix + name
            try:
                group = open_child(folder, name, kind)
                if not isinstance(group, h5py.Group):
                    note_damage(damaged, prefix.rstrip("/"), ValueError("its attributes are lost"))
                    break
                wrong = id_problem(video_id)
                if where in seen or wrong:
                    raise ValueError(wrong or "it is another video, or contains itself")
                seen.add(where)
                video = is_video(group)
                if video:
                    yield video_id, group, is_complete(group)
                folders.append((f"{video_id}/", group, video))
            except BROKEN as error:
                note_damage(damaged, video_id, error)


def videos_group(h5: h5py.File) -> h5py.Group:
    """The group of all videos; raises KeyError or ValueError if there is no such group."""
    group = child(h5, "videos")
    if not isinstance(group, h5py.Group):
        raise ValueError("/videos is not a group")
    return group


def note_damage(damaged: dict[str, str] | None, video_id: str, error: BaseException) -> None:
    """Add a video to ``damaged``; without one, log it."""
    if damaged is None:
        log.warning("%s is damaged and skipped: %s", video_id, error)
    else:
        damaged[video_id] = first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an HDF5 error, without its stack."""
    return str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__


def is_complete(group: h5py.Group) -> bool:
    """Whether a video is complete."""
    return bool(get_attribute(group, "complete", np.bool_))


def read_progress(group: h5py.Group) -> StoredProgress:
    """How much of a video is stored."""
    if is_complete(group):
        complete = True
        windows = int(get_attribute(group, "num_windows"))
        frames = int(get_attribute(group, "num_frames"))
    else:
        complete = False
        windows = find_array(group, "frames").shape[0]
        frames = find_array(group, "keypoints").shape[1]
    return StoredProgress(
        complete=complete,
        windows=windows,
        frames=frames,
        size=int(get_attribute(group, "source_size")),
        mtime_ns=int(get_attribute(group, "source_mtime_ns")),
        label=get_text(group, "label") if "label" in attribute_names(group) else "",
    )


def read_failures(h5: h5py.File) -> dict[str, StoredFailure]:
    """The failures by video id, in the order of the table.

    Raises ValueError if the texts are longer than the file: in a forged file rows can share one.
    """
    table = find_array(h5, "failures")
    left = h5.id.get_filesize()
    failures = {}
    for start in range(0, len(table), FAILURES_AT_ONCE):
        for row in table[start : start + FAILURES_AT_ONCE]:
            video_id, stage, message = (row[name] for name in ("id", "stage", "message"))
            left -= len(video_id) + len(stage) + len(message)
            if left < 0:
                raise ValueError("the list of failures claims more than the file can hold")
            failures[video_id.decode()] = StoredFailure(
                stage.decode(), message.decode(), int(row["size"]), int(row["mtime_ns"])
            )
    return failures


def array_checksum(array: h5py.Dataset) -> int:
    """crc32 of an array's bytes in C order, read in blocks."""
    value = 0
    for span in block_slices(array):
        value = zlib.crc32(np.ascontiguousarray(array[span]).data, value)
    return value


def block_slices(array: h5py.Dataset) -> Iterator[tuple[slice, ...]]:
    """Slices of at most ``BLOCK_BYTES`` each that cover an array in C order."""
    shape, item = array.shape, array.dtype.itemsize
    if 0 in shape:
        return
    row = item * int(np.prod(shape[1:], dtype=np.int64))
    if row <= BLOCK_BYTES or len(shape) == 1:
        step = max(1, BLOCK_BYTES // row)
        for start in range(0, shape[0], step):
            yield (slice(start, start + step),)
        return
    inner = max(1, BLOCK_BYTES // (row // shape[1]))
    for index in range(shape[0]):
        for start in range(0, shape[1], inner):
            yield slice(index, index + 1), slice(start, start + inner)


def video_array(group: h5py.Group, name: str) -> h5py.Dataset:
    """An array of a video. Raises Missing, or ValueError if it is not one of ours."""
    if name not in ARRAY_NAMES or not group.id.links.exists(name.encode()):
        have = ", ".join(sorted(set(group) & ARRAY_NAMES))
        raise Missing(f"{group.name} has no array {name!r}; it has {have}")
    return find_array(group, name)


def file_attributes(h5: h5py.File, path: Path) -> dict[str, object]:
    """The file's attributes. Raises StoreError or ValueError if the file is not one of ours."""
    attributes = get_attributes(h5)
    if not kinds(FILE_ATTRIBUTES, required=True).keys() <= attributes.keys():
        raise StoreError(
            f"{path}: is an HDF5 file, but none of epam-extract's; expected a feature file, or "
            "another name for the output"
        )
    videos_group(h5)
    version = attributes["schema_version"]
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"schema {version}")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: has schema {version}, written by {attributes['tool']}; this version reads up "
            f"to {SCHEMA_VERSION}. Upgrade epam-extract, or choose another name for the output."
        )
    for name in ("config", "weights", "pose_source"):
        if not isinstance(json.loads(str(attributes[name])), dict):
            raise ValueError(f"{name} is not a JSON object")
    config = json.loads(str(attributes["config"]))
    window_arrays(config)
    if config.get("compression") not in COMPRESSIONS:
        raise ValueError(f"config names an unknown compression: {config.get('compression')}")
    return attributes


def load_blosc2() -> Mapping[str, object]:
    """Keywords of ``create_dataset`` for Blosc2. Raises StoreError if it is not installed."""
    try:
        import hdf5plugin
    except ImportError:
        raise StoreError(
            "compression blosc2 needs the package hdf5plugin, to write and to read: "
            "pip install 'epam-extract[blosc2]', or use --compression lzf or gzip"
        ) from None
    return dict(hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.NOFILTER))
