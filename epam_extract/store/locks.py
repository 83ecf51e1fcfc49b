"""Locks of a file that is read and written at once, and what tells a reader that it has changed."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from ..errors import StoreLocked
from .disk import holders

try:
    import fcntl
except ImportError:  # Windows, where nothing writes
    fcntl = None  # type: ignore[assignment]

PATIENCE = 60.0  # seconds to wait for a commit to end; it takes milliseconds
FIRST_WARNING, NEXT_WARNING = 5.0, 60.0  # seconds a commit waits for readers before it says so

log = logging.getLogger(__name__)


def share(descriptor: int, path: Path) -> None:
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


def unshare(descriptor: int) -> None:
    """Let commits go on."""
    if fcntl is not None and descriptor >= 0:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def hold(descriptor: int, path: Path) -> None:
    """Between commits: readers come in, and other writers do not. Raises StoreLocked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreLocked(
            f"{path}: another program has it open for writing{holders(path)}. Close it there first."
        ) from None


def exclude(descriptor: int, path: Path, patience: float) -> None:
    """Take the file alone, waiting so many seconds for readers to let it go, or StoreLocked."""
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
                f"{holders(path)}, so nothing could be committed. Close it there and run "
                "the same command again; everything committed before stays."
            )
        if waited > warn_at:
            log.warning(
                "waiting to commit: another program has %s open%s",
                path,
                holders(path),
            )
            warn_at += NEXT_WARNING
        time.sleep(0.002 if waited < 1 else 0.05)


def stamp_of(descriptor: int, journal: Path) -> tuple[int, ...]:
    """Changes with every commit, and with a journal that waits to be replayed."""
    main = os.fstat(descriptor)
    try:
        beside = journal.stat()
        waiting = (beside.st_size, beside.st_mtime_ns if beside.st_size else 0)
    except OSError:
        waiting = (0, 0)
    return (main.st_ino, main.st_size, main.st_mtime_ns, *waiting)


def same_file(descriptor: int, path: Path) -> bool:
    """Whether what is open is what ``path`` names."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return True  # deleted meanwhile: what we hold open is still good
