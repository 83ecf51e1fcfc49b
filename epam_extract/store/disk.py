"""The system calls that change a disk, and safe ways to open the output and its companions."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from ..errors import StoreError


class Operations:
    """The system calls that change a disk: the store makes no others, and tests replace them."""

    def open(self, path: Path, flags: int) -> int:
        """Open ``path``, creating it when ``flags`` says so."""
        return os.open(path, flags, 0o644)

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        """Write some of ``data`` at ``offset``; return how many bytes."""
        return os.pwrite(descriptor, data, offset)

    def ftruncate(self, descriptor: int, length: int) -> None:
        """Cut or extend to ``length`` bytes."""
        os.ftruncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        """Wait until the file, or the directory, is on the disk."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Replace ``target`` by ``source``, atomically."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()


def open_companion(path: Path, operations: Operations) -> int:
    """Open or create a regular file next to the output, never through a link.

    Raises StoreError if something else has that name.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK  # of a pipe: do not wait
    while True:
        try:
            descriptor = operations.open(path, flags)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise in_the_way(path) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise in_the_way(path)
        if is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its last user has just removed it: open a new one


def open_to_read(path: Path) -> int:
    """Open an existing companion of the output; raises StoreError unless it is a regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise in_the_way(path) from error
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise in_the_way(path)


def open_regular(path: Path) -> int:
    """Open the output to read it; raises StoreError unless it is a regular file."""
    mode = path.stat().st_mode  # opening a device may have side effects
    if stat.S_ISREG(mode):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return descriptor
        os.close(descriptor)
    raise StoreError(
        f"{path}: is {'a directory' if stat.S_ISDIR(mode) else 'no regular file'}, expected a file "
        "of features"
    )


def in_the_way(path: Path) -> StoreError:
    """The error when a name we need is taken by a file that we did not write."""
    return StoreError(
        f"{path}: exists but was not written by epam-extract; move it away, or choose another "
        "output file"
    )


def is_at(descriptor: int, path: Path) -> bool:
    """Whether ``path`` still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def require_one_name(descriptor: int, path: Path) -> None:
    """Raise StoreError if an open file has several names (hard links).

    A commit would change the file under its other names too, such as a backup. After a kill its
    journal would lie next to this name only, and the others would show a half-changed file.
    """
    names = os.fstat(descriptor).st_nlink
    if names > 1:
        raise StoreError(
            f"{path}: is one file with {names} names (hard links), and writing it would change "
            f"it under all of them. Give this name its own copy (cp {path.name} copy, then mv copy "
            f"{path.name}), or choose another output file"
        )


def require_in_place(descriptor: int, path: Path) -> None:
    """Raise StoreError unless ``path`` still names the open file."""
    if is_at(descriptor, path):
        return
    where = ""
    with contextlib.suppress(OSError):
        where = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115  # no Path of a lost file
    if path.exists():
        what = "was replaced by another file"
    elif os.fstat(descriptor).st_nlink:
        what = "was moved"
    else:
        what = "was deleted"
    data = (
        f"what was committed is in {where}; move it back and run the same command again"
        if os.fstat(descriptor).st_nlink and where
        else "what was committed is lost with it; run the same command again"
    )
    raise StoreError(f"{path}: {what} while it was written. The run stops here: {data}.")
