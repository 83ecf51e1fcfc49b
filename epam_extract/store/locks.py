"""Locks of a file that is read while it is written, and how readers notice a commit."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
from pathlib import Path

from ..errors import StoreError, StoreLocked
from .disk import Operations, in_the_way, is_at, open_companion, open_to_read

try:
    import fcntl
except ImportError:  # Windows, where nothing writes
    fcntl = None  # type: ignore[assignment]

WRITER_BYTE = 1 << 62  # far past any data: the file's only writer has it locked
FLOCK = struct.Struct("hhqqi")  # struct flock of 64-bit Linux
PATIENCE = 60.0  # seconds to wait for a commit, which takes milliseconds
FIRST_WARNING, NEXT_WARNING = 5.0, 60.0  # seconds that a commit waits for readers before it warns

log = logging.getLogger(__name__)


def take_lock(path: Path, operations: Operations, *, output: Path) -> int:
    """Open and lock the lock file of ``output``; it then contains this process's id.

    Starts over if the file was removed before it was locked.

    Raises:
        StoreLocked: another process holds the lock.
        StoreError: the file is not ours, or the file system has no locks.
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
                raise locked_by(output, f"process {holder}") from None
            except OSError as error:
                raise StoreError(
                    f"{path}: this file system has no file locks ({error.strerror}). Write the "
                    "output to a local disk, and copy it when it is done."
                ) from error
            if not is_at(descriptor, path):
                os.close(descriptor)
                continue
            with contextlib.suppress(OSError):  # only a message needs it
                operations.ftruncate(descriptor, 0)
                operations.pwrite(descriptor, memoryview(f"{os.getpid()}\n".encode()), 0)
            return descriptor
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise


def claim(descriptor: int, path: Path) -> None:
    """Become the only writer of an open file, under whatever name (Linux only).

    Raises StoreLocked if another process is.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return
    record = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, WRITER_BYTE, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, record)
    except BlockingIOError:
        raise locked_by(path, "another process (by another name)") from None
    except OSError:
        return  # no such locks on this file system; the lock file has to do


def require_unwritten(path: Path, *, lock: Path) -> None:
    """Raise StoreLocked while a process writes ``path``; takes no lasting lock itself."""
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


def locked_by(path: Path, holder: str) -> StoreLocked:
    """The error when another process writes the output."""
    return StoreLocked(
        f"{path}: {holder} is writing it. Wait until it ends, or stop it, or choose another "
        "output file."
    )


def lock_holders(path: Path) -> str:
    """Other processes that hold a lock on ``path``, as `` (process 12)``; empty if none."""
    try:
        inode = f":{path.stat().st_ino}"
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return ""
    found = sorted({row[4] for row in rows if row[1] == "FLOCK" and row[5].endswith(inode)})
    others = [pid for pid in found if pid not in ("0", "-1", str(os.getpid()))]
    return f" (process {', '.join(others)})" if others else ""


def lock_shared(descriptor: int, path: Path) -> None:
    """Take the shared lock, which holds off commits during an access."""
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
            return None  # a file system without locks, where we never write


def unlock(descriptor: int) -> None:
    """Release the lock, so that commits can proceed."""
    if fcntl is not None and descriptor >= 0:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def hold_shared(descriptor: int, path: Path) -> None:
    """Between commits: let readers in and keep other writers out. Raises StoreLocked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreLocked(
            f"{path}: another program has it open for writing"
            f"{lock_holders(path)}. Close it there first."
        ) from None


def lock_exclusive(descriptor: int, path: Path, patience: float) -> None:
    """Lock out readers too, waiting ``patience`` seconds for them. Raises StoreLocked."""
    start = time.monotonic()
    warn_at = FIRST_WARNING
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # a failed upgrade drops the old lock
        waited = time.monotonic() - start
        if waited > patience:
            raise StoreLocked(
                f"{path}: another program has kept it open for {waited:.0f} s"
                f"{lock_holders(path)}, so nothing could be committed. Close it there and run "
                "the same command again; everything committed before is safe."
            )
        if waited > warn_at:
            log.warning(
                "waiting to commit: another program has %s open%s",
                path,
                lock_holders(path),
            )
            warn_at += NEXT_WARNING
        time.sleep(0.002 if waited < 1 else 0.05)


def commit_stamp(descriptor: int, journal: Path) -> tuple[int, ...]:
    """A value that changes with every commit, and with a journal waiting to be replayed."""
    main = os.fstat(descriptor)
    try:
        beside = journal.stat()
        waiting = (beside.st_size, beside.st_mtime_ns if beside.st_size else 0)
    except OSError:
        waiting = (0, 0)
    return (main.st_ino, main.st_size, main.st_mtime_ns, *waiting)


def same_file(descriptor: int, path: Path) -> bool:
    """Whether ``path`` still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return True  # deleted: the open file is still good
