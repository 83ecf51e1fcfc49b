"""Reading back what was stored: videos by id, from one file or several read as one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError, StoreError
from ..schema import ARRAY_NAMES, POOLED, TRACKS
from .feature_file import FeatureFile
from .find_files import find_files
from .h5_objects import children, get_attribute, get_attributes
from .h5_read import Missing, video_array
from .header import common_header
from .stored_array import StoredArray
from .video_states import StoredFailure, StoredProgress

if TYPE_CHECKING:
    from .dataset import WindowDataset

TABLE_INDEX = np.dtype(
    [("video", "<i4"), ("row", "<i4"), ("start", "<f8"), ("centre", "<f8"), ("end", "<f8")]
)


class FeatureStore(Mapping[str, "StoredVideo"]):
    """The complete videos of one file, or of several read as one; a context manager.

    A mapping from video id to arrays: ``store["a/b"]["rgb"][10]`` reads that window of that video
    and nothing else; ``np.asarray(store["a/b"]["rgb_pooled"])`` reads a whole array.
    ``store.table()`` is one matrix of all windows, ``store.dataset()`` a ``Dataset`` for PyTorch.

    It can read while a run is writing: every access sees the last commit, and no lock outlives the
    access. Threads, forked and spawned workers may share it.

    Args:
        files: a file, or several that are read as one: a pattern such as ``feats-*.h5``, a folder
            (its ``*.h5``), or a list. All must have been made with the same settings. A pattern or
            folder is expanded once. A file made by ``merge --link`` has the videos of its parts.

    Raises:
        StoreError: a file does not exist, is not one of ours, is damaged or was made with other
            settings, or a part that it links to is missing or changed; later, if a video is
            complete in two of the files.
    """

    def __init__(self, files: Path | str | Iterable[Path | str]) -> None:
        self.paths = find_files(files)
        self._files: list[FeatureFile] = []
        self._holders: dict[str, FeatureFile] = {}
        try:
            for path in self.paths:
                self._files.append(FeatureFile(path))
            common_header(self._files)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[list[Path]]]:
        return FeatureStore, (list(self.paths),)

    def __repr__(self) -> str:
        return f"FeatureStore({self.name!r}, {len(self)} videos)"

    def close(self) -> None:
        """Close the files; the next access opens them again."""
        for file in self._files:
            file.close()

    @property
    def name(self) -> str:
        """For messages: its file, or the first one and how many more."""
        more = len(self.paths) - 1
        return f"{self.paths[0]} and {more} more" if more else str(self.paths[0])

    @property
    def attributes(self) -> dict[str, object]:
        """Attributes of the (first) file, as plain Python values."""
        return self._files[0].attributes

    @property
    def config(self) -> dict[str, object]:
        """The options that the numbers depend on."""
        return self._files[0].config

    @property
    def weights(self) -> dict[str, object]:
        """Which weights computed the features."""
        return self._files[0].weights

    @property
    def pose_source(self) -> dict[str, object]:
        """Which models, or which file, the keypoints came from."""
        return self._files[0].pose_source

    @property
    def ids(self) -> list[str]:
        """Ids of the complete videos, in order."""
        if len(self._files) == 1:
            return self._files[0].ids
        holders: dict[str, FeatureFile] = {}
        for file in self._files:
            for video_id in file.ids:
                if video_id in holders:
                    raise _in_two(video_id, holders[video_id], file)
                holders[video_id] = file
        self._holders = holders
        return sorted(holders)

    @property
    def failures(self) -> dict[str, StoredFailure]:
        """Videos that failed and are complete in no other file, by id."""
        found: dict[str, StoredFailure] = {}
        for file in self._files:
            for video_id, failure in file.failures().items():
                if len(self._files) == 1 or video_id not in self:
                    found.setdefault(video_id, failure)
        return found

    def progress(self, video_id: str) -> StoredProgress | None:
        """How much of a video is stored; None if nothing is."""
        found = [there for file in self._files if (there := file.progress(video_id)) is not None]
        return max(found, key=lambda there: (there.complete, there.windows), default=None)

    def survey(self) -> tuple[dict[str, bool], dict[str, str]]:
        """Every video's id and whether it is complete; and the damaged ones with the reason."""
        found: dict[str, bool] = {}
        damaged: dict[str, str] = {}
        for file in self._files:
            here, reasons = file.survey()
            damaged.update(reasons)
            for video_id, complete in here.items():
                found[video_id] = complete or found.get(video_id, False)
        return dict(sorted(found.items())), damaged

    def _holder(self, video_id: str) -> FeatureFile | None:
        """The file in which a video is complete."""
        if len(self._files) == 1:
            return self._files[0] if self._files[0].has(video_id) else None
        known = self._holders.get(video_id)
        if known is None or not known.has(video_id):
            found = [file for file in self._files if file.has(video_id)]
            if len(found) > 1:
                raise _in_two(video_id, *found[:2])
            if not found:
                return None
            known = self._holders[video_id] = found[0]
        return known

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, video_id: object) -> bool:
        return isinstance(video_id, str) and self._holder(video_id) is not None

    def __getitem__(self, video_id: str) -> StoredVideo:
        file = self._holder(video_id) if isinstance(video_id, str) else None
        if file is None:
            near = difflib.get_close_matches(str(video_id), self.ids, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise Missing(f"{self.name} has no complete video {video_id!r}{hint}")
        return StoredVideo(file, video_id)

    __eq__ = object.__eq__  # comparing contents would read the whole file
    __hash__ = object.__hash__

    def table(
        self, features: Sequence[str] = POOLED, *, ids: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pooled features of all windows as one matrix, with an index of its rows.

        Returns:
            (N, C) float32, the features side by side, and a structured array (N,) with ``video`` (a
            position in ``ids``), ``row``, ``start``, ``centre`` and ``end`` in seconds.

        Raises:
            ConfigError: a feature is not pooled.
            KeyError: a video or an array is missing.
        """
        chosen = [self[video_id] for video_id in (self.ids if ids is None else ids)]
        index = index_of(chosen)
        shapes = [chosen[0][name].shape for name in features] if chosen else []
        for name, shape in zip(features, shapes, strict=False):
            if len(shape) != 2:
                raise ConfigError(
                    f"{name}: is {shape[1:]} a window, and a table holds pooled features only; "
                    "dataset() takes others"
                )
        width = sum(shape[1] for shape in shapes)
        matrix = np.empty((len(index), width), np.float32)
        at = 0
        for video in chosen:
            count = len(video["times"])
            parts = [video[name][:] for name in features]
            np.concatenate(parts, axis=1, out=matrix[at : at + count])
            at += count
        return matrix, index

    def dataset(
        self, features: Sequence[str] = POOLED, *, ids: Sequence[str] | None = None
    ) -> WindowDataset:
        """A map-style PyTorch ``Dataset`` of the windows of ``ids``, or of all there are now.

        Raises:
            KeyError: a video or an array is missing.
        """
        from .dataset import WindowDataset

        return WindowDataset(self, features, ids=self.ids if ids is None else ids)


def _in_two(video_id: str, one: FeatureFile, other: FeatureFile) -> StoreError:
    return StoreError(
        f"{video_id} is complete in both {one.path} and {other.path}; read one of them, or "
        "merge them with epam-extract merge, which compares the two"
    )


def index_of(videos: Sequence[StoredVideo]) -> np.ndarray:
    """(N,) of ``TABLE_INDEX``: video and window of each row, over all windows of ``videos``."""
    parts = [np.zeros(0, TABLE_INDEX)]
    for number, video in enumerate(videos):
        times = video["times"][:]
        part = np.empty(len(times), TABLE_INDEX)
        part["video"], part["row"] = number, np.arange(len(times))
        part["start"], part["centre"], part["end"] = times.T
        parts.append(part)
    return np.concatenate(parts)


class StoredVideo(Mapping[str, StoredArray]):
    """One video: its arrays by name, read when they are indexed, and its attributes."""

    def __init__(self, file: FeatureFile, video_id: str) -> None:
        self._file = file
        self.id = video_id

    def __repr__(self) -> str:
        return f"StoredVideo({self.id!r}: {', '.join(self)})"

    def __getitem__(self, name: str) -> StoredArray:
        return StoredArray(self._file, self.id, name)

    def __iter__(self) -> Iterator[str]:
        with self._file.group(self.id) as group:
            names = [name for name in group if name in ARRAY_NAMES]
        return iter(names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def path(self) -> Path:
        """The feature file that holds it; for a file of links, the part."""
        return self._file.holder(self.id).path

    @property
    def attrs(self) -> dict[str, object]:
        """The group's attributes as plain Python values: ``fps_num``, ``feat_stride``, ..."""
        with self._file.group(self.id) as group:
            return get_attributes(group)

    @property
    def fps(self) -> Fraction:
        """Frames per second."""
        with self._file.group(self.id) as group:
            return Fraction(
                int(get_attribute(group, "fps_num")), int(get_attribute(group, "fps_den"))
            )

    def people_at(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (M, F, 17, 2) and scores (M, F, 17) float32 of F frames, in any order."""
        order, place = np.unique(frames, return_inverse=True)
        with self._file.group(self.id) as group:
            keypoints, scores = (video_array(group, name)[:, order] for name in TRACKS)
        return keypoints[:, place], scores[:, place].astype(np.float32)

    def read_all_attributes(self) -> None:
        """Read every attribute the way users of h5py do; raises StoreError if one is damaged."""
        with self._file.group(self.id) as group:
            for holder in (
                group,
                *(video_array(group, name) for name in group if name in ARRAY_NAMES),
            ):
                get_attributes(holder)  # of kinds and sizes that are safe to read
                dict(holder.attrs)

    def addresses(self) -> set[tuple[Path, int]]:
        """The file and the file address of each of its arrays."""
        file = self.path
        with self._file.group(self.id) as group:
            return {(file, where) for name, _, where in children(group) if name in ARRAY_NAMES}

    def checksum(self, name: str) -> int:
        """The checksum stored with an array; :func:`layout.run_on` says of what."""
        with self._file.group(self.id) as group:
            return int(get_attribute(video_array(group, name), "checksum"))
