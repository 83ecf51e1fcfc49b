"""The calls that change a disk, and which files are ours to change."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from pathlib import Path

from ..errors import StoreError, StoreLocked

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WRITER_BYTE = 1 << 62  # far past any data: whoever has it locked is the file's one writer
FLOCK = struct.Struct("hhqqi")  # struct flock of 64-bit Linux


class Operations:
    """The calls that change a disk. Tests replace them; nothing else in the store touches one."""

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
        """Put ``source`` in the place of ``target``, atomically."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Take a name away."""
        path.unlink()


def open_companion(path: Path, operations: Operations) -> int:
    """Open or create a regular file beside the output; never through a link.

    Raises StoreError where something else has that name.
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
        os.close(descriptor)  # its last user has just taken it away: have a new one


def open_to_read(path: Path) -> int:
    """Open a companion of the output as it is; raises StoreError for what is no regular file."""
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
    """Open the output to read it; raises StoreError at once for what is no regular file."""
    mode = path.stat().st_mode  # a device may do something when it is opened
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
    """A name we need is taken by a file that is not ours."""
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


def take_lock(path: Path, operations: Operations, *, output: Path) -> int:
    """Open the lock file of ``output`` and lock it; it then holds this process's id.

    Whoever has locked a file whose name was taken away meanwhile starts over.

    Raises:
        StoreLocked: another process has it.
        StoreError: it is not ours, or the file system has no locks.
    """
    while True:
        descriptor = open_companion(path, operations)
        try:
            content = os.pread(descriptor, 64, 0)
            if content.strip(b"0123456789\n"):
                raise in_the_way(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = content.decode("ascii").strip() or "unknown"
                raise locked(output, f"process {holder}") from None
            except OSError as error:
                raise StoreError(
                    f"{path}: this file system has no file locks ({error.strerror}). Write the "
                    "output to a local disk, and copy it when it is done."
                ) from error
            if not is_at(descriptor, path):
                os.close(descriptor)
                continue
            with contextlib.suppress(OSError):  # only a courtesy to whoever is refused
                operations.ftruncate(descriptor, 0)
                operations.pwrite(descriptor, memoryview(f"{os.getpid()}\n".encode()), 0)
            return descriptor
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise


def claim(descriptor: int, path: Path) -> None:
    """Be the one writer of an open file, whatever name others open it by (Linux only).

    Raises StoreLocked where another process is.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return
    record = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, WRITER_BYTE, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, record)
    except BlockingIOError:
        raise locked(path, "another process (by another name)") from None
    except OSError:
        return  # a file system without such locks; the lock file serves


def require_unwritten(path: Path, *, lock: Path) -> None:
    """Raise StoreLocked while a process writes ``path``; creates and keeps no lock itself."""
    try:
        descriptor = open_to_read(lock)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip() or "unknown"
        raise StoreLocked(
            f"{path}: process {holder} is still writing it. Wait until it ends, or stop it; then "
            "run the same command again."
        ) from None
    finally:
        os.close(descriptor)


def locked(path: Path, holder: str) -> StoreLocked:
    """Another process writes the output."""
    return StoreLocked(
        f"{path}: {holder} is writing it. Wait until it ends, or stop it, or choose another "
        "output file."
    )


def require_one_name(descriptor: int, path: Path) -> None:
    """Raise StoreError where an open file has several names (hard links).

    A commit would change what the others name, such as a backup; and after a kill its journal would
    lie beside this one only, so that the others named a file half changed.
    """
    names = os.fstat(descriptor).st_nlink
    if names > 1:
        raise StoreError(
            f"{path}: is one file with {names} names (hard links), and writing it would change "
            f"what the others name. Give it a copy of its own (cp {path.name} copy, then mv copy "
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


def holders(path: Path) -> str:
    """The other processes that hold a lock on ``path``, as " (process 12)", or nothing."""
    try:
        inode = f":{path.stat().st_ino}"
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return ""
    found = sorted({row[4] for row in rows if row[1] == "FLOCK" and row[5].endswith(inode)})
    others = [pid for pid in found if pid not in ("0", "-1", str(os.getpid()))]
    return f" (process {', '.join(others)})" if others else ""
