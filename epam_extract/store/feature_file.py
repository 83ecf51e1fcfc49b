"""Reading one file of features, even while a run writes it.

Every access sees the last commit, and no lock outlives the access.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from .disk import open_regular
from .disk_errors import from_os_error
from .h5_objects import data_offset
from .h5_read import (
    Missing,
    as_store_error,
    file_attributes,
    hdf5_length,
    is_complete,
    load_blosc2,
    read_failures,
    read_progress,
    video_array,
    video_group,
    walk_videos,
)
from .header import StoreHeader
from .indexing import contiguous_start, select
from .journal import CommittedView, committed_view, journal_path
from .linked_parts import LinkedParts, LinkedVideos, is_linked
from .locks import commit_stamp, lock_shared, same_file, unlock
from .video_states import NothingStored, StoredFailure, StoredProgress, StoredVideos

MAX_OPEN = 1000  # groups, and arrays, kept open: opening one takes longer than reading a row
MAX_KNOWN = 200_000  # arrays whose place in the file is remembered


@dataclass(frozen=True)
class ArrayInfo:
    """What is needed to read an array that was found to be one of ours."""

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int | None
    """File offset of its bytes in C order; None if only HDF5 can read them."""


class FeatureFile:
    """One file: its videos, complete or not, and their arrays; a context manager.

    Threads, forked and spawned workers may share it. A file made by ``merge --link`` has the videos
    of its parts.

    Raises:
        StoreError: the file does not exist, is not one of ours, or is damaged; or a part of it is
            missing or was changed since it was linked.
    """

    def __init__(self, path: Path, *, check_parts: bool = True) -> None:
        self.path = path
        self._check_parts = check_parts  # False for a file of links that is to be rewritten
        self._real = path.resolve()  # of a symbolic link: the journal lies next to its target
        self._journal = journal_path(self._real)
        self._mutex = threading.RLock()
        self._depth = 0
        self._held = _Held(self)
        self._descriptor = -1
        self._h5: h5py.File | None = None
        self._view: CommittedView | None = None
        self._stamp: tuple[int, ...] = ()
        self.attributes: dict[str, object] = {}
        self._ids: dict[str, None] | None = None
        self._complete: set[str] = set()
        self._known: dict[tuple[str, str], ArrayInfo] = {}
        self._groups: dict[str, h5py.Group] = {}
        self._arrays: dict[tuple[str, str], h5py.Dataset] = {}
        self._parts: LinkedParts | None = None
        self._pid = os.getpid()
        try:
            with self.reading():
                pass
        except BaseException:
            self.close()
            raise
        if self.config["compression"] == "blosc2":
            load_blosc2()

    def __enter__(self) -> FeatureFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[FeatureFile], tuple[Path]]:
        return FeatureFile, (self.path,)

    def close(self) -> None:
        """Close the file; the next access opens it again."""
        with self._mutex:
            self._forget()
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    @property
    def config(self) -> dict[str, object]:
        """The options that the numbers depend on."""
        return json.loads(str(self.attributes["config"]))

    @property
    def weights(self) -> dict[str, object]:
        """Which weights computed the features."""
        return json.loads(str(self.attributes["weights"]))

    @property
    def pose_source(self) -> dict[str, object]:
        """Which models, or which file, the keypoints came from."""
        return json.loads(str(self.attributes["pose_source"]))

    @property
    def header(self) -> StoreHeader:
        """Config, weights and source of the keypoints."""
        return StoreHeader(self.config, self.weights, self.pose_source)

    @property
    def parts(self) -> list[str]:
        """The parts of a file made by ``merge --link``; empty for any other file."""
        with self.reading():
            return [] if self._parts is None else self._parts.names

    def linked_videos(self) -> dict[str, LinkedVideos]:
        """The videos of a file made by ``merge --link``, by part."""
        with self.reading() as h5:
            return {} if self._parts is None else self._parts.videos(h5, {})

    @property
    def ids(self) -> list[str]:
        """Ids of the complete videos, in order."""
        with self.reading():
            if self._ids is None:
                found = (name for name, _, complete in self.groups() if complete)
                self._ids = dict.fromkeys(sorted(found))
            return list(self._ids)

    def failures(self) -> dict[str, StoredFailure]:
        """Videos that failed, by id."""
        with self.reading() as h5:
            return read_failures(h5)

    def progress(self, video_id: str) -> StoredProgress | None:
        """How much of a video is stored; None if nothing is."""
        with self.reading() as h5:
            holder = self.holder(video_id)
            if holder is not self:
                return holder.progress(video_id)
            group = video_group(h5, video_id)
            return None if group is None else read_progress(group)

    def has(self, video_id: str) -> bool:
        """Whether a video is complete."""
        with self._held:
            if video_id not in self._complete:
                with as_store_error(self.path):
                    holder = self.holder(video_id)
                    if holder is not self:
                        return holder.has(video_id)
                    group = self._find(video_id)
                    if group is None or not is_complete(group):
                        return False
                self._complete.add(video_id)
            return True

    def survey(self) -> tuple[dict[str, bool], dict[str, str]]:
        """Every video's id and whether it is complete; and the damaged ones with the reason."""
        damaged: dict[str, str] = {}
        with self.reading():
            found = {name: complete for name, _, complete in self.groups(damaged=damaged)}
        return dict(sorted(found.items())), damaged

    # -- arrays -----------------------------------------------------------------------------

    def array_info(self, video_id: str, name: str) -> ArrayInfo:
        """Shape, dtype and place of an array, as of the last commit.

        Raises:
            KeyError: there is no such video, or no such array of it.
            StoreError: it is not an array of ours, or damaged.
        """
        with self._held:
            if self._parts is not None:
                return self._part_with(video_id).array_info(video_id, name)
            return self._look_up(video_id, name)

    def read(self, video_id: str, name: str, key: object) -> np.ndarray:
        """Read what a basic index selects of an array, and nothing else; one value is a scalar.

        Raises:
            KeyError, StoreError: as :meth:`array_info`.
            IndexError: the index is out of bounds.
        """
        with self._held:
            if self._parts is not None:
                return self._part_with(video_id).read(video_id, name, key)
            known = self._look_up(video_id, name)
            what = select(key, known.shape)
            first = contiguous_start(what.axes, known.shape)
            with as_store_error(self.path):
                if known.start is None or first is None or self._view is None:
                    found = self._open(video_id, name)[what.axes]
                else:
                    found = np.empty(what.shape, known.dtype)
                    start = known.start + first * known.dtype.itemsize
                    self._view.fill(found.reshape(-1).view(np.uint8).data, start)
        return found[what.after] if what.after else found[()]

    def _look_up(self, video_id: str, name: str) -> ArrayInfo:
        known = self._known.get((video_id, name))
        if known is None:
            with as_store_error(self.path):
                array = video_array(self._group(video_id), name)
                known = ArrayInfo(array.shape, array.dtype, data_offset(array))
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[video_id, name] = known
        return known

    def _open(self, video_id: str, name: str) -> h5py.Dataset:
        array = self._arrays.get((video_id, name))
        if array is None:
            array = video_array(self._group(video_id), name)
            if len(self._arrays) >= MAX_OPEN:
                self._arrays.clear()
            self._arrays[video_id, name] = array
        return array

    def _find(self, video_id: str) -> h5py.Group | None:
        group = self._groups.get(video_id)
        if group is None:
            group = video_group(self._h5, video_id)
            if len(self._groups) >= MAX_OPEN:
                self._groups.clear()
            if group is not None:
                self._groups[video_id] = group
        return group

    def _group(self, video_id: str) -> h5py.Group:
        group = self._find(video_id)
        if group is None:
            raise self._missing(video_id)
        return group

    def _missing(self, video_id: str) -> Missing:
        return Missing(f"{self.path} no longer has the video {video_id!r}")

    @contextlib.contextmanager
    def group(self, video_id: str) -> Iterator[h5py.Group]:
        """A video's group, open during the block. Raises KeyError if there is no such video."""
        with self.reading():
            if self._parts is None:
                yield self._group(video_id)
                return
            with self._part_with(video_id).group(video_id) as group:
                yield group

    # -- a file of links --------------------------------------------------------------------

    def holder(self, video_id: str) -> FeatureFile:
        """The file that holds a video's arrays: this one, or a part of it."""
        with self.reading() as h5:
            part = None if self._parts is None else self._parts.part_of(h5, video_id)
            return self if self._parts is None or part is None else self._parts.store(part)

    def _part_with(self, video_id: str) -> FeatureFile:
        holder = self.holder(video_id)
        if holder is self:
            raise self._missing(video_id)
        return holder

    def groups(
        self, *, damaged: dict[str, str] | None = None
    ) -> Iterator[tuple[str, h5py.Group, bool]]:
        """As :func:`h5_read.walk_videos`, with the videos in the parts of a file of links."""
        with self.reading() as h5:
            if self._parts is None:
                yield from walk_videos(h5, damaged=damaged)
                return
            for name, linked in self._parts.videos(h5, damaged).items():
                if linked.with_all or linked.alone:
                    with self._parts.store(name).reading() as there:
                        yield from linked.found_in(there, damaged)

    # -- the last commit --------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[h5py.File]:
        """The file as of its last commit. Commits wait until the block ends, so keep it short."""
        with self._held, as_store_error(self.path):
            yield self._h5

    def _hold(self) -> None:
        """Catch up with the last commit and hold off the next; :meth:`_let_go` must follow."""
        self._mutex.acquire()
        try:
            if not self._depth:
                self._open_if_needed()
                lock_shared(self._descriptor, self.path)
                stamp = commit_stamp(self._descriptor, self._journal)
                if self._h5 is None or stamp != self._stamp:
                    self._refresh(stamp)
            self._depth += 1
        except BaseException:
            unlock(self._descriptor)
            self._mutex.release()
            raise

    def _let_go(self) -> None:
        self._depth -= 1
        if not self._depth:
            unlock(self._descriptor)
        self._mutex.release()

    def _open_if_needed(self) -> None:
        if self._descriptor >= 0:
            if self._pid == os.getpid() and same_file(self._descriptor, self.path):
                return
            self.close()
        try:
            self._descriptor = open_regular(self.path)
        except OSError as error:
            raise from_os_error(error, self.path) from error
        self._pid = os.getpid()

    def _forget(self) -> None:
        """Drop everything that was read from the last commit seen."""
        self._arrays.clear()
        self._groups.clear()
        self._known.clear()
        self._complete.clear()
        self._ids = None
        if self._parts is not None:
            self._parts.close()
            self._parts = None
        if self._h5 is not None:
            self._h5.close()
            self._h5 = None

    def _refresh(self, stamp: tuple[int, ...]) -> None:
        self._forget()
        length = partial(hdf5_length, path=self.path)
        self._view = committed_view(self._descriptor, self._real, end_of_file=length)
        with as_store_error(self.path, whole=True):
            self._h5 = h5py.File(self._view, "r", rdcc_nbytes=0)
            self.attributes = file_attributes(self._h5, self.path)
            read_failures(self._h5)
            if is_linked(self.attributes):
                self._parts = LinkedParts(self._real, self.attributes, self.header, FeatureFile)
                if self._check_parts:
                    self._parts.check()
        self._stamp = stamp


class _Held:
    """Holds a file at its last commit during a block; faster than a generator."""

    def __init__(self, file: FeatureFile) -> None:
        self._file = file

    def __enter__(self) -> None:
        self._file._hold()

    def __exit__(self, *exception: object) -> None:
        self._file._let_go()


def stored_states(path: Path | None) -> StoredVideos:
    """What a file holds, without writing or locking it; nothing if there is no file, or for None.

    Raises:
        StoreError: it is not one of our files, has a newer schema, or is damaged.
    """
    return FeatureFile(path) if path is not None and path.exists() else NothingStored()
