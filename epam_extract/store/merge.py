"""Merge feature files: the parts of a run that was spread over machines.

Arrays are copied chunk by chunk, without decompressing them, and then read from the copy to verify
every checksum. Videos are committed in batches: after a kill, a merge continues with the videos
that are not there yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py

from ..errors import ConfigError, StoreError
from ..schema import ARRAY_NAMES
from .checks import attributes_checksum, extend_checksum
from .feature_file import FeatureFile
from .h5_objects import get_attribute, get_attributes, set_attribute
from .h5_read import block_slices, video_array
from .header import common_header
from .journal import lock_path
from .locks import require_unwritten
from .video_states import StoredFailure
from .writer import StoreWriter

BATCH_BYTES = 256 << 20  # of arrays per commit, with at least one video
OF_THE_COPY = {"source", "source_mtime_ns", "attributes_checksum"}
"""Attributes that may differ if two parts read different copies of a video's file."""


@dataclass(frozen=True)
class Merged:
    """The result of a merge."""

    out: Path
    videos: int
    """Complete in ``out`` now."""
    copied: int
    """Of these, those that were not in ``out`` before."""
    failures: int
    """Videos that failed and are complete in no part."""
    incomplete: tuple[str, ...]
    """Videos left out because they are complete in no part."""


def merge_parts(
    out: Path, parts: Sequence[Path], *, on_bytes: Callable[[int, int], None] | None = None
) -> Merged:
    """Copy the complete videos and the failures of ``parts`` into ``out``, which may exist.

    A video that is in several of them is copied once. After every commit ``on_bytes`` gets the
    bytes copied so far and their total, both approximate.

    Raises:
        ConfigError: a part is named twice, or is ``out`` itself.
        StoreMismatch: they were made with different options, weights or pose models.
        StoreLocked: a run is still writing one of them.
        StoreError: one is damaged, or two hold the same video with different features.
        MachineError: the disk is full or fails; what was committed stays.
    """
    require_distinct(out, parts)
    with ExitStack() as stack:
        stores = []
        for part in parts:
            require_unwritten(part, lock=lock_path(part.resolve()))
            stores.append(stack.enter_context(FeatureFile(part)))
        there = [stack.enter_context(FeatureFile(out))] if out.exists() else []
        header = common_header([*there, *stores])
        owners, incomplete = owners_of(stores)
        with StoreWriter(out, header) as writer:
            before = stack.enter_context(FeatureFile(out))
            have = set(before.ids)
            for video_id in sorted(owners.keys() & have):
                _require_equal(video_id, before, owners[video_id])
            require_room(owners.keys() | have)
            left = sorted(owners.keys() - have)
            for video_id in left:
                if writer.progress(video_id) is not None:
                    writer.drop(video_id)
            writer.commit()
            _copy_all(writer, left, owners, on_bytes or (lambda done, total: None))
            failures = _merge_failures(writer, stores, complete=owners.keys() | have)
        return Merged(
            out=out,
            videos=len(owners.keys() | have),
            copied=len(left),
            failures=len(failures),
            incomplete=tuple(sorted(incomplete - have - failures.keys())),
        )


def require_distinct(out: Path, parts: Sequence[Path]) -> None:
    """Raise ConfigError if a part is named twice, or is ``out`` itself."""
    seen: dict[Path, Path] = {}
    for part in parts:
        if part.resolve() == out.resolve():
            raise ConfigError(f"{part}: is the file to merge into; name only its parts after it")
        if part.resolve() in seen:
            raise ConfigError(f"{part}: is named twice")
        seen[part.resolve()] = part


def owners_of(stores: Iterable[FeatureFile]) -> tuple[dict[str, FeatureFile], set[str]]:
    """The file to take each complete video from; and the videos complete in none."""
    owners: dict[str, FeatureFile] = {}
    incomplete: set[str] = set()
    for store in stores:
        found, damaged = store.survey()
        if damaged:
            video_id, reason = next(iter(damaged.items()))
            raise StoreError(
                f"{store.path}: {video_id} is damaged ({reason}). {_how_to_repair(store.path)}"
            )
        for video_id, complete in found.items():
            if not complete:
                incomplete.add(video_id)
            elif video_id in owners:
                _require_equal(video_id, owners[video_id], store)
            else:
                owners[video_id] = store
    return owners, incomplete - owners.keys()


def _require_equal(video_id: str, one: FeatureFile, other: FeatureFile) -> None:
    """Raise StoreError unless both hold the same arrays, by their checksums."""
    mine, theirs = (_contents(store, video_id) for store in (one, other))
    names = sorted(n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n))
    if names:
        raise StoreError(
            f"{video_id} is complete in both {one.path} and {other.path}, but they differ in "
            f"{', '.join(names)}. Was the video changed between the two? Merge without the older "
            "file."
        )


