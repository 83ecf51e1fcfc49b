"""What the file system says about a video's file or a folder of pictures; nothing is opened."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from ..errors import ProbeError
from ..records import file_stamp


def file_status(path: Path) -> os.stat_result:
    """Status of a regular file that is not empty, without opening it.

    Raises :class:`ProbeError` for anything else.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or str(error)
        what = f"cannot be opened: {reason}"
        with suppress(OSError, ValueError):
            if path.is_symlink():
                what = f"is a broken link ({reason})"
        raise ProbeError(f"{path}: {what}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ProbeError(f"{path}: is a directory, not a video")
    if not stat.S_ISREG(status.st_mode):
        raise ProbeError(f"{path}: is not a regular file")
    if status.st_size == 0:
        raise ProbeError(f"{path}: is empty (0 bytes)")
    return status


def real_path(path: Path) -> Path:
    """The absolute path, independent of the worker's current folder; links are not resolved."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() follows links


def is_folder_of_pictures(path: Path, image_fps: Fraction | None) -> bool:
    """Whether this is a folder, and folders are read as videos."""
    try:
        return image_fps is not None and path.is_dir()
    except (OSError, ValueError):
        return False


def stamp_of(path: Path) -> tuple[int, int]:
    """:func:`records.file_stamp`; raises ProbeError."""
    try:
        return file_stamp(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProbeError(f"{path}: cannot be opened: {reason}") from error
