"""Writing the file of features, in transactions."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from ..errors import StoreError
from ..records import PoseTrack, RemoteFile, Video, VideoFailure
from ..schema import ARRAY_NAMES, AT_THE_END, TRACKS, window_arrays
from .checks import check_id, check_rows, extend_checksum, finite, unstorable
from .disk import Operations
from .disk_errors import from_os_error
from .draft import Draft, source_attributes, video_attributes
from .feature_file import FeatureFile
from .h5_objects import find, find_array, get_attribute
from .h5_read import (
    BROKEN,
    as_store_error,
    hdf5_length,
    read_failures,
    read_progress,
    video_array,
    video_group,
)
from .h5_write import (
    FILTERS,
    empty_file,
    has_leftovers,
    quarantine,
    remove_video,
    write_failures,
    write_video,
)
from .header import StoreHeader
from .journaled_file import JournaledFile
from .linked_parts import is_linked, never_written
from .video_states import StoredFailure, StoredProgress


class StoreWriter:
    """Writes the file; a context manager, for one thread. Opening it recovers and locks the file.

    What is handed over stays in memory until :meth:`commit` writes all of it in one step. Until
    then arrays are referenced, not copied.

    Raises:
        StoreLocked: another process writes it.
        StoreMismatch: it was made with another configuration, weights or pose models.
        StoreError: it is not one of our files, has a newer schema, is damaged or not writable.
        MachineError: the disk is full or fails.
    """

    def __init__(
        self,
        path: Path,
        header: StoreHeader,
        *,
        overwrite: bool = False,
        operations: Operations | None = None,
    ) -> None:
        self.path = path
        self._arrays = window_arrays(header.config)
        self._filter = FILTERS[str(header.config["compression"])]()
        self._drafts: dict[str, Draft] = {}
        self._dropped: dict[str, None] = {}
        self._failure_changes: dict[str, StoredFailure | None] = {}
        self._reader: h5py.File | None = None
        try:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                _require_fit(path, header, overwrite=overwrite)
            new = empty_file(header)
            self._file = JournaledFile(
                path,
                initial=new,
                end_of_file=partial(hdf5_length, path=path),
                operations=operations,
            )
        except OSError as error:
            raise from_os_error(error, path) from error
        try:
            if overwrite:
                self._file.replace(new)
            with as_store_error(path), contextlib.closing(h5py.File(self._file, "r")) as h5:
                self._failures = read_failures(h5)
        except BaseException as error:
            self._file.close()
            if isinstance(error, OSError):
                raise from_os_error(error, path) from error
            raise

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close and unlock the file. What was not committed is dropped."""
        self._end_reading()
        self._file.close()

    # -- what is stored ---------------------------------------------------------------------

    def progress(self, video_id: str) -> StoredProgress | None:
        """How much of a video is committed; None if nothing is."""
        with as_store_error(self.path):
            group = video_group(self._reading(), video_id)
            return None if group is None else read_progress(group)

    def keypoints(self, video_id: str, frames: range) -> PoseTrack:
        """Committed keypoints of consecutive frames of a video."""
        where = slice(frames.start, frames.stop)
        with as_store_error(self.path):
            group = video_group(self._reading(), video_id)
            if group is None:
                raise ValueError(f"{video_id} is not in the file")
            keypoints, scores = (find_array(group, name) for name in TRACKS)
            return PoseTrack(keypoints[:, where], scores[:, where].astype(np.float32))

    def failures(self) -> dict[str, StoredFailure]:
        """Videos that failed, by id, including those not committed yet."""
        merged: dict[str, StoredFailure | None] = {**self._failures, **self._failure_changes}
        return {video_id: failure for video_id, failure in merged.items() if failure is not None}

    def handed_over(self, video_id: str) -> tuple[int, int]:
        """Windows, and frames with keypoints, of an incomplete video, committed or waiting.

        Raises:
            StoreError: the video was not begun, or is complete.
        """
        draft = self._draft(video_id)
        return draft.windows, draft.frames

    @property
    def pending_bytes(self) -> int:
        """Bytes that the next commit will write."""
        return sum(draft.pending_bytes for draft in self._drafts.values())

    # -- handing over -----------------------------------------------------------------------

    def begin(self, video_id: str, source: Path | RemoteFile, *, size: int, mtime_ns: int) -> None:
        """Start a video from its beginning; the next commit drops an older copy, complete or not.

        ``size`` and ``mtime_ns`` are the source file's. To resume an incomplete video, append
        without calling this.

        Raises:
            VideoError: the id cannot be stored.
        """
        check_id(video_id)
        self._require_room(video_id)
        if video_group(self._reading(), video_id) is not None:
            self._dropped[video_id] = None
        attributes = source_attributes(source, size, mtime_ns)
        self._drafts[video_id] = Draft(new=True, attributes=attributes)

    def append_windows(
        self, video_id: str, arrays: Mapping[str, np.ndarray], *, clipped: int = 0
    ) -> None:
        """Add the next rows of a video: features, ``frames``, ``person`` and ``box``.

        ``clipped`` counts the values that were clipped to the range of the stored dtype.

        Raises:
            VideoError: an array is missing, has another shape, or holds NaN or infinity.
        """
        draft = self._draft(video_id)
        expected = {name: spec for name, spec in self._arrays.items() if not spec.known_at_end}
        self._add_rows(draft, check_rows(video_id, arrays, expected))
        draft.windows += len(arrays["frames"])
        draft.clipped += clipped

    def append_keypoints(self, video_id: str, start: int, track: PoseTrack) -> None:
        """Add keypoints of the next frames, from frame ``start`` on. The number of people may grow.

        Raises:
            VideoError: they are not the next ones, or hold NaN or infinity.
        """
        draft = self._draft(video_id)
        stop = start + track.keypoints.shape[1]
        if start != draft.frames:
            raise unstorable(
                f"{video_id}: keypoints of frames {start} to {stop} were handed in, expected frame "
                f"{draft.frames} on"
            )
        if not (finite(track.keypoints) and finite(track.keypoint_scores)):
            raise unstorable(f"{video_id}: NaN or infinite keypoints in frames {start} to {stop}")
        draft.tracks.append(track)
        draft.frames = stop

    def finish(
        self, video: Video, *, grid: Mapping[str, float], times: np.ndarray, valid: np.ndarray
    ) -> None:
        """Declare a video finished: the next commit makes it complete.

        ``video`` holds what was measured; ``grid`` holds ``feat_stride``, ``window_frames`` and
        ``offset_frames``; ``times`` (W, 3) and ``valid`` (W,) are those of all its windows.

        Raises:
            VideoError: rows or keypoints are missing.
        """
        draft = self._draft(video.id)
        if (draft.windows, draft.frames) != (len(times), video.num_frames):
            raise unstorable(
                f"{video.id}: {draft.windows} of {len(times)} windows and {draft.frames} of "
                f"{video.num_frames} frames' keypoints were handed in"
            )
        expected = {name: self._arrays[name] for name in AT_THE_END}
        self._add_rows(draft, check_rows(video.id, {"times": times, "valid": valid}, expected))
        draft.attributes.update(video_attributes(video, len(times), grid))
        draft.finished = True
        self.forget_failure(video.id)

    @staticmethod
    def _add_rows(draft: Draft, rows: Mapping[str, np.ndarray]) -> None:
        for name, array in rows.items():
            draft.rows.setdefault(name, []).append(array)
            draft.checksums[name] = extend_checksum(draft.checksums.get(name, 0), name, array)

    def fail(self, failure: VideoFailure) -> None:
        """Record a failure with size and time of the video's file; drop what is stored of it."""
        video_id = failure.video_id
        self._drafts.pop(video_id, None)
        if video_group(self._reading(), video_id) is not None:
            self._dropped[video_id] = None
        self._failure_changes[video_id] = StoredFailure.of(failure)

    def add_failure(self, video_id: str, failure: StoredFailure) -> None:
        """Record a failure as another file has it."""
        self._failure_changes[video_id] = failure

    def forget_failure(self, video_id: str) -> None:
        """Remove a video from the list of failures."""
        if video_id in self.failures():
            self._failure_changes[video_id] = None

    def drop(self, video_id: str) -> None:
        """Remove a video with the next commit."""
        self._drafts.pop(video_id, None)
        self._dropped[video_id] = None

    def quarantine(self, video_id: str) -> None:
        """Move what could not be dropped of a damaged video to ``/damaged``, at once."""
        self._dropped.pop(video_id, None)
        if not has_leftovers(self._reading(), video_id):
            return
        with self.transaction() as h5:
            quarantine(h5, video_id)

    def commit(self) -> None:
        """Write everything handed over so far to disk: all of it or nothing.

        Raises:
            MachineError: the disk is full or fails; what was not committed stays pending.
            StoreLocked: another program has kept the file open for too long.
            StoreError: the file was deleted, moved or replaced since it was opened.
        """
        self._file.require_in_place()
        if self._dropped:  # on its own: writes into space just freed would go through the journal
            with self.transaction() as h5:
                for video_id in self._dropped:
                    remove_video(h5, video_id)
            self._dropped.clear()
        touched = {name: draft for name, draft in self._drafts.items() if draft.changed}
        if not (touched or self._failure_changes):
            return
        with self.transaction() as h5:
            for video_id, draft in touched.items():
                write_video(
                    h5, video_id, draft, self._arrays, filters=self._filter, check=self._file.check
                )
            write_failures(h5, self._failures, self._failure_changes)
        for video_id, draft in touched.items():
            draft.forget_written()
            if draft.finished:
                del self._drafts[video_id]
        self._failures = self.failures()
        self._failure_changes.clear()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[h5py.File]:
        """The HDF5 file: what the block writes is committed at its end, all of it or nothing."""
        self._end_reading()
        try:
            with self._file.transaction() as file, h5py.File(file, "r+") as h5:
                yield h5
        except OSError as error:
            raise from_os_error(error, self.path) from error

    # -- inside -----------------------------------------------------------------------------

    def _draft(self, video_id: str) -> Draft:
        draft = self._drafts.get(video_id)
        if draft is not None:
            return draft
        group = None if video_id in self._dropped else video_group(self._reading(), video_id)
        there = None if group is None else read_progress(group)
        if group is None or there is None or there.complete:
            raise StoreError(f"{self.path}: {video_id} was not begun")
        draft = Draft(
            windows=there.windows,
            frames=there.frames,
            checksums={
                name: int(get_attribute(video_array(group, name), "checksum"))
                for name, spec in self._arrays.items()
                if not spec.known_at_end
            },
            clipped=int(get_attribute(group, "clipped")),
        )
        self._drafts[video_id] = draft
        return draft

    def _require_room(self, video_id: str) -> None:
        """Raise VideoError if this id's group would be another video's array, or contain it."""
        h5 = self._reading()
        parts = video_id.split("/")
        pairs = [("/".join(parts[:i]), part) for i, part in enumerate(parts) if part in ARRAY_NAMES]
        for parent, name in pairs:
            if parent in self._drafts or video_group(h5, parent) is not None:
                raise unstorable(
                    f"{video_id}: cannot be stored beside the video {parent}, which has an array "
                    f"called {name}; rename one of the two"
                )
        for name in ARRAY_NAMES:
            below = f"{video_id}/{name}"
            folder = find(h5, f"videos/{below}")
            waiting = any(f"{other}/".startswith(f"{below}/") for other in self._drafts)
            if waiting or isinstance(folder, h5py.Group):
                raise unstorable(
                    f"{video_id}: cannot be stored beside the videos in {below}, since it has an "
                    f"array called {name}; rename one of the two"
                )

    def _reading(self) -> h5py.File:
        if self._reader is None:
            self._reader = h5py.File(self._file, "r")
        return self._reader

    def _end_reading(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def require_no_links(path: Path) -> None:
    """Raise StoreError if ``path`` was made by ``merge --link``, since no run may write it."""
    if path.exists():
        with FeatureFile(path, check_parts=False) as store:
            if is_linked(store.attributes):
                raise never_written(path)


def drop_videos(path: Path, video_ids: Iterable[str]) -> None:
    """Remove videos from a file, each in a transaction of its own.

    One that HDF5 cannot remove because it is damaged is moved to ``/damaged``.

    Raises:
        StoreError: the file cannot be written, or another process writes it.
        MachineError: the disk is full or fails; the file stays as it was.
    """
    with FeatureFile(path) as store:
        header = store.header
    with StoreWriter(path, header) as writer:
        for video_id in video_ids:
            with contextlib.suppress(StoreError, *BROKEN):
                writer.drop(video_id)
                writer.commit()
            with as_store_error(path):
                writer.quarantine(video_id)


def _require_fit(path: Path, header: StoreHeader, *, overwrite: bool) -> None:
    """Raise StoreError unless the file is ours, and StoreMismatch unless it can be resumed."""
    require_no_links(path)
    with FeatureFile(path) as store:
        if not overwrite:
            header.require_same({k: str(v) for k, v in store.attributes.items()}, path)
