"""``merge --link``: a small file of links to the videos of its parts, without copying them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import h5py

from ..errors import ConfigError, StoreError
from ..schema import ARRAY_NAMES
from .disk_errors import from_os_error
from .feature_file import FeatureFile
from .h5_objects import get_attributes, set_attribute
from .h5_read import hdf5_length
from .h5_write import empty_file, require_group, write_attributes_checksum, write_failures
from .header import StoreHeader, common_header
from .journal import lock_path
from .journaled_file import JournaledFile
from .linked_parts import PARTS, LinkedVideos, Stamp, is_linked, nested, part_stamp
from .locks import require_unwritten
from .merge import Merged, failures_of, owners_of, require_distinct, require_room
from .video_states import StoredFailure


def link_parts(out: Path, parts: Sequence[Path]) -> Merged:
    """Make ``out`` show the complete videos and the failures of ``parts``, by external links.

    If ``out`` exists, it keeps its earlier parts too, as they are now. :class:`FeatureFile` and
    plain HDF5 can read it as long as the parts are unchanged and stay where they are relative to
    it: the folder may be moved as a whole.

    Raises:
        ConfigError: a part is named twice, is ``out`` itself, or lies outside its folder.
        StoreMismatch: they were made with different options, weights or pose models.
        StoreLocked: a run is still writing one of them.
        StoreError: one is missing, damaged or itself a file of links, two hold the same video with
            different features, or ``out`` holds features.
        MachineError: the disk is full or fails; ``out`` stays as it was.
    """
    require_distinct(out, parts)
    real = out.resolve()
    files = {_relative_name(real, part): part for part in parts}
    earlier = _earlier(out)
    files |= {name: real.parent / name for name in earlier.keys() - files.keys()}
    with ExitStack() as stack:
        stores: dict[str, FeatureFile] = {}
        stamps: dict[str, Stamp] = {}
        for name, file in sorted(files.items()):
            stamps[name] = part_stamp(real, name)
            require_unwritten(file, lock=lock_path(file.resolve()))
            stores[name] = stack.enter_context(FeatureFile(file))
            if is_linked(stores[name].attributes):
                raise nested(out, file)
        header = common_header(list(stores.values()))
        owners, incomplete = owners_of(stores.values())
        require_room(owners)
        names = {store: name for name, store in stores.items()}
        failures = failures_of(stores.values(), complete=owners)
        content = _linked_file(header, failures, stamps, names, owners)
        for name, stamp in stamps.items():
            if part_stamp(real, name) != stamp:
                raise StoreError(f"{files[name]}: was changed during the merge; merge again")
    _put(out, content)
    shown = [
        video_id
        for video_id, store in owners.items()
        if names[store] in earlier and earlier[names[store]].shows(video_id)
    ]
    return Merged(
        out=out,
        videos=len(owners),
        copied=len(owners) - len(shown),
        failures=len(failures),
        incomplete=tuple(sorted(incomplete - failures.keys())),
    )


def _relative_name(out: Path, part: Path) -> str:
    """A part's path relative to the folder of ``out``, with "/"; ``out`` is not a symbolic link."""
    try:
        name = (part.parent.resolve() / part.name).relative_to(out.parent)
        part.resolve().relative_to(out.parent)
        name.as_posix().encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{part}: its name is not valid UTF-8; rename it") from None
    except ValueError:
        raise ConfigError(
            f"{part}: lies outside of {out.parent}, and --link leads only to files in the folder "
            f"of {out.name} or below it. Make {out.name} in a folder that holds all parts, or "
            "merge without --link."
        ) from None
    return name.as_posix()


def _earlier(out: Path) -> dict[str, LinkedVideos]:
    """What ``out`` shows now, by part, whether or not its parts still exist."""
    if not out.exists():
        return {}
    with FeatureFile(out, check_parts=False) as store:
        if not is_linked(store.attributes):
            raise StoreError(
                f"{out}: holds features, and no links. Choose another file for the links, or merge "
                "without --link to add to this one."
            )
        return store.linked_videos()


def _linked_file(
    header: StoreHeader,
    failures: Mapping[str, StoredFailure],
    stamps: Mapping[str, Stamp],
    names: Mapping[FeatureFile, str],
    owners: Mapping[str, FeatureFile],
) -> bytes:
    """The bytes of the file of links."""
    memory = io.BytesIO(empty_file(header))
    shared = _shared(owners)
    with h5py.File(memory, "r+") as h5:
        h5.attrs[PARTS] = json.dumps(stamps, sort_keys=True)
        write_attributes_checksum(h5)
        write_failures(h5, {}, failures)
        for video_id, store in sorted(owners.items()):
            if video_id in shared:
                _link_arrays(require_group(h5, video_id), video_id, store, names[store])
            elif not any(above in owners and above not in shared for above in _above(video_id)):
                folder, _, name = video_id.rpartition("/")
                group = require_group(h5, folder) if folder else h5["videos"]
                group[name] = h5py.ExternalLink(names[store], f"/videos/{video_id}")
    return memory.getvalue()


def _shared(owners: Mapping[str, FeatureFile]) -> set[str]:
    """Videos that have another part's video below them, so that one link cannot show both."""
    return {
        above
        for video_id, store in owners.items()
        for above in _above(video_id)
        if above in owners and owners[above] is not store
    }


def _above(video_id: str) -> Iterator[str]:
    """The ids of the folders of a video."""
    parts = video_id.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def _link_arrays(target: h5py.Group, video_id: str, store: FeatureFile, name: str) -> None:
    """Write a video as a group with its attributes and links to its arrays."""
    with store.group(video_id) as group:
        for attribute in get_attributes(group):
            set_attribute(target, attribute, group.attrs[attribute])
        for array in sorted(ARRAY_NAMES.intersection(group)):
            target[array] = h5py.ExternalLink(name, f"/videos/{video_id}/{array}")


def _put(out: Path, content: bytes) -> None:
    """Write ``out`` in one step, under its lock."""
    there = out.exists()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with JournaledFile(
            out, initial=content, end_of_file=partial(hdf5_length, path=out)
        ) as file:
            if there:
                file.replace(content)
    except OSError as error:
        raise from_os_error(error, out) from error
