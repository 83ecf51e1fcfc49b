"""Writing the HDF5 file: videos and failures, inside a transaction of the caller."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

import h5py
import numpy as np

from .. import __version__
from ..records import concatenate
from ..schema import (
    ARRAY_NAMES,
    AT_THE_END,
    FAILURE_COLUMNS,
    FULL_MAPS,
    SCHEMA_VERSION,
    TRACKS,
    Array,
    kinds,
)
from .checks import attributes_checksum
from .draft import Draft
from .h5_objects import child, find, find_array, get_attributes, is_second_name, set_attribute
from .h5_read import BROKEN, array_checksum, load_blosc2, video_group, videos_group
from .header import StoreHeader
from .video_states import StoredFailure

ROW_CHUNK = 64  # windows in a chunk of the small arrays
FRAME_CHUNK = 512  # frames in a chunk of keypoints, one person
TEXT = h5py.string_dtype()
COLUMN_TYPES = {str: TEXT, int: np.dtype("<i8")}
FAILURE = np.dtype([(name, COLUMN_TYPES[kind]) for name, kind in kinds(FAILURE_COLUMNS).items()])
FILTERS: dict[str, Callable[[], Mapping[str, object]]] = {
    "none": dict,
    "lzf": lambda: {"compression": "lzf"},
    "gzip": lambda: {"compression": "gzip", "compression_opts": 1},
    "blosc2": load_blosc2,
}
"""Keywords of ``create_dataset`` for each ``--compression``. Shuffling makes features larger."""


def write_video(
    h5: h5py.File,
    video_id: str,
    draft: Draft,
    arrays: Mapping[str, Array],
    *,
    filters: Mapping[str, object],
    check: Callable[[], None],
) -> None:
    """Write what is pending of one video. ``check`` raises if the disk has failed."""
    group = require_group(h5, video_id)
    new = draft.new
    whole = new and draft.finished  # all of it in this commit: final sizes, nothing to resize
    for name, value in draft.attributes.items():
        set_attribute(group, name, value)
    for name, spec in arrays.items():
        if name in AT_THE_END and not draft.finished:
            continue
        if new or name in AT_THE_END:
            rows = draft.windows if whole or name in AT_THE_END else None
            array = _create_rows(group, spec, rows, filters=filters)
        else:
            array = find_array(group, name)
        if array.maxshape[0] is None:
            array.resize(draft.windows, 0)
        parts = draft.rows.get(name, [])
        at = draft.windows - sum(map(len, parts))
        for part in parts:
            if name in FULL_MAPS and not filters:  # bypass the chunk cache: one copy less
                for row, chunk in enumerate(part, start=at):
                    array.id.write_direct_chunk((row,) + (0,) * len(spec.item), chunk)
            else:
                array[at : at + len(part)] = part
            at += len(part)
        set_attribute(array, "checksum", np.uint32(draft.checksums.get(name, 0)))
        check()
    if whole:
        _write_tracks(group, draft)
    else:
        _append_tracks(group, draft, new=new)
    check()
    set_attribute(group, "clipped", draft.clipped)
    if draft.finished:
        person = find_array(group, "person")[()]
        set_attribute(group, "person_share", float(person.mean()) if len(person) else 0.0)
    set_attribute(group, "complete", np.bool_(draft.finished))
    if draft.finished:
        write_attributes_checksum(group)
    check()


def write_attributes_checksum(holder: h5py.Group) -> None:
    """Store the checksum of all attributes."""
    value = attributes_checksum(get_attributes(holder))
    set_attribute(holder, "attributes_checksum", np.uint32(value))


def require_group(h5: h5py.File, video_id: str) -> h5py.Group:
    """The group of this id, created if missing; never through a link."""
    folder = videos_group(h5)
    for name in video_id.split("/"):
        there = folder.id.links.exists(name.encode())
        group = child(folder, name) if there else folder.create_group(name)
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{group.name} is not a group")
        folder = group
    return folder


def _create_rows(
    group: h5py.Group,
    spec: Array,
    length: int | None,
    *,
    filters: Mapping[str, object],
) -> h5py.Dataset:
    """Create an array of rows; with ``length`` it is fixed, unless it holds full maps."""
    if spec.name in FULL_MAPS:
        return _create_growing(group, spec, (0, *spec.item), (1, *spec.item), filters=filters)
    if length is not None:
        return group.create_dataset(spec.name, (length, *spec.item), spec.dtype, track_times=False)
    return _create_growing(group, spec, (0, *spec.item), (ROW_CHUNK, *spec.item))


def empty_file(header: StoreHeader) -> bytes:
    """The bytes of a file without videos."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as h5:
        h5.attrs["schema_version"] = SCHEMA_VERSION
        h5.attrs["tool"] = f"epam-extract {__version__}"
        h5.attrs["created"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        for name, text in header.as_json().items():
            h5.attrs[name] = text
        write_attributes_checksum(h5)
        h5.create_group("videos")
        h5.create_dataset("failures", (0,), FAILURE, maxshape=(None,), chunks=(64,))
    return memory.getvalue()


def _create_growing(
    group: h5py.Group,
    spec: Array,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    *,
    filters: Mapping[str, object] | None = None,
) -> h5py.Dataset:
    """Create an array whose zero-length axes can grow."""
    maxshape = tuple(None if length == 0 else length for length in shape)
    return group.create_dataset(
        spec.name,
        shape,
        spec.dtype,
        maxshape=maxshape,
        chunks=chunks,
        track_times=False,
        **(filters or {}),
    )


def _write_tracks(group: h5py.Group, draft: Draft) -> None:
    """All keypoints of a video at once."""
    track = concatenate(draft.tracks)
    for name, spec in TRACKS.items():
        data = np.ascontiguousarray(getattr(track, name), spec.dtype)
        array = group.create_dataset(name, data=data, track_times=False)
        set_attribute(array, "checksum", np.uint32(zlib.crc32(data.data)))


def _append_tracks(group: h5py.Group, draft: Draft, *, new: bool) -> None:
    """Append the pending keypoints, adding rows for more people if needed."""
    for name, spec in TRACKS.items():
        if new:
            array = _create_growing(group, spec, (0, 0, *spec.item), (1, FRAME_CHUNK, *spec.item))
        else:
            array = find_array(group, name)
        at = draft.frames - sum(track.keypoints.shape[1] for track in draft.tracks)
        for track in draft.tracks:
            people, length = track.keypoints.shape[:2]
            array.resize((max(array.shape[0], people), at + length, *spec.item))
            array[:people, at : at + length] = getattr(track, name)
            at += length
        if draft.finished:
            set_attribute(array, "checksum", np.uint32(array_checksum(array)))


def remove_video(h5: h5py.File, video_id: str) -> None:
    """Remove a video and the folders left empty, but not the videos below it.

    Of a link to elsewhere, or a second name of an object, only the name is removed.
    """
    if is_second_name(h5, f"videos/{video_id}"):
        del h5[f"videos/{video_id}"]
        return
    group = video_group(h5, video_id)
    if group is None:
        return
    for name in ARRAY_NAMES.intersection(group):
        del group[name]
    for name in list(group.attrs):
        del group.attrs[name]
    parts = video_id.split("/")
    while parts:
        path = f"videos/{'/'.join(parts)}"
        folder = find(h5, path)
        if folder is None or len(folder) or len(folder.attrs):
            return
        del h5[path]
        parts.pop()


def has_leftovers(h5: h5py.File, video_id: str) -> bool:
    """Whether arrays are left under this id, or what is there cannot be read."""
    try:
        there = find(h5, f"videos/{video_id}")
        return there is not None and not ARRAY_NAMES.isdisjoint(there)
    except BROKEN:
        return True


def quarantine(h5: h5py.File, video_id: str) -> None:
    """Move a damaged video to ``/damaged``, in its folder's old group.

    HDF5 cannot unlink what it cannot open, so the folder is replaced by a new one with all its
    other members.
    """
    folder, _, damaged = f"videos/{video_id}".rpartition("/")
    quarantined = h5.require_group("damaged")
    number = len(quarantined)
    old, new = find(h5, folder), quarantined.create_group(f"{number} replacement")
    if not isinstance(old, h5py.Group):
        raise ValueError(f"{folder} is not a group")
    for name, value in old.attrs.items():
        new.attrs[name] = value
    for name in old:
        if name != damaged:
            with contextlib.suppress(*BROKEN):  # damaged too: stays behind
                new[name] = child(old, name)
    h5.move(folder, f"damaged/{number}")
    h5.move(new.name, folder)


def write_failures(
    h5: h5py.File,
    old: Mapping[str, StoredFailure],
    changes: Mapping[str, StoredFailure | None],
) -> None:
    """Append to the table of failures; rewrite it if one is removed or changed."""
    if not changes:
        return
    table = find_array(h5, "failures")
    rows = {**old, **changes}
    start = len(old) if not old.keys() & changes.keys() else 0
    left = [
        (video_id, failure.stage, failure.message, failure.size, failure.mtime_ns)
        for video_id, failure in list(rows.items())[start:]
        if failure is not None
    ]
    table.resize(start + len(left), 0)
    if left:
        table[start:] = np.array(left, FAILURE)
