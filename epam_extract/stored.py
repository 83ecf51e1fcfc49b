"""Reading the file of features, also while a run writes it. :mod:`store` describes its layout."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from .errors import StoreError, StoreLocked
from .journal import committed_view, journal_path
from .layout import OWN_NAMES, SCHEMA_VERSION, StoredFailure, StoredProgress, explain

try:
    import fcntl
except ImportError:  # Windows, where nothing writes
    fcntl = None  # type: ignore[assignment]

BLOCK_BYTES = 8 << 20  # read at a time where an array may be larger than memory
PATIENCE = 60.0  # seconds to wait for a commit to end; it takes milliseconds
SIGNATURE = b"\x89HDF\r\n\x1a\n"
END_ADDRESS = {0: 40, 1: 44, 2: 28, 3: 28}  # where a superblock of this version states the end
BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # h5py's, on a damaged file


class FeatureStore:
    """The complete videos of a file, by id; a context manager.

    ``store["a/b"]["rgb_pooled"]`` is a numpy array. It follows a run that is still writing: every
    access sees the last commit, and no lock outlives the access. Threads, forked and spawned
    workers (a PyTorch ``Dataset`` may hold it) are fine.

    Raises:
        StoreError: there is no such file, or it is not one of ours, or damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._real = self.path.resolve()  # of a link: the journal lies beside its target
        self._mutex = threading.RLock()
        self._descriptor = -1
        self._h5: h5py.File | None = None
        self._stamp: tuple[int, ...] = ()
        self._ids: dict[str, None] | None = None
        self._pid = os.getpid()
        try:
            with self.reading() as h5:
                self.attributes = _own_attributes(h5, self.path)
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
            if self._h5 is not None:
                self._h5.close()
                self._h5 = None
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
    def ids(self) -> list[str]:
        """Ids of the complete videos, in order."""
        with self.reading() as h5:
            if self._ids is None:
                found = (name for name, group in walk(h5) if is_complete(group))
                self._ids = dict.fromkeys(sorted(found))
            return list(self._ids)

    @property
    def failures(self) -> dict[str, StoredFailure]:
        """Videos that failed, by id."""
        with self.reading() as h5:
            return read_failures(h5)

    def progress(self, video_id: str) -> StoredProgress | None:
        """How far the file has a video, None if it has nothing of it."""
        with self.reading() as h5:
            group = video_group(h5, video_id)
            return None if group is None else read_progress(group)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, video_id: object) -> bool:
        if not isinstance(video_id, str):
            return False
        with self.reading() as h5:
            group = video_group(h5, video_id)
            return group is not None and is_complete(group)

    def __getitem__(self, video_id: str) -> StoredVideo:
        if video_id not in self:
            raise KeyError(f"{self.path} has no complete video {video_id!r}")
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
                yield self._h5
            finally:
                if fcntl is not None:
                    with contextlib.suppress(OSError):
                        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _open_if_needed(self) -> None:
        if self._descriptor >= 0:
            if self._pid == os.getpid() and _same_file(self._descriptor, self.path):
                return
            self.close()
        try:
            if self.path.is_dir():
                raise StoreError(f"{self.path}: is a directory, expected a file of features")
            self._descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise explain(error, self.path) from error
        self._pid = os.getpid()

    def _refresh(self, stamp: tuple[int, ...]) -> None:
        if self._h5 is not None:
            self._h5.close()
            self._h5 = None
        self._ids = None
        end_of_file = end_of_file_in(self.path)
        view = committed_view(self._descriptor, self._real, end_of_file=end_of_file)
        try:
            self._h5 = h5py.File(view, "r")
        except BROKEN as error:
            raise StoreError(
                f"{self.path}: is damaged and cannot be opened as HDF5 ({error})"
            ) from error
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
        with self._store.reading() as h5:
            group = video_group(h5, self.id)
            if group is None:
                raise KeyError(f"{self._store.path} no longer has the video {self.id!r}")
            yield group

    def __getitem__(self, name: str) -> np.ndarray:
        with self._group() as group:
            return _array(group, name)[()]

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
            return {name: _plain(value) for name, value in group.attrs.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        """An array's shape, without reading it."""
        with self._group() as group:
            return _array(group, name).shape

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` of an array too large to read at once."""
        with self._group() as group:
            return _array(group, name)[start:stop]

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """The whole array in C order, a bounded number of bytes at a time."""
        with self._group() as group:
            spans = list(_spans(_array(group, name)))
        for span in spans:
            with self._group() as group:
                yield _array(group, name)[span]

    def checksum(self, name: str) -> int:
        """The crc32 stored with an array."""
        with self._group() as group:
            return int(_array(group, name).attrs["crc32"])


def end_of_file_in(path: Path) -> EndOfFile:
    """What :mod:`journal` needs to know of HDF5: the length a file states in its first bytes."""
    return EndOfFile(path)


class EndOfFile:
    """Reads an HDF5 superblock; raises StoreError where there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, head: bytes) -> int:
        """Length of the file whose first bytes are ``head``."""
        version = head[8]
        if head[:8] != SIGNATURE or version not in END_ADDRESS:
            raise StoreError(
                f"{self._path}: is not an HDF5 file; choose another output file, or move it away"
            )
        at = END_ADDRESS[version]
        return int.from_bytes(head[at : at + 8], "little")


def video_group(h5: h5py.File, video_id: str) -> h5py.Group | None:
    """The group of a video, complete or not; None if there is none."""
    try:
        group = h5[f"videos/{video_id}"]
    except (KeyError, UnicodeEncodeError):
        return None
    return group if isinstance(group, h5py.Group) and is_video(group) else None


def is_video(group: h5py.Group) -> bool:
    """Whether this is a video's group, and no mere folder of videos."""
    return h5py.h5a.exists(group.id, b"complete")


def get_attribute(holder: h5py.Group | h5py.Dataset, name: str) -> np.ndarray:
    """A number among the attributes; 10 times as fast as ``attrs``, which tells with 10000 videos.

    Raises KeyError if it is not there.
    """
    attribute = h5py.h5a.open(holder.id, name.encode())
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    return value


def set_attribute(holder: h5py.Group | h5py.Dataset, name: str, value: object) -> None:
    """Set an attribute, fast where it is a number."""
    if isinstance(value, str):
        holder.attrs[name] = value
        return
    array, key = np.array(value), name.encode()
    if h5py.h5a.exists(holder.id, key):
        attribute = h5py.h5a.open(holder.id, key)
    else:
        kind = h5py.h5t.py_create(array.dtype, logical=True)
        attribute = h5py.h5a.create(holder.id, key, kind, h5py.h5s.create(h5py.h5s.SCALAR))
    attribute.write(array)


def walk(h5: h5py.File) -> Iterator[tuple[str, h5py.Group]]:
    """Every video's id and group, complete or not; groups may lie inside one another."""
    folders = [("", h5["videos"])]
    while folders:
        prefix, folder = folders.pop()
        own = OWN_NAMES if is_video(folder) else frozenset()
        for name in folder:
            if name in own:
                continue
            group = folder[name]
            if is_video(group):
                yield prefix + name, group
            folders.append((f"{prefix}{name}/", group))


def is_complete(group: h5py.Group) -> bool:
    """Whether a video counts."""
    return bool(get_attribute(group, "complete"))


def read_progress(group: h5py.Group) -> StoredProgress:
    """How far a video is."""
    complete = is_complete(group)
    return StoredProgress(
        complete=complete,
        windows=int(get_attribute(group, "num_windows")) if complete else len(group["frames"]),
        frames=int(get_attribute(group, "num_frames")) if complete else group["keypoints"].shape[1],
        size=int(get_attribute(group, "source_size")),
        mtime_ns=int(get_attribute(group, "source_mtime_ns")),
    )


def read_failures(h5: h5py.File) -> dict[str, StoredFailure]:
    """The table of failures, in its order."""
    return {
        row["id"].decode(): StoredFailure(
            row["stage"].decode(), row["message"].decode(), int(row["size"]), int(row["mtime_ns"])
        )
        for row in h5["failures"][()]
    }


def checksum(array: h5py.Dataset) -> int:
    """crc32 of an array's bytes in C order, read a bounded number of bytes at a time."""
    value = 0
    for span in _spans(array):
        value = zlib.crc32(np.ascontiguousarray(array[span]).data, value)
    return value


def _spans(array: h5py.Dataset) -> Iterator[tuple[slice, ...]]:
    """Index ranges of at most BLOCK_BYTES that cover an array in C order."""
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


def _array(group: h5py.Group, name: str) -> h5py.Dataset:
    if name not in OWN_NAMES or name not in group:
        have = ", ".join(sorted(set(group) & OWN_NAMES))
        raise KeyError(f"{group.name} has no array {name!r}; it has {have}")
    return group[name]


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _own_attributes(h5: h5py.File, path: Path) -> dict[str, object]:
    attributes = {name: _plain(value) for name, value in h5.attrs.items()}
    if not {"schema_version", "tool", "config", "weights", "pose_source"} <= attributes.keys():
        raise StoreError(
            f"{path}: is an HDF5 file, but none of epam-extract's; choose another output file, or "
            "move it away"
        )
    version = attributes["schema_version"]
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: has schema {version}, written by {attributes['tool']}; this version reads up "
            f"to {SCHEMA_VERSION}. Upgrade epam-extract, or choose another output file."
        )
    return attributes


def _require_filter(config: Mapping[str, object]) -> None:
    if config.get("compression") == "blosc2":
        load_blosc2()


def load_blosc2() -> Mapping[str, object]:
    """Keywords of ``create_dataset`` for Blosc2. Raises StoreError where it is not installed."""
    try:
        import hdf5plugin
    except ImportError:
        raise StoreError(
            "compression blosc2 needs the package hdf5plugin, to write and to read: "
            "pip install 'epam-extract[blosc2]', or use --compression lzf or gzip"
        ) from None
    return dict(hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=hdf5plugin.Blosc2.NOFILTER))


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
