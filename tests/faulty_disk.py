"""A disk that fails on demand, and one whose power is cut: for the tests of the store."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from epam_extract.store.disk import Operations

FAULTS = ("before", "half", "after", "full once", "full for good")


@contextmanager
def folder_in_memory(fallback: Path) -> Iterator[Path]:
    """A folder on a disk that costs no time, where there is one."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield fallback
        return
    folder = Path(tempfile.mkdtemp(dir=shared))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Where syncing costs no time; for the tests of a module that imports it."""
    with folder_in_memory(tmp_path) as folder:
        yield folder


def fresh_folders(base: Path) -> Iterator[Path]:
    """A new folder a trial, gone after it."""
    for number in itertools.count():
        folder = base / str(number)
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)


class Killed(BaseException):
    """The process is gone: nothing after this may reach the disk."""


class FaultyDisk(Operations):
    """Counts the operations, and lets the ``at``-th one (from 0) meet a ``fault``."""

    def __init__(self, *, at: int = -1, fault: str = "") -> None:
        self.count = 0
        self._at, self._fault = at, fault
        self._killed = False

    def _meets(self) -> str:
        """What becomes of this operation: "", "half", "after", "full"; or Killed is raised."""
        if self._killed:
            raise Killed
        number = self.count
        self.count += 1
        if self._at < 0 or number < self._at:
            return ""
        if self._fault.startswith("full"):
            return "full" if number == self._at or self._fault == "full for good" else ""
        if number > self._at:
            return ""
        self._killed = True
        if self._fault == "before":
            raise Killed
        return self._fault

    def _done(self) -> None:
        if self._killed:
            raise Killed

    def _small(self) -> None:
        """An operation that has no half."""
        met = self._meets()
        if met == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if met == "half":
            raise Killed

    def open(self, path: Path, flags: int) -> int:
        self._small()
        descriptor = super().open(path, flags)
        if self._killed:
            os.close(descriptor)
        self._done()
        return descriptor

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        met = self._meets()
        if met in ("half", "full"):
            if len(data) // 2:
                super().pwrite(descriptor, data[: len(data) // 2], offset)
            self._done()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().pwrite(descriptor, data, offset)
        self._done()
        return written

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._small()
        super().ftruncate(descriptor, length)
        self._done()

    def fsync(self, descriptor: int) -> None:
        self._small()  # a real one would only cost time: no power is cut here
        self._done()

    def rename(self, source: Path, target: Path) -> None:
        self._small()
        super().rename(source, target)
        self._done()

    def unlink(self, path: Path) -> None:
        self._small()
        super().unlink(path)
        self._done()


@dataclass
class Inode:
    """A file as the disk knows it: what is durable, and what a power cut may lose."""

    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, data) of a write, (length, None) of a truncation."""


class RecordingDisk(Operations):
    """Works, and remembers every operation, so that :meth:`cut` can lose some."""

    def __init__(self) -> None:
        self.log: list[tuple[str, tuple]] = []
        self._inodes: dict[int, int] = {}  # of the file system -> ours, never used twice

    def open(self, path: Path, flags: int) -> int:
        new = not path.exists()
        descriptor = super().open(path, flags)
        inode = os.fstat(descriptor).st_ino
        if new:
            self._inodes[inode] = len(self.log)
            self.log.append(("create", (path.name, self._inodes[inode])))
        elif flags & os.O_TRUNC:
            self.log.append(("truncate", (self._inodes[inode], 0)))
        return descriptor

    def _inode(self, descriptor: int) -> int:
        return self._inodes[os.fstat(descriptor).st_ino]

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        self.log.append(("write", (self._inode(descriptor), offset, bytes(data))))
        return super().pwrite(descriptor, data, offset)

    def ftruncate(self, descriptor: int, length: int) -> None:
        self.log.append(("truncate", (self._inode(descriptor), length)))
        super().ftruncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self.log.append(("sync names", ()))
        else:
            self.log.append(("sync", (self._inode(descriptor),)))

    def rename(self, source: Path, target: Path) -> None:
        self.log.append(("rename", (source.name, target.name)))
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self.log.append(("unlink", (path.name,)))
        super().unlink(path)

    def cut(self, folder: Path, *, after: int, rng: random.Random) -> None:
        """Put into ``folder`` what may be left if the power goes after ``after`` operations.

        Whatever was not synced is, independently, kept, lost or torn; names change in order.
        """
        inodes: dict[int, Inode] = {}
        names: dict[str, int] = {}
        durable_names: dict[str, int] = {}
        moves: list[dict[str, int]] = []
        for operation, details in self.log[:after]:
            if operation == "create":
                name, inode = details
                inodes[inode] = Inode()
                names = {**names, name: inode}
                moves.append(names)
            elif operation == "write":
                inode, offset, data = details
                inodes[inode].unsynced.append((offset, data))
            elif operation == "truncate":
                inode, length = details
                inodes[inode].unsynced.append((length, None))
            elif operation == "sync":
                for change in inodes[details[0]].unsynced:
                    _apply(inodes[details[0]].durable, change)
                inodes[details[0]].unsynced.clear()
            elif operation == "rename":
                source, target = details
                names = {n: i for n, i in names.items() if n != source} | {target: names[source]}
                moves.append(names)
            elif operation == "unlink":
                names = {n: i for n, i in names.items() if n != details[0]}
                moves.append(names)
            elif operation == "sync names":
                durable_names = names
                moves.clear()
        kept = rng.randint(0, len(moves))
        left = moves[kept - 1] if kept else durable_names
        losing = rng.choice(("some", "all", "the last", "the first"))
        for name, number in left.items():
            (folder / name).write_bytes(_survivors(inodes[number], losing, rng))


def _survivors(inode: Inode, losing: str, rng: random.Random) -> bytes:
    content = bytearray(inode.durable)
    edge = rng.randint(0, len(inode.unsynced))
    for index, (offset, data) in enumerate(inode.unsynced):
        keep = {
            "some": rng.random() < 0.5,
            "all": False,
            "the last": index < edge,
            "the first": index >= edge,
        }[losing]
        if not keep:
            continue
        if data is not None and rng.random() < 0.2:
            data = data[: rng.randint(0, len(data))]
        _apply(content, (offset, data))
    return bytes(content)


def _apply(content: bytearray, change: tuple[int, bytes | None]) -> None:
    offset, data = change
    end = offset if data is None else offset + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset:end] = data


def spread(total: int, wanted: int) -> Sequence[int]:
    """About ``wanted`` of the numbers under ``total``, evenly, the first and the last included."""
    if wanted >= total:
        return range(total)
    return sorted({round(i * (total - 1) / (wanted - 1)) for i in range(wanted)})
