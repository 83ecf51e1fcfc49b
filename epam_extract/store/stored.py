"""Reading the file of features, also while a run writes it. :mod:`store` describes its layout."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from ..config import COMPRESSIONS
from ..errors import StoreError, StoreLocked
from .disk import open_regular
from .hdf5 import (
    Missing,
    end_of_file_in,
    explained,
    is_complete,
    load_blosc2,
    own_array,
    read_failures,
    read_progress,
    spans,
    video_group,
    videos_group,
    walk,
)
from .journal import committed_view, journal_path
from .layout import (
    OWN_NAMES,
    SCHEMA_VERSION,
    StoredFailure,
    StoredProgress,
    StoreHeader,
    explain,
    feature_specs,
)
from .objects import children, get_attribute, get_attributes
from .parts import LinkedParts, LinkedVideos, is_linked

try:
    import fcntl
except ImportError:  # Windows, where nothing writes
    fcntl = None  # type: ignore[assignment]

TABLE_INDEX = np.dtype(
    [("video", "<i4"), ("row", "<i4"), ("start", "<f8"), ("centre", "<f8"), ("end", "<f8")]
)
MAX_OPEN = 1000  # arrays kept open between accesses; opening one takes longer than reading a row
OWN_ATTRIBUTES = {"schema_version", "tool", "created", "config", "weights", "pose_source"}
PATIENCE = 60.0  # seconds to wait for a commit to end; it takes milliseconds


class FeatureStore(Mapping[str, "StoredVideo"]):
    """The complete videos of a file, by id: a mapping, and a context manager.

    ``store["a/b"]["rgb_pooled"]`` is a numpy array; ``store.table()`` is all of them in one matrix;
    ``store["a/b"].rows("rgb", 10, 12)`` reads two rows and nothing else. It follows a run that is
    still writing: every access sees the last commit, and no lock outlives the access. Threads,
    forked and spawned workers (a PyTorch ``Dataset`` may hold it) are fine. A file made by
    ``merge --link`` shows the videos of its parts.

    Raises:
        StoreError: there is no such file, or it is not one of ours, or damaged; or a part of it is
            missing, or was changed since it was linked.
    """

    def __init__(self, path: Path | str, *, check_parts: bool = True) -> None:
        self.path = Path(path)
        self._check_parts = check_parts  # of a file of links, which is to be written again
        self._real = self.path.resolve()  # of a link: the journal lies beside its target
        self._mutex = threading.RLock()
        self._descriptor = -1
        self._h5: h5py.File | None = None
        self._stamp: tuple[int, ...] = ()
        self.attributes: dict[str, object] = {}
        self._ids: dict[str, None] | None = None
        self._complete: set[str] = set()
        self._arrays: dict[tuple[str, str], h5py.Dataset] = {}
        self._parts: LinkedParts | None = None
        self._pid = os.getpid()
        try:
            with self.reading():
                pass
        except BaseException:
            self.close()
            raise
        _require_filter(self.config)

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path]]:
        return FeatureStore, (self.path,)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}, {len(self)} videos)"

    def close(self) -> None:
        """Let the file go; the next access opens it again."""
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
    def parts(self) -> list[str]:
        """Files that a file made by ``merge --link`` leads to; none for any other."""
        with self.reading():
            return [] if self._parts is None else self._parts.names

    def linked_videos(self) -> dict[str, LinkedVideos]:
        """Which videos a file made by ``merge --link`` leads to, by part."""
        with self.reading() as h5:
            return {} if self._parts is None else self._parts.videos(h5, {})

    @property
    def ids(self) -> list[str]:
        """Ids of the complete videos, in order."""
        with self.reading():
            if self._ids is None:
                found = (name for name, group in self.groups() if is_complete(group))
                self._ids = dict.fromkeys(sorted(found))
            return list(self._ids)

    @property
    def failures(self) -> dict[str, StoredFailure]:
        """Videos that failed, by id."""
        with self.reading() as h5:
            return read_failures(h5)

    def progress(self, video_id: str) -> StoredProgress | None:
        """How far the file has a video, None if it has nothing of it."""
        with self.group(video_id) as group:
            return None if group is None else read_progress(group)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, video_id: object) -> bool:
        if not isinstance(video_id, str):
            return False
        with self.reading():
            if video_id not in self._complete:
                with self.group(video_id) as group:
                    if group is None or not is_complete(group):
                        return False
                self._complete.add(video_id)
            return True

    def __getitem__(self, video_id: str) -> StoredVideo:
        if video_id not in self:
            near = difflib.get_close_matches(str(video_id), self.ids, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise Missing(f"{self.path} has no complete video {video_id!r}{hint}")
        return StoredVideo(self, video_id)

    __eq__ = object.__eq__  # not by content: that would read the whole file
    __hash__ = object.__hash__

    def table(
        self,
        features: Sequence[str] = ("rgb_pooled", "pose_pooled"),
        *,
        ids: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pooled features of all windows as one matrix, and which window each row is.

        Returns:
            (N, C) float32, the features side by side, and a structured array (N,) with ``video``
            (its place in ``ids``), ``row``, ``start``, ``centre`` and ``end`` in seconds.

        Raises:
            KeyError: a video or an array is not there.
        """
        chosen = [self[video_id] for video_id in (self.ids if ids is None else ids)]
        counts = [video.shape("times")[0] for video in chosen]
        width = sum(chosen[0].shape(name)[1] for name in features) if chosen else 0
        matrix = np.empty((sum(counts), width), np.float32)
        index = np.zeros(sum(counts), TABLE_INDEX)
        at = 0
        for number, (video, count) in enumerate(zip(chosen, counts, strict=True)):
            where = slice(at, at + count)
            np.concatenate([video[name] for name in features], axis=1, out=matrix[where])
            index["video"][where], index["row"][where] = number, np.arange(count)
            for column, name in enumerate(("start", "centre", "end")):
                index[name][where] = video["times"][:, column]
            at += count
        return matrix, index

    def survey(self) -> tuple[dict[str, bool], dict[str, str]]:
        """Every video's id and whether it is complete; and what is damaged, with the reason."""
        damaged: dict[str, str] = {}
        with self.reading():
            found = {name: is_complete(group) for name, group in self.groups(damaged=damaged)}
        return dict(sorted(found.items())), damaged

    def video(self, video_id: str) -> StoredVideo:
        """A video, complete or not, whether it is there or not."""
        return StoredVideo(self, video_id)

    @contextlib.contextmanager
    def reading(self) -> Iterator[h5py.File]:
        """The file as of its last commit; commits wait until the block ends, so be quick."""
        with self._mutex:
            self._open_if_needed()
            _share(self._descriptor, self.path)
            try:
                stamp = _stamp(self._descriptor, self._real)
                if self._h5 is None or stamp != self._stamp:
                    self._refresh(stamp)
                with explained(self.path):
                    yield self._h5
            finally:
                if fcntl is not None:
                    with contextlib.suppress(OSError):
                        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def holder(self, video_id: str) -> FeatureStore:
        """The file that a video's arrays lie in: this one, or the part that its link leads to."""
        with self.reading() as h5:
            part = None if self._parts is None else self._parts.part_of(h5, video_id)
            return self if self._parts is None or part is None else self._parts.store(part)

    @contextlib.contextmanager
    def group(self, video_id: str) -> Iterator[h5py.Group | None]:
        """A video's group as of the last commit, complete or not, None if there is none."""
        with self.reading() as h5:
            if self._parts is None:
                yield video_group(h5, video_id)
                return
        with self.holder(video_id).reading() as h5:
            yield video_group(h5, video_id)

    def groups(self, *, damaged: dict[str, str] | None = None) -> Iterator[tuple[str, h5py.Group]]:
        """Every video's id and group, complete or not; as :func:`hdf5.walk`, and in its parts."""
        with self.reading() as h5:
            if self._parts is None:
                yield from walk(h5, damaged=damaged)
                return
            for name, linked in self._parts.videos(h5, damaged).items():
                if not (linked.with_all or linked.alone):
                    continue
                with self._parts.store(name).reading() as there:
                    yield from linked.found_in(there, damaged)

    def _open_if_needed(self) -> None:
        if self._descriptor >= 0:
            if self._pid == os.getpid() and _same_file(self._descriptor, self.path):
                return
            self.close()
        try:
            self._descriptor = open_regular(self.path)
        except OSError as error:
            raise explain(error, self.path) from error
        self._pid = os.getpid()

    def _forget(self) -> None:
        """Close what is open of the last commit seen."""
        self._arrays.clear()
        self._complete.clear()
        self._ids = None
        if self._parts is not None:
            self._parts.close()
            self._parts = None
        if self._h5 is not None:
            self._h5.close()
            self._h5 = None

    @contextlib.contextmanager
    def array(self, video_id: str, name: str) -> Iterator[h5py.Dataset]:
        """A video's array as of the last commit, open for the length of an access."""
        with self.reading() as h5:
            if self._parts is None:
                yield self._own_array(h5, video_id, name)
                return
            holder = self.holder(video_id)
        if holder is self:
            raise Missing(f"{self.path} no longer has the video {video_id!r}")
        with holder.array(video_id, name) as array:
            yield array

    def _own_array(self, h5: h5py.File, video_id: str, name: str) -> h5py.Dataset:
        array = self._arrays.get((video_id, name))
        if array is None:
            group = video_group(h5, video_id)
            if group is None:
                raise Missing(f"{self.path} no longer has the video {video_id!r}")
            array = own_array(group, name)
            if len(self._arrays) >= MAX_OPEN:
                self._arrays.clear()
            self._arrays[video_id, name] = array
        return array

    def _refresh(self, stamp: tuple[int, ...]) -> None:
        self._forget()
        end_of_file = end_of_file_in(self.path)
        view = committed_view(self._descriptor, self._real, end_of_file=end_of_file)
        with explained(self.path, whole=True):
            self._h5 = h5py.File(view, "r", rdcc_nbytes=0)
            self.attributes = _own_attributes(self._h5, self.path)
            read_failures(self._h5)
            if is_linked(self.attributes):
                header = StoreHeader(self.config, self.weights, self.pose_source)
                self._parts = LinkedParts(self._real, self.attributes, header, FeatureStore)
                if self._check_parts:
                    self._parts.check()
        self._stamp = stamp


