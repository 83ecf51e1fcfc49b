"""Reading a file that another process may be writing: locks, and whether it is still the same."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from ..errors import StoreLocked

try:
    import fcntl
except ImportError:  # Windows, where nothing writes
    fcntl = None  # type: ignore[assignment]

PATIENCE = 60.0  # seconds to wait for a commit to end; it takes milliseconds


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