def _contents(store: FeatureFile, video_id: str) -> dict[str, object]:
    """Attributes of a video, and shape, dtype and checksum of its arrays."""
    with store.group(video_id) as group:
        contents: dict[str, object] = {
            name: value for name, value in get_attributes(group).items() if name not in OF_THE_COPY
        }
        for name in ARRAY_NAMES.intersection(group):
            array = video_array(group, name)
            contents[name] = (array.shape, array.dtype, int(get_attribute(array, "checksum")))
        return contents


def require_room(video_ids: Iterable[str]) -> None:
    """Raise StoreError if a video's group would be another video's array, or contain it."""
    ids = set(video_ids)
    for video_id in sorted(ids):
        parts = video_id.split("/")
        for depth, name in enumerate(parts):
            parent = "/".join(parts[:depth])
            if name in ARRAY_NAMES and parent in ids:
                raise StoreError(
                    f"{video_id}: cannot be stored beside the video {parent}, which has an array "
                    f"called {name}; rename one of the two videos and run its part again"
                )


def _copy_all(
    writer: StoreWriter,
    video_ids: Sequence[str],
    owners: Mapping[str, FeatureFile],
    on_bytes: Callable[[int, int], None],
) -> None:
    total = sum(map(_bytes_of, set(owners.values()))) if video_ids else 0
    done = 0
    waiting = deque(video_ids)
    while waiting:
        batch = 0
        with writer.transaction() as h5:
            while waiting and batch < BATCH_BYTES:
                batch += _copy(h5, waiting[0], owners[waiting[0]])
                waiting.popleft()
        done += batch
        on_bytes(min(done, total), total)


def _bytes_of(store: FeatureFile) -> int:
    """Size of a part, or of the files it links to."""
    folder = store.path.resolve().parent
    files = [folder / name for name in store.parts] or [store.path]
    return sum(file.stat().st_size for file in files)


def _copy(h5: h5py.File, video_id: str, part: FeatureFile) -> int:
    """Copy one video inside a transaction; return the bytes of its arrays."""
    size = 0
    with part.group(video_id) as group:
        attributes = get_attributes(group)
        expected = attributes.get("attributes_checksum")  # files of earlier versions have none
        if expected is not None and expected != attributes_checksum(attributes):
            raise _changed("an attribute", video_id, part.path)
        target = h5["videos"].require_group(video_id)
        for name in sorted(ARRAY_NAMES.intersection(group)):
            video_array(group, name)  # refuses an array that does not lie in the part itself
            h5py.h5o.copy(group.id, name.encode(), target.id, name.encode())
            array = target[name]
            value = 0
            for span in block_slices(array):
                value = extend_checksum(value, name, array[span])
            if value != get_attribute(array, "checksum"):
                raise _changed(name, video_id, part.path)
            size += array.id.get_storage_size()
        for name in attributes:
            set_attribute(target, name, group.attrs[name])
    return size


def _changed(what: str, video_id: str, part: Path) -> StoreError:
    return StoreError(
        f"{part}: {what} of {video_id} has changed since it was written (checksum). "
        f"{_how_to_repair(part)}"
    )


def _how_to_repair(part: Path) -> str:
    return (
        f"epam-extract verify {part} --repair drops what is damaged. Then run the command that "
        "made this file again, and merge again: what was merged so far stays."
    )


def failures_of(
    stores: Iterable[FeatureFile],
    *,
    complete: Iterable[str],
    known: Mapping[str, StoredFailure] | None = None,
) -> dict[str, StoredFailure]:
    """``known`` failures and those of all parts, without complete videos, sorted by id."""
    merged = dict(known or {})
    for store in stores:
        for video_id, failure in store.failures().items():
            merged.setdefault(video_id, failure)
    return {video_id: merged[video_id] for video_id in sorted(merged.keys() - set(complete))}


def _merge_failures(
    writer: StoreWriter, stores: Iterable[FeatureFile], *, complete: Iterable[str]
) -> dict[str, StoredFailure]:
    """Write the failures of all parts, without the videos that are complete somewhere."""
    done = set(complete)
    left = failures_of(stores, complete=done, known=writer.failures())
    for video_id in writer.failures().keys() & done:
        writer.forget_failure(video_id)
    for video_id in [name for name in left if name not in writer.failures()]:
        writer.add_failure(video_id, left[video_id])
    writer.commit()
    return left