class StoredVideo(Mapping[str, np.ndarray]):
    """One video's arrays, read when asked for, and its attributes."""

    def __init__(self, store: FeatureStore, video_id: str) -> None:
        self._store = store
        self.id = video_id

    def __repr__(self) -> str:
        return f"StoredVideo({self.id!r}: {', '.join(self)})"

    @contextlib.contextmanager
    def _group(self) -> Iterator[h5py.Group]:
        with self._store.group(self.id) as group:
            if group is None:
                raise Missing(f"{self._store.path} no longer has the video {self.id!r}")
            yield group

    def __getitem__(self, name: str) -> np.ndarray:
        with self._store.array(self.id, name) as array:
            return array[()]

    def __iter__(self) -> Iterator[str]:
        with self._group() as group:
            names = [name for name in group if name in OWN_NAMES]
        return iter(names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def attrs(self) -> dict[str, object]:
        """The group's attributes as plain Python values: ``fps_num``, ``feat_stride``, ..."""
        with self._group() as group:
            return get_attributes(group)

    @property
    def fps(self) -> Fraction:
        """Frames per second."""
        with self._group() as group:
            return Fraction(
                int(get_attribute(group, "fps_num")), int(get_attribute(group, "fps_den"))
            )

    def shape(self, name: str) -> tuple[int, ...]:
        """An array's shape, without reading it."""
        with self._store.array(self.id, name) as array:
            return array.shape

    def dtype(self, name: str) -> np.dtype:
        """An array's dtype."""
        with self._store.array(self.id, name) as array:
            return array.dtype

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` of an array too large to read at once."""
        with self._store.array(self.id, name) as array:
            return array[start:stop]

    def people_at(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (M, F, 17, 2) and scores (M, F, 17) float32 of F frames, in any order."""
        order, place = np.unique(frames, return_inverse=True)
        with self._group() as group:
            keypoints, scores = (
                own_array(group, name)[:, order] for name in ("keypoints", "keypoint_scores")
            )
        return keypoints[:, place], scores[:, place].astype(np.float32)

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """The whole array in C order, a bounded number of bytes at a time."""
        with self._store.array(self.id, name) as array:
            parts = list(spans(array))
        for span in parts:
            with self._store.array(self.id, name) as array:
                yield array[span]

    def read_plainly(self) -> None:
        """Read every attribute as h5py does for anybody; raises StoreError where it cannot."""
        with self._group() as group:
            for holder in (group, *(own_array(group, name) for name in group if name in OWN_NAMES)):
                get_attributes(holder)  # of kinds and sizes that are safe to read
                dict(holder.attrs)

    def addresses(self) -> set[tuple[Path, int]]:
        """In which file its arrays lie, and where in it."""
        file = self._store.holder(self.id).path
        with self._group() as group:
            return {(file, where) for name, _, where in children(group) if name in OWN_NAMES}

    def checksum(self, name: str) -> int:
        """The checksum stored with an array; :func:`layout.run_on` says of what."""
        with self._group() as group:
            return int(get_attribute(own_array(group, name), "checksum"))


def _own_attributes(h5: h5py.File, path: Path) -> dict[str, object]:
    attributes = get_attributes(h5)
    if not OWN_ATTRIBUTES.issubset(attributes):
        raise StoreError(
            f"{path}: is an HDF5 file, but none of epam-extract's; choose another output file, or "
            "move it away"
        )
    videos_group(h5)
    version = attributes["schema_version"]
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"schema {version}")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: has schema {version}, written by {attributes['tool']}; this version reads up "
            f"to {SCHEMA_VERSION}. Upgrade epam-extract, or choose another output file."
        )
    for name in ("config", "weights", "pose_source"):
        if not isinstance(json.loads(str(attributes[name])), dict):
            raise ValueError(f"{name} is no JSON object")
    config = json.loads(str(attributes["config"]))
    feature_specs(config)
    if config.get("compression") not in COMPRESSIONS:
        raise ValueError(f"config names no compression that there is: {config.get('compression')}")
    return attributes


def _require_filter(config: Mapping[str, object]) -> None:
    if config.get("compression") == "blosc2":
        load_blosc2()


def _share(descriptor: int, path: Path) -> None:
    """Keep commits out for the length of an access."""
    if fcntl is None:
        return None
    start = time.monotonic()
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - start > PATIENCE:
                raise StoreLocked(
                    f"{path}: another program has had it open for writing for {PATIENCE:.0f} s"
                ) from None
            time.sleep(0.002)
        except OSError:
            return None  # a file system without locks: nothing of ours writes there


def _stamp(descriptor: int, path: Path) -> tuple[int, ...]:
    """Changes with every commit, and with a journal that waits to be replayed."""
    main = os.fstat(descriptor)
    try:
        beside = journal_path(path).stat()
        journal = (beside.st_size, beside.st_mtime_ns if beside.st_size else 0)
    except OSError:
        journal = (0, 0)
    return (main.st_ino, main.st_size, main.st_mtime_ns, *journal)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return True  # deleted meanwhile: what we hold open is still good
